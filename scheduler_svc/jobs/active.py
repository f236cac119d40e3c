"""Live jobs as the runner holds them: which lines wait, which are in flight, and what keeps them from beginning."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from heapq import heappush

from scheduler_svc.core.types import Outcome
from scheduler_svc.jobs.door import Run
from scheduler_svc.journal.records import Job, Line, State, Tally


@dataclass(eq=False)
class ActiveJob:
    """A live job.

    Attributes:
        job: as it is on disk.
        tally: of ended lines whose results are on disk.
        waiting: lines read from the journal that may begin, a heap by number.
        read_to: last line that was read.
        all_read: none is left to read.
        reading: the journal is being asked for more.
        in_flight: lines from their beginning until their result is on disk.
        runs: of lines that the scheduler has.
        paused_until_ms: nothing of it begins before, on the runner's clock.
        held_up_by: one sentence why nothing can begin; "" while it can.
        ending: how it is to end before its lines do; None: by them.
        finishing: its end is being written.
        news: set, and replaced, when it has changed.
        over: set when its end is on disk.
    """

    job: Job
    tally: Tally
    waiting: list[tuple[int, Line]] = field(default_factory=list[tuple[int, Line]])
    read_to: int = 0
    all_read: bool = False
    reading: bool = False
    in_flight: int = 0
    runs: dict[int, Run] = field(default_factory=dict[int, Run])
    paused_until_ms: float = 0.0
    held_up_by: str = ""
    ending: State | None = None
    finishing: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def push(self, line: Line) -> None:
        """A line may begin, or begin again."""
        heappush(self.waiting, (line.line, line))

    def changed(self) -> None:
        """Tells who watches."""
        self.news.set()
        self.news = asyncio.Event()

    @property
    def ripe(self) -> bool:
        """Every line has ended, or those that have not never will by themselves."""
        if self.finishing or self.in_flight or self.reading:
            return False
        return self.ending is not None or (self.all_read and not self.waiting)

    def end(self, state: State) -> None:
        """Ends it before its lines do; those in flight are cancelled."""
        self.ending = state
        self.waiting.clear()
        self.held_up_by = ""
        for run in list(self.runs.values()):
            self.cancel(run)

    def cancel(self, run: Run) -> None:
        """Ends a run as the job ends."""
        if self.ending is State.EXPIRED:
            run.cancel(Outcome.EXPIRED, "its job's time was over")
        else:
            run.cancel(Outcome.CANCELLED_BY_CLIENT, "its job was cancelled")


@dataclass(eq=False)
class Tenancy:
    """The live jobs of one tenant, oldest first, and how many of their lines are in flight."""

    tenant: str
    jobs: list[ActiveJob] = field(default_factory=list[ActiveJob])
    in_flight: int = 0
    paused_until_ms: float = 0.0

    def open_jobs(self, most: int) -> list[ActiveJob]:
        """Those whose lines may begin: the oldest that have not been ended."""
        found: list[ActiveJob] = []
        for job in self.jobs:
            if job.ending is None and not job.finishing:
                found.append(job)
                if len(found) >= most:
                    break
        return found
