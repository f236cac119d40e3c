"""What calls of grpc.aio without sockets are made of: messages on their way, room for writes, how a call ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

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


class Inbox:
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


class Window:
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
