"""A TCP proxy between two services, which can be cut: connections reset, or nothing gets through one way or both."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct


class Proxy:
    """Passes bytes on to `target` while it is not cut.

    Attributes:
        address: host:port where it listens.
    """

    def __init__(self, target: str) -> None:
        self.address = ""
        self._target = target
        self._open = {"up": asyncio.Event(), "down": asyncio.Event()}
        for way in self._open.values():
            way.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def block(self, *ways: str) -> None:
        """Nothing gets through: "up" (to the target), "down" (from it)."""
        for way in ways:
            self._open[way].clear()

    def heal(self) -> None:
        """All gets through again."""
        for way in self._open.values():
            way.set()

    def reset(self) -> None:
        """Every connection ends with a reset."""
        for writer in list(self._writers):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def stop(self) -> None:
        """Ends it with its connections."""
        self.heal()
        self.reset()
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        try:
            there_reader, there_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(self._pass_on(reader, there_writer, "up"), self._pass_on(there_reader, writer, "down"))
        finally:
            self._writers -= {writer, there_writer}

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open[way].wait()
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
