"""Commands on their way to one worker: bounded, in order, merged while they wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from fairlead.v1 import worker_pb2
from scheduler_svc.core.types import Rules
from scheduler_svc.wire import rules_to_wire

MAX_COMMANDS = 8192
"""Beyond it the worker does not read, and the stream is broken off."""


class WorkerDoesNotRead(Exception):
    """More commands wait than a worker that reads would ever leave."""


class Outbox:
    """What is still to be written on one stream.

    Admissions, cancellations and replays keep their order. Only the newest order of requests is sent, after them: a
    worker drops what it does not know from an order.
    """

    def __init__(self) -> None:
        self._commands: deque[worker_pb2.ExecuteRequest] = deque()
        self._order: tuple[int, ...] | None = None
        self._rules: Rules | None = None
        self._version = 0
        self._releases: list[int] = []
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def put(self, command: worker_pb2.ExecuteRequest) -> None:
        """Sends a command after those that wait."""
        self._commands.append(command)
        self._wake()

    def cancel(self, handles: Sequence[int]) -> None:
        """Ends requests; joins the cancellation that waits, if it is the last command."""
        if not self._commands or self._commands[-1].WhichOneof("command") != "cancel":
            self._commands.append(worker_pb2.ExecuteRequest(cancel=worker_pb2.CancelExecution()))
        self._commands[-1].cancel.handles.extend(handles)
        self._wake()

    def order(self, handles: tuple[int, ...], rules: Rules | None) -> None:
        """Sends the whole order; replaces one that waits, but keeps its rules unless there are newer ones."""
        self._order = handles
        self._rules = rules or self._rules
        self._wake()

    def release(self, handle: int) -> None:
        """Lets the worker forget a request; those that wait go together."""
        self._releases.append(handle)
        self._wake()

    async def next(self) -> worker_pb2.ExecuteRequest:
        """The next command to write, as soon as there is one.

        Raises:
            WorkerDoesNotRead: the bound is passed.
        """
        while True:
            if len(self._commands) + len(self._releases) > MAX_COMMANDS:
                raise WorkerDoesNotRead(f"more than {MAX_COMMANDS} commands wait for it: it does not read them")
            if self._commands:
                return self._commands.popleft()
            if self._order is not None:
                return self._ranks(self._order)
            if self._releases:
                release = worker_pb2.Release(handles=self._releases)
                self._releases = []
                return worker_pb2.ExecuteRequest(release=release)
            self._empty.set()
            self._news.clear()
            await self._news.wait()

    async def flushed(self, timeout_s: float) -> None:
        """Waits at most so long until nothing waits."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass

    def _ranks(self, order: tuple[int, ...]) -> worker_pb2.ExecuteRequest:
        self._version += 1
        rules = rules_to_wire(self._rules) if self._rules is not None else None
        self._order = self._rules = None
        return worker_pb2.ExecuteRequest(ranks=worker_pb2.Ranks(version=self._version, handles=order, rules=rules))

    def _wake(self) -> None:
        self._empty.clear()
        self._news.set()
