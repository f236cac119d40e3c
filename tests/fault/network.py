"""A network in virtual time: connections between processes, links that can be cut either way, dead peers found late.

A link is TCP with HTTP/2 on it: while it is cut nothing is lost, it is only held back; a side that hears nothing for
its keep-alive time gives the connection up; a process that dies resets its connections, and its peers hear of it if
the way to them is open.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from tests.fault.virtual_time import Node, VirtualLoop

KEEPALIVE_S = (10.0, 20.0)
CONNECT_WITHIN_S = 20.0
IN_ORDER_S = 1e-6
"""Between two messages of one side: timers of one time are in no order."""


class Endpoint(Protocol):
    """What one side of a connection is told."""

    def lost(self, why: str) -> None:
        """The connection is gone for this side."""
        ...


class Side:
    """One end of a connection: what it sends arrives in order, each message after a delay of its own."""

    __slots__ = ("_held", "_last_s", "_network", "connection", "endpoint", "node", "open", "peer")

    def __init__(self, network: Network, connection: Connection, node: Node) -> None:
        self.connection = connection
        self.node = node
        self.open = True
        self.endpoint: Endpoint | None = None
        self.peer: Side = self
        self._network = network
        self._last_s = 0.0
        self._held: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def send(self, deliver: Callable[..., None], *args: Any) -> None:
        """Calls `deliver(*args)` in the peer's process, unless one of them is gone by then."""
        if not self.open or not self.node.alive:
            return
        if self._held or self._network.is_cut(self.node, self.peer.node):
            self._held.append((deliver, args))
        else:
            self.post(deliver, args)

    def flush(self) -> None:
        """The way is open again."""
        held, self._held = self._held, []
        for deliver, args in held:
            self.post(deliver, args)

    def post(self, deliver: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Sends whatever the state of the link."""
        network = self._network
        self._last_s = at_s = max(self._last_s + IN_ORDER_S, network.loop.now_s + network.delay_s())
        network.loop.call_at(at_s, _arrive, self.peer, deliver, args, context=self.peer.node.context)

    def close(self, why: str) -> None:
        """This side ends the connection; the other hears of it if the way is open."""
        if not self.open:
            return
        self._network.tell_reset(self, "the connection was reset")
        self.drop(why)

    def drop(self, why: str) -> None:
        """The connection is gone for this side."""
        if not self.open:
            return
        self.open = False
        self._held.clear()
        if self.endpoint is not None:
            self.endpoint.lost(why)


def _arrive(side: Side, deliver: Callable[..., None], args: tuple[Any, ...]) -> None:
    if side.open:
        deliver(*args)


class Connection:
    """Two sides."""

    def __init__(self, network: Network, client: Node, server: Node) -> None:
        self.client = Side(network, self, client)
        self.server = Side(network, self, server)
        self.client.peer, self.server.peer = self.server, self.client


class Listener(Protocol):
    """What takes connections at an address."""

    node: Node
    accepting: bool

    def accept(self, side: Side) -> None:
        """A connection has come about."""
        ...


class Network:
    """All links.

    Args:
        loop: of the world.
        seed: of delays.

    Attributes:
        listeners: by address.
        delay_ms: least and most of a message's delay.
    """

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.rng = random.Random(f"network {seed}")
        self.listeners: dict[str, Listener] = {}
        self.delay_ms = (0.1, 3.0)
        self._connections: list[Connection] = []
        self._cuts: dict[tuple[str, str], int] = {}
        self._ports = 40_000

    def delay_s(self) -> float:
        """Of one message."""
        return self.rng.uniform(*self.delay_ms) / 1000

    def next_port(self) -> int:
        """One that nobody has."""
        self._ports += 1
        return self._ports

    def is_cut(self, sender: Node, receiver: Node) -> bool:
        """Whether nothing gets through this way."""
        return (sender.name, receiver.name) in self._cuts

    def connect(self, client: Node, address: str, done: Callable[[Side | None, str], None]) -> None:
        """Calls `done(side, "")` in the client's process once a connection stands, or `done(None, why)`."""
        loop, listener = self.loop, self.listeners.get(address)

        def tell(side: Side | None, why: str, after_s: float) -> None:
            loop.call_later(after_s, done, side, why, context=client.context)

        if listener is None or not listener.node.alive or not listener.accepting:
            tell(None, f"failed to connect to {address}: connection refused", self.delay_s())
            return
        server = listener.node
        if self.is_cut(client, server) or self.is_cut(server, client) or server.frozen is not None:
            tell(None, f"failed to connect to {address}: no answer in time", CONNECT_WITHIN_S)
            return
        connection = Connection(self, client, server)
        self._connections = [one for one in self._connections if one.client.open or one.server.open]
        self._connections.append(connection)
        listener.accept(connection.server)
        tell(connection.client, "", 2 * self.delay_s())

    # -- what goes wrong

    def cut(self, sender: str, receiver: str) -> None:
        """Nothing gets through from one to the other until `heal`; connections that are idle for long break."""
        way = (sender, receiver)
        self._cuts[way] = self._cuts.get(way, 0) + 1
        for connection in self._connections:
            ends = {connection.client.node.name, connection.server.node.name}
            if ends == set(way):
                self._watch(connection)

    def heal(self, sender: str, receiver: str) -> None:
        """Takes one cut back; what was held back goes through when none is left."""
        way = (sender, receiver)
        left = self._cuts.get(way, 0) - 1
        if left > 0:
            self._cuts[way] = left
            return
        self._cuts.pop(way, None)
        for connection in self._connections:
            for side in (connection.client, connection.server):
                if (side.node.name, side.peer.node.name) == way:
                    side.flush()

    def frozen(self, node: Node) -> None:
        """A process was stopped: its peers find out by their keep-alive."""
        for connection in self._connections:
            if node in (connection.client.node, connection.server.node):
                self._watch(connection)

    def reset(self, node: Node, why: str = "the peer process died") -> None:
        """A process is gone: the kernel resets its connections."""
        for connection in self._connections:
            for side in (connection.client, connection.server):
                if side.node is node and side.open:
                    self.tell_reset(side, why)
                    side.open = False

    def break_between(self, one: str, other: str) -> None:
        """Cuts the connections of two processes: both hear of it at once."""
        for connection in self._connections:
            if {connection.client.node.name, connection.server.node.name} == {one, other}:
                for side in (connection.client, connection.server):
                    self.loop.call_soon(side.drop, "the connection was reset", context=side.node.context)

    def tell_reset(self, side: Side, why: str) -> None:
        """A side is about to be gone: its peer hears of it after all that was sent, or by its keep-alive."""
        peer = side.peer
        if self.is_cut(side.node, peer.node):
            self.loop.call_later(self.rng.uniform(*KEEPALIVE_S), peer.drop, why, context=peer.node.context)
        else:
            side.post(peer.drop, (why,))

    def _watch(self, connection: Connection) -> None:
        for side in (connection.client, connection.server):
            since_s = self.loop.now_s
            self.loop.call_later(self.rng.uniform(*KEEPALIVE_S), self._silent, side, since_s, context=side.node.context)

    def _silent(self, side: Side, since_s: float) -> None:
        """Keep-alive: gives the connection up if nothing has come through since."""
        one, other = side.node, side.peer.node
        if side.open and (self.is_cut(one, other) or self.is_cut(other, one) or other.frozen is not None):
            side.close(f"keep-alive: no answer for {self.loop.now_s - since_s:.0f} s")
