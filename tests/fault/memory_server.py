"""The handler's half of grpc.aio without sockets: servers, contexts and calls as they are answered."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from tests.fault.memory_streams import OK, CallDetails, Inbox, Metadatum, Status, Window
from tests.fault.network import Network, Side
from tests.fault.virtual_time import Node, current_node

if TYPE_CHECKING:
    from tests.fault.memory_client import ClientCall


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

    def __init__(self, inbox: Inbox, read: Callable[[bytes], Any]) -> None:
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
        self._inbox = Inbox(lambda count: self._send("credit", count))
        self._window = Window()
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
        self._generic: list[Any] = []
        self.broken = broken
        self._address = ""
        self._links: list[_ServerLink] = []

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None: ...

    async def handler(self, path: str, metadata: tuple[Metadatum, ...]) -> Any:
        """What answers a call, after the interceptors have had their say; None: nothing does."""

        async def found(details: CallDetails) -> Any:
            for one in self._generic:
                handler = one.service(details)
                if handler is not None:
                    self.handlers[details.method] = handler
                    return handler
            return None

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
