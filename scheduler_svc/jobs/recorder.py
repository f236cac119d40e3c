"""Puts results on disk together: one commit for all that ended meanwhile.

What can't be written waits here and is tried again. A line counts as in flight until its result is on disk, so what
waits is bounded, and a full disk stops new lines by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from fairlead.telemetry import get_logger
from scheduler_svc.journal.database import JournalError
from scheduler_svc.journal.journal import Journal
from scheduler_svc.journal.records import Result

LINGER_S = 0.02
"""Results that end within this of each other share a commit."""
MOST_AT_ONCE = 1000
RETRY_S = (0.5, 1.0, 2.0, 5.0)

Wrote = Callable[[float, Sequence[Result]], None]
Waiting = tuple[Result, "asyncio.Future[None]"]


class Recorder:
    """Writes results.

    Args:
        journal: takes them.
        wrote: told how long a commit took, s, and what it held.
        linger_s: see `LINGER_S`.

    Attributes:
        problem: why nothing can be written now; "" while it can.
    """

    def __init__(self, journal: Journal, wrote: Wrote | None = None, linger_s: float = LINGER_S) -> None:
        self.problem = ""
        self._journal = journal
        self._wrote = wrote
        self._linger_s = linger_s
        self._waiting: list[Waiting] = []
        self._news = asyncio.Event()
        self._log = get_logger("jobs")

    async def put(self, result: Result) -> None:
        """Returns when the result is on disk."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((result, written))
        self._news.set()
        await written

    async def idle(self) -> None:
        """Returns when nothing waits."""
        while self._waiting:
            await asyncio.shield(self._waiting[-1][1])

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._linger_s)
            self._news.clear()
            while self._waiting:
                batch = self._waiting[:MOST_AT_ONCE]
                await self._write(batch)
                del self._waiting[: len(batch)]

    async def _write(self, batch: Sequence[Waiting]) -> None:
        results = [result for result, _ in batch]
        tries = 0
        while True:
            began_s = time.perf_counter()
            try:
                await self._journal.record(results)
                break
            except JournalError as error:
                if not self.problem:
                    self._log.error("results can't be written; they wait", problem=str(error), results=len(batch))
                self.problem = str(error)
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
        if self.problem:
            self._log.info("results are written again")
        self.problem = ""
        if self._wrote is not None:
            self._wrote(time.perf_counter() - began_s, results)
        for _, written in batch:
            if not written.done():
                written.set_result(None)
