"""The caller's half of grpc.aio without sockets: channels, stubs' methods and calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio

from tests.fault.memory_server import ServerCall
from tests.fault.memory_streams import Inbox, Metadatum, Status, Window
from tests.fault.network import Network, Side
from tests.fault.virtual_time import current_node


class ClientCall:
    """One call as its caller sees it."""

    def __init__(self, channel: MemoryChannel, method: _Method, metadata: Any, timeout: float | None) -> None:
        self._channel = channel
        self._method = method
        self._loop = asyncio.get_running_loop()
        self._metadata = tuple(Metadatum(*pair) for pair in metadata or ())
        self._deadline_s = None if timeout is None else self._loop.time() + timeout
        self._inbox = Inbox(self._credit)
        self._window = Window()
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
