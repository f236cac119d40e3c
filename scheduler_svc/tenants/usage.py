"""What each tenant used: counted as requests are accepted, refused and ended, and kept over restarts.

Sums are held in memory and written every few seconds: a crash loses those of the last seconds, a full disk none as long
as the process lives. Requests and tokens are whole numbers, so nothing is rounded.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fairlead.telemetry import get_logger
from scheduler_svc.core.types import End, Job
from scheduler_svc.requests import Request
from scheduler_svc.tenants.usage_store import DAY_S, HOUR_S, HOURS_KEPT_S, Cell, UsageStore

WRITE_EVERY_S = 5.0
TIDY_EVERY_S = 3600.0
ACCEPTED = "accepted"
ENDED = "ended:"
INPUT_TOKENS = "input_tokens"
CACHED_TOKENS = "cached_input_tokens"
OUTPUT_TOKENS = "output_tokens"
REFUSED = "refused:"
CLAMPED = "clamped"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one tenant over a time: (class, what is counted) to its sum; class is "ls", "be" or "" where it has none."""

    tenant: str
    sums: dict[tuple[str, str], int]


class UsageMeter:
    """Counts on the event loop; writes beside it.

    Args:
        store: keeps it.
        wall_s: calendar clock.

    Attributes:
        problem: why it is not being kept on disk; empty: it is.
    """

    def __init__(self, store: UsageStore, wall_s: Callable[[], float]) -> None:
        self.problem = ""
        self._store = store
        self._wall_s = wall_s
        self._pending: Counter[Cell] = Counter()
        self._lock = asyncio.Lock()
        self._tidied_s = 0.0
        self._log = get_logger("usage")

    # -- counted

    def accepted(self, request: Request, *, clamped: bool) -> None:
        """A request was accepted."""
        tenant, kind = request.accepted.tenant, _class(request.latency_sensitive)
        self._add(tenant, kind, ACCEPTED, 1)
        self._add(tenant, kind, INPUT_TOKENS, request.accepted.prompt_tokens)
        if clamped:
            self._add(tenant, "", CLAMPED, 1)

    def refused(self, tenant: str, reason: str) -> None:
        """A request was refused; `reason` is of the closed set."""
        self._add(tenant, "", REFUSED + reason, 1)

    def ended(self, request: Request, job: Job, end: End) -> None:
        """A request has its outcome."""
        tenant, kind = request.accepted.tenant, _class(job.came_as_ls)
        self._add(tenant, kind, ENDED + end.outcome.value, 1)
        self._add(tenant, kind, OUTPUT_TOKENS, job.output_tokens)
        self._add(tenant, kind, CACHED_TOKENS, request.cached_prompt_tokens)

    def _add(self, tenant: str, kind: str, what: str, amount: int) -> None:
        if amount:
            self._pending[self._hour(), tenant, kind, what] += amount

    # -- kept

    async def run(self) -> None:
        """Writes now and then, until it is cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Writes what is counted so far; what can't be written stays and is tried again."""
        async with self._lock:
            writing, self._pending = self._pending, Counter()
            if writing and not await self._try(self._store.add, writing):
                self._pending.update(writing)
            elif self._wall_s() - self._tidied_s >= TIDY_EVERY_S and await self._try(self._store.tidy, self._wall_s()):
                self._tidied_s = self._wall_s()

    async def _try(self, act: Callable[[T], object], value: T) -> bool:
        """Does something with the disk; whether it could be done."""
        try:
            await asyncio.to_thread(act, value)
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
            return False
        self.problem = ""
        return True

    def _failed(self, error: Exception) -> None:
        if not self.problem:
            self._log.error("usage can't be kept on disk; it is counted in memory", error=repr(error))
        self.problem = f"{type(error).__name__}: {error}"

    # -- told

    async def tenants(self) -> list[str]:
        """All that used anything that is kept, by name."""
        async with self._lock:
            kept = await self._read(self._store.tenants, [])
            return sorted({*kept, *(tenant for _, tenant, _, _ in self._pending)})

    async def export(self, tenants: list[str], start_s: int, end_s: int) -> list[Usage]:
        """Sums of each of them over [start, end), both as `rounded` made them."""
        async with self._lock:
            kept = await self._read(lambda: self._store.sums(tenants, start_s, end_s), {})
            wanted = {name: Counter(kept.get(name, {})) for name in tenants}
            for (at_s, tenant, kind, what), amount in self._pending.items():
                if tenant in wanted and start_s <= at_s < end_s:
                    wanted[tenant][kind, what] += amount
        return [Usage(name, dict(sums)) for name, sums in wanted.items()]

    async def earliest_s(self) -> int:
        """Start of what is kept."""
        async with self._lock:
            kept = await self._read(self._store.earliest_s, None)
            starts = [self._hour(), *(at_s for at_s, _, _, _ in self._pending)]
            return min(starts if kept is None else [*starts, kept])

    def rounded(self, start_s: float, end_s: float) -> tuple[int, int]:
        """The time that figures can be told of: whole hours, and whole days before the last week."""
        start_step, end_step = self._step(start_s), self._step(end_s)
        return int(start_s // start_step) * start_step, -int(-end_s // end_step) * end_step

    async def _read(self, read: Callable[[], T], otherwise: T) -> T:
        try:
            return await asyncio.to_thread(read)
        except (OSError, sqlite3.Error) as error:
            self._failed(error)
            return otherwise

    def _step(self, at_s: float) -> int:
        return DAY_S if at_s < int(self._wall_s() - HOURS_KEPT_S) // DAY_S * DAY_S else HOUR_S

    def _hour(self) -> int:
        return int(self._wall_s()) // HOUR_S * HOUR_S


def _class(latency_sensitive: bool) -> str:
    return "ls" if latency_sensitive else "be"
