"""grpc.aio without sockets: the channels, servers, calls and contexts that the services use, on `network.py`.

What it keeps of the real thing: messages are serialised; a write waits while its reader lags; messages that arrived
may be lost with a connection; a call that its caller cancels raises CancelledError there and cancels the handler; a
handler that is cancelled in mid-write may never run again, and its done-callbacks do.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from grpc import aio

from tests.fault.network import Network, Side
from tests.fault.virtual_time import Node, current_node

WINDOW = 4
"""Messages of a stream that its reader may lag behind before a write waits."""


class Metadatum(NamedTuple):
    """One entry of metadata."""

    key: str
    value: Any


class CallDetails(NamedTuple):
    """What interceptors are told of a call."""

    method: str
    invocation_metadata: tuple[Metadatum, ...]


class Status(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str = ""
    trailers: tuple[Metadatum, ...] = ()


OK = Status(grpc.StatusCode.OK)


class _Inbox:
    """Messages of one direction as they come; takes note of what its reader takes, so that writes can wait."""

    def __init__(self, credit: Callable[[int], None]) -> None:
        self.messages: deque[bytes] = deque()
        self.news = asyncio.Event()
        self.closed = False
        self._credit = credit
        self._taken = 0

    def put(self, data: bytes) -> None:
        if not self.closed:
            self.messages.append(data)
            self.news.set()

    def close(self) -> None:
        self.closed = True
        self.news.set()

    def take(self) -> bytes:
        self._taken += 1
        if self._taken >= WINDOW // 2:
            self._credit(self._taken)
            self._taken = 0
        return self.messages.popleft()


class _Window:
    """Room for writes."""

    def __init__(self) -> None:
        self.left = WINDOW
        self.news = asyncio.Event()

    def credit(self, count: int) -> None:
        self.left += count
        self.news.set()

    async def room(self, over: Callable[[], bool]) -> None:
        while self.left <= 0 and not over():
            self.news.clear()
            await self.news.wait()
        self.left -= 1


class ClientCall:
    """One call as its caller sees it."""

    def __init__(self, channel: MemoryChannel, method: _Method, metadata: Any, timeout: float | None) -> None:
        self._channel = channel
        self._method = method
        self._loop = asyncio.get_running_loop()
        self._metadata = tuple(Metadatum(*pair) for pair in metadata or ())
        self._deadline_s = None if timeout is None else self._loop.time() + timeout
        self._inbox = _Inbox(self._credit)
        self._window = _Window()
        self._status: Status | None = None
        self._cancelled = False
        self._side: Side | None = None
        self._waiting: list[tuple[str, Any]] = []
        self._remote: ServerCall | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        if timeout is not None:
            self._timer = self._loop.call_later(max(0.0, timeout), self._expired)
        channel.open(self)

    # -- for the caller

    def __await__(self) -> Any:
        return self._unary().__await__()

    def __aiter__(self) -> ClientCall:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is aio.EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """The next message; EOF after the last. Raises AioRpcError."""
        try:
            while True:
                if self._cancelled:
                    raise asyncio.CancelledError  # noqa: TRY301
                if self._inbox.messages:
                    return self._method.read(self._inbox.take())
                if self._status is not None:
                    self._raise()
                    return aio.EOF
                self._inbox.news.clear()
                await self._inbox.news.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def write(self, message: Any) -> None:
        """Sends a message, as soon as its reader has room. Raises AioRpcError."""
        data = self._method.write(message)
        try:
            await self._window.room(lambda: self._status is not None or self._cancelled)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self._cancelled:
            raise asyncio.CancelledError
        if self._status is not None:
            self._raise()
            raise asyncio.InvalidStateError("RPC already finished.")
        self._send("message", data)

    async def done_writing(self) -> None:
        """No more messages follow."""
        self._send("close", None)

    def cancel(self) -> bool:
        """Ends the call; False if it is over."""
        if self._status is not None:
            return False
        self._cancelled = True
        self._send("cancel", None)
        self._over(Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))
        return True

    def cancelled(self) -> bool:
        return self._cancelled

    def done(self) -> bool:
        return self._status is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        while self._status is None:
            self._inbox.news.clear()
            await self._inbox.news.wait()
        return self._status.code

    async def initial_metadata(self) -> tuple[Metadatum, ...]:
        return ()

    async def _unary(self) -> Any:
        message = await self.read()
        if message is aio.EOF:
            raise aio.AioRpcError(grpc.StatusCode.INTERNAL, aio.Metadata(), aio.Metadata(), "no message")
        await self.read()
        return message

    # -- for the channel and the server's side

    def begin(self, side: Side) -> None:
        """The connection stands: sends what waits."""
        if self._status is not None:
            return
        self._side = side
        waiting, self._waiting = self._waiting, []
        side.send(_start, side.peer, self, self._method.path, self._metadata, self._deadline_s, waiting)

    def failed(self, why: str, *, loses_messages: bool = False) -> None:
        """The connection is gone, or never was."""
        if loses_messages:
            self._inbox.messages.clear()
        self._over(Status(grpc.StatusCode.UNAVAILABLE, why))

    def started(self, remote: ServerCall) -> None:
        self._remote = remote

    def arrived(self, data: bytes) -> None:
        self._inbox.put(data)

    def ended(self, status: Status) -> None:
        self._over(status)

    def credit(self, count: int) -> None:
        self._window.credit(count)

    def _credit(self, count: int) -> None:
        self._send("credit", count)

    def _send(self, kind: str, value: Any) -> None:
        if self._side is None:
            self._waiting.append((kind, value))
        elif self._status is None or kind == "credit":
            self._side.send(_to_server, self, kind, value)

    def _expired(self) -> None:
        if self._status is None:
            self._send("cancel", None)
            self._over(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _over(self, status: Status) -> None:
        if self._status is not None:
            return
        self._status = status
        self._channel.over(self)
        self._inbox.close()
        self._window.news.set()
        for callback in self._callbacks:
            callback(self)

    def _raise(self) -> None:
        status = self._status
        if status is not None and status.code is not grpc.StatusCode.OK:
            trailers = aio.Metadata(*((one.key, one.value) for one in status.trailers))
            raise aio.AioRpcError(status.code, aio.Metadata(), trailers, status.details, status.details)


def _start(
    server: Side, call: ClientCall, path: str, metadata: Any, deadline_s: float | None, first: list[tuple[str, Any]]
) -> None:
    endpoint: Any = server.endpoint
    remote = endpoint.begin(call, path, metadata, deadline_s)
    call.started(remote)
    for kind, value in first:
        remote.take(kind, value)


def _to_server(call: ClientCall, kind: str, value: Any) -> None:
    if call._remote is not None:
        call._remote.take(kind, value)


class Context:
    """One call as its handler sees it: the part of `aio.ServicerContext` that services use."""

    def __init__(self, call: ServerCall, metadata: Iterable[Metadatum], deadline_s: float | None) -> None:
        self._call = call
        self._metadata = tuple(metadata)
        self._deadline_s = deadline_s

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline_s is None else self._deadline_s - asyncio.get_running_loop().time()

    def peer(self) -> str:
        return f"memory:{self._call.client_name}"

    def peer_identities(self) -> None:
        return None

    def auth_context(self) -> dict[str, Any]:
        return {}

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._call.callbacks.append(callback)

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, Any]]) -> None:
        self._call.trailers = tuple(Metadatum(*pair) for pair in metadata)

    def cancelled(self) -> bool:
        return self._call.over

    def done(self) -> bool:
        return self._call.over

    async def write(self, message: Any) -> None:
        await self._call.write(message)

    async def send_initial_metadata(self, metadata: Any) -> None: ...

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        self._call.finish(Status(code, details, tuple(Metadatum(*pair) for pair in trailing_metadata)))
        raise aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: Any) -> None:
        await self.abort(status.code, status.details, status.trailing_metadata)


class _Requests:
    """What a stream of requests brings, for its handler."""

    def __init__(self, inbox: _Inbox, read: Callable[[bytes], Any]) -> None:
        self._inbox = inbox
        self._read = read

    def __aiter__(self) -> _Requests:
        return self

    async def __anext__(self) -> Any:
        inbox = self._inbox
        while not inbox.messages:
            if inbox.closed:
                raise StopAsyncIteration
            inbox.news.clear()
            await inbox.news.wait()
        return self._read(inbox.take())


class ServerCall:
    """One call on the server's side: runs its handler."""

    def __init__(self, link: _ServerLink, call: ClientCall, path: str, metadata: Any, deadline_s: float | None) -> None:
        self.client_name = link.side.peer.node.name
        self.callbacks: list[Callable[[Any], None]] = []
        self.trailers: tuple[Metadatum, ...] = ()
        self.over = False
        self._link = link
        self._call = call
        self._context = Context(self, metadata, deadline_s)
        self._inbox = _Inbox(lambda count: self._send("credit", count))
        self._window = _Window()
        self._writing = False
        self._path = path
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(path), context=link.side.node.context.copy())
        if deadline_s is not None:
            self._timer = loop.call_at(deadline_s, self.cancel, context=link.side.node.context)

    def take(self, kind: str, value: Any) -> None:
        """What the caller sends."""
        match kind:
            case "message":
                self._inbox.put(value)
            case "close":
                self._inbox.close()
            case "credit":
                self._window.credit(value)
            case _:
                self.cancel()

    def cancel(self) -> None:
        """The caller is gone, or its deadline is past."""
        if self.over:
            return
        self._close()
        # As in grpc.aio: a handler whose write is in flight may never hear of it.
        if not (self._writing and self._link.server.network.rng.random() < 0.5):
            self._task.cancel()

    def finish(self, status: Status) -> None:
        """Tells the caller how it ended."""
        if not self.over:
            trailers = status.trailers or self.trailers
            self._send("end", Status(status.code, status.details, trailers))
            self._close()

    def _close(self) -> None:
        self.over = True
        self._link.calls.pop(self, None)
        self._inbox.close()
        self._window.news.set()
        for callback in self.callbacks:
            callback(self._context)

    def _send(self, kind: str, value: Any) -> None:
        call = self._call
        match kind:
            case "message":
                self._link.side.send(call.arrived, value)
            case "credit":
                self._link.side.send(call.credit, value)
            case _:
                self._link.side.send(call.ended, value)

    async def write(self, message: Any) -> None:
        """A handler's message; it is read before this waits, so that it may be changed afterwards."""
        await self._write(self._link.server.handlers[self._path].response_serializer(message))

    async def _write(self, data: bytes) -> None:
        self._writing = True
        try:
            await self._window.room(lambda: self.over)
        finally:
            self._writing = False
        if self.over:
            raise asyncio.CancelledError
        self._send("message", data)

    async def _run(self, path: str) -> None:
        server = self._link.server
        handler = await server.handler(path, self._context.invocation_metadata())
        if handler is None:
            self.finish(Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            return
        try:
            requests = _Requests(self._inbox, handler.request_deserializer)
            request = requests if handler.request_streaming else await anext(requests)
            behaviour: Any = (
                handler.stream_stream or handler.unary_stream or handler.stream_unary or handler.unary_unary
            )
            if handler.response_streaming and not inspect.isasyncgenfunction(behaviour):
                await behaviour(request, self._context)
            elif handler.response_streaming:
                async for response in behaviour(request, self._context):
                    await self._write(handler.response_serializer(response))
            else:
                await self._write(handler.response_serializer(await behaviour(request, self._context)))
            self.finish(OK)
        except (aio.AbortError, StopAsyncIteration):
            pass
        except asyncio.CancelledError:
            self.finish(Status(grpc.StatusCode.CANCELLED, "the handler was cancelled"))
        except Exception as error:
            server.broken(path, error)
            self.finish(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}"))


class _ServerLink:
    """The server's end of one connection."""

    def __init__(self, server: MemoryServer, side: Side) -> None:
        self.server = server
        self.side = side
        self.calls: dict[ServerCall, None] = {}
        side.endpoint = self

    def begin(self, call: ClientCall, path: str, metadata: Any, deadline_s: float | None) -> ServerCall:
        remote = ServerCall(self, call, path, metadata, deadline_s)
        self.calls[remote] = None
        return remote

    def lost(self, why: str) -> None:
        for call in list(self.calls):
            call.cancel()


class MemoryServer:
    """`aio.server()` of one process."""

    def __init__(
        self, network: Network, broken: Callable[[str, Exception], None], interceptors: Iterable[Any] = ()
    ) -> None:
        self.network = network
        self._interceptors = tuple(interceptors)
        self.node: Node = current_node()
        self.accepting = False
        self.handlers: dict[str, Any] = {}
        self.broken = broken
        self._address = ""
        self._links: list[_ServerLink] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None: ...

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    async def handler(self, path: str, metadata: tuple[Metadatum, ...]) -> Any:
        """What answers a call, after the interceptors have had their say; None: nothing does."""

        async def found(details: CallDetails) -> Any:
            return self.handlers.get(details.method)

        ask: Any = found
        for one in reversed(self._interceptors):
            ask = functools.partial(one.intercept_service, ask)
        return await ask(CallDetails(path, metadata))

    def add_insecure_port(self, address: str) -> int:
        host, _, port = address.rpartition(":")
        bound = int(port) or self.network.next_port()
        self._address = f"{host}:{bound}"
        known = self.network.listeners.get(self._address)
        if known is not None and known.node.alive and known.accepting:
            raise RuntimeError("address in use")
        self.network.listeners[self._address] = self
        return bound

    def add_secure_port(self, address: str, credentials: Any) -> int:
        return self.add_insecure_port(address)

    async def start(self) -> None:
        self.accepting = True

    async def stop(self, grace: float | None) -> None:
        """Takes no more calls; those in flight have `grace` seconds."""
        self.accepting = False
        loop = asyncio.get_running_loop()
        until_s = loop.time() + (grace or 0.0)
        while any(link.calls for link in self._links) and loop.time() < until_s:
            await asyncio.sleep(0.01)
        for link in self._links:
            for call in list(link.calls):
                call.finish(Status(grpc.StatusCode.UNAVAILABLE, "the server stops"))
                call._task.cancel()
            link.side.close("the server stops")

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        await asyncio.sleep(timeout or 1e9)
        return False

    def accept(self, side: Side) -> None:
        self._links = [link for link in self._links if link.side.open]
        self._links.append(_ServerLink(self, side))


class _Method:
    """One method of a stub."""

    def __init__(self, channel: MemoryChannel, path: str, write: Any, read: Any, *, streams: bool) -> None:
        self.path = path
        self.write = write or (lambda message: message)
        self.read = read or (lambda data: data)
        self._channel = channel
        self._streams = streams

    def __call__(self, request: Any = None, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        call = ClientCall(self._channel, self, metadata, timeout)
        if not self._streams:
            call._send("message", self.write(request))
            call._send("close", None)
        return call


class MemoryChannel:
    """`aio.insecure_channel()` of one process: connects at the first call, and anew after a break."""

    def __init__(self, network: Network, address: str) -> None:
        self._network = network
        self._address = address.removeprefix("dns:///")
        self._node = current_node()
        self._side: Side | None = None
        self._connecting = False
        self._closed = False
        self._waiting: list[ClientCall] = []
        self._calls: dict[ClientCall, None] = {}

    async def __aenter__(self) -> MemoryChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def unary_unary(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return _Method(self, path, request_serializer, response_deserializer, streams=False)

    unary_stream = unary_unary

    def stream_stream(
        self, path: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Any:
        return _Method(self, path, request_serializer, response_deserializer, streams=True)

    stream_unary = stream_stream

    async def close(self, grace: float | None = None) -> None:
        self._closed = True
        for call in list(self._calls):
            call.cancel()
        if self._side is not None:
            self._side.close("the channel was closed")

    # -- for calls

    def open(self, call: ClientCall) -> None:
        """Gives a call a connection, as soon as there is one."""
        if self._closed:
            raise aio.UsageError("Channel is closed.")
        self._calls[call] = None
        if self._side is not None and self._side.open:
            call.begin(self._side)
            return
        self._waiting.append(call)
        if not self._connecting:
            self._connecting = True
            self._network.connect(self._node, self._address, self._connected)

    def over(self, call: ClientCall) -> None:
        self._calls.pop(call, None)

    def _connected(self, side: Side | None, why: str) -> None:
        self._connecting = False
        waiting, self._waiting = self._waiting, []
        if side is None or not side.open:
            for call in waiting:
                call.failed(why or "the connection was reset")
            return
        if self._closed:
            side.close("the channel was closed")
            return
        self._side = side
        side.endpoint = self
        for call in waiting:
            call.begin(side)

    def lost(self, why: str) -> None:
        loses = self._network.rng.random() < 0.5
        for call in list(self._calls):
            if call not in self._waiting:
                call.failed(why, loses_messages=loses)


@contextmanager
def installed(network: Network, broken: Callable[[str, Exception], None]) -> Any:
    """Everything in this process that makes a channel or a server of grpc.aio makes one of `network` meanwhile."""
    names = ("insecure_channel", "secure_channel", "server")
    before = {name: getattr(aio, name) for name in names}
    channel = lambda address, *_, **__: MemoryChannel(network, address)  # noqa: E731
    for name, made in (
        ("insecure_channel", channel),
        ("secure_channel", channel),
        ("server", lambda *_, interceptors=(), **__: MemoryServer(network, broken, interceptors or ())),
    ):
        setattr(aio, name, made)
    try:
        yield
    finally:
        for name, made in before.items():
            setattr(aio, name, made)
