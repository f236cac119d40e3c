"""One scheduler's stream: what is to be sent on it, and when it is over."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from fairlead.rpc import Refusal
from fairlead.v1 import types_pb2, worker_pb2
from worker_svc.held import Ledger

CAPACITY_EVERY_S = 1.0
CAPACITY_AT_MOST_EVERY_S = 0.05
MAX_BACKLOG = 1024

CapacitySource = Callable[[], worker_pb2.Capacity]


class Leader:
    """A scheduler that leads this worker, for as long as its stream lasts.

    Attributes:
        scheduler_id, epoch: from its Lead.
        refusal: why the worker ended the stream; None while it lasts or where the scheduler ended it.
        ranks_version: of the newest ranks.
    """

    def __init__(self, lead: worker_pb2.Lead, ledger: Ledger, capacity: CapacitySource) -> None:
        self.scheduler_id = lead.scheduler_id
        self.epoch = lead.epoch
        self.refusal: Refusal | None = None
        self.ranks_version = -1
        self._ledger = ledger
        self._capacity = capacity
        self._answers: deque[worker_pb2.ExecuteResponse] = deque()
        self._replays: dict[int, int] = {}
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._over = False

    def wake(self) -> None:
        """There is something to send."""
        self._news.set()

    def end(self, refusal: Refusal | None = None) -> None:
        """No more is sent; the first reason counts."""
        if not self._over:
            self._over = True
            self.refusal = refusal
        self._room.set()
        self._news.set()

    def answer(self, event: worker_pb2.ExecuteResponse) -> None:
        """Sends one event as soon as the stream can take it."""
        self._answers.append(event)
        if len(self._answers) >= MAX_BACKLOG:
            self._room.clear()
        self._news.set()

    def replay(self, handle: int, from_token: int) -> None:
        """Sends a request's answer again from this position; the newest position counts."""
        if handle in self._ledger:
            self._replays[handle] = from_token
            self._news.set()
        else:
            self.answer(_not_held(handle, from_token))

    async def room(self) -> None:
        """Returns when commands may be read: a scheduler that does not read its answers gives no more commands."""
        await self._room.wait()

    async def events(self, leading: worker_pb2.Leading) -> AsyncIterator[worker_pb2.ExecuteResponse]:
        """All that is sent, one write at a time; what happens meanwhile is in the next message."""
        loop = asyncio.get_running_loop()
        yield worker_pb2.ExecuteResponse(leading=leading)
        told, told_at = worker_pb2.Capacity(), -CAPACITY_EVERY_S
        while not self._over:
            self._news.clear()
            while self._answers and not self._over:
                yield self._answers.popleft()
            self._room.set()
            while self._replays and not self._over:
                yield self._next_replay()
            steps = self._ledger.steps() if not self._over else None
            if steps is not None:
                yield worker_pb2.ExecuteResponse(steps=steps)
            waited = loop.time() - told_at
            if waited >= CAPACITY_AT_MOST_EVERY_S:
                capacity = self._capacity()
                if waited >= CAPACITY_EVERY_S or _differs(capacity, told):
                    told, told_at, waited = capacity, loop.time(), 0.0
                    yield worker_pb2.ExecuteResponse(capacity=capacity)
            if steps is None:
                await self._wait(CAPACITY_EVERY_S - waited)

    def _next_replay(self) -> worker_pb2.ExecuteResponse:
        handle = next(iter(self._replays))
        from_token = self._replays.pop(handle)
        replayed = self._ledger.replayed(handle, from_token)
        return _not_held(handle, from_token) if replayed is None else worker_pb2.ExecuteResponse(replayed=replayed)

    async def _wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            pass


def _differs(new: worker_pb2.Capacity, old: worker_pb2.Capacity) -> bool:
    """KV in use goes with every step already; what changes rarely is told at once."""
    return new.slots_free != old.slots_free or new.draining != old.draining


def _not_held(handle: int, from_token: int) -> worker_pb2.ExecuteResponse:
    """The answer to a Replay of what this worker does not have."""
    end = worker_pb2.ExecutionEnd(
        handle=handle, outcome=types_pb2.OUTCOME_FAILED_WORKER_LOST, detail="not held by this worker"
    )
    return worker_pb2.ExecuteResponse(replayed=worker_pb2.Replayed(handle=handle, first_token=from_token, end=end))
