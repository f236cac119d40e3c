"""Decides which lines are in flight: bounded, fair over tenants, oldest jobs first, never within a refusal's delay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from heapq import heappop
from typing import Any

from fairlead.config import JobsConfig
from fairlead.telemetry import get_logger
from scheduler_svc.core.types import Outcome
from scheduler_svc.jobs.active import ActiveJob, Tenancy
from scheduler_svc.jobs.carrying import Carrier, HeldUp, HoldsUp
from scheduler_svc.jobs.door import Door, Run
from scheduler_svc.jobs.recorder import RETRY_S, Recorder
from scheduler_svc.journal.database import JournalError
from scheduler_svc.journal.journal import Journal
from scheduler_svc.journal.records import Job, Line, State, Tally

MAX_PREPARING = 16
"""Lines that are being accepted at once: the rest waits for what becomes of them."""
READ_AT_ONCE = 128
LOOK_EVERY_MS = 1000.0
"""Expiry is looked for this often."""


class Runner:
    """Keeps lines of live jobs in flight until every line has its result on disk.

    Args:
        journal: where jobs lie.
        door: into the scheduler.
        recorder: puts results on disk.
        limits: of what is in flight.
        clock_ms: monotonic.
        wall_ms: ms since 1970, as the journal has it.
        retry_delay_s: before a line's second run; doubles.

    Attributes:
        jobs: live ones by id.
    """

    def __init__(
        self,
        journal: Journal,
        door: Door,
        recorder: Recorder,
        limits: JobsConfig,
        *,
        clock_ms: Callable[[], float],
        wall_ms: Callable[[], int],
        retry_delay_s: float = 1.0,
    ) -> None:
        self.jobs: dict[str, ActiveJob] = {}
        self._tenants: dict[str, Tenancy] = {}
        self._journal = journal
        self._door = door
        self._recorder = recorder
        self._limits = limits
        self._clock_ms = clock_ms
        self._wall_ms = wall_ms
        self._carrier = Carrier(
            journal, door, max_attempts=limits.max_attempts, wall_ms=wall_ms, retry_delay_s=retry_delay_s
        )
        self._in_flight = 0
        self._preparing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._touched: set[ActiveJob] = set()
        self._expiry_due_ms = 0.0
        self._draining = False
        self._log = get_logger("jobs")

    @property
    def in_flight(self) -> int:
        """Lines from their beginning until their result is on disk."""
        return self._in_flight

    def add(self, job: Job, tally: Tally) -> ActiveJob:
        """A job that is on disk and has not ended."""
        active = self.jobs[job.job_id] = ActiveJob(job, tally)
        self._tenants.setdefault(job.tenant, Tenancy(job.tenant)).jobs.append(active)
        if job.state is State.CANCELLING:
            active.ending = State.CANCELLED
        self._touch(active)
        return active

    def cancel(self, job_id: str) -> None:
        """Ends a live job; that it is to end is on disk."""
        active = self.jobs.get(job_id)
        if active is not None and active.ending is None:
            active.end(State.CANCELLED)
            active.changed()
            self._touch(active)

    def drain(self) -> None:
        """Begins no more lines and gives up those that only wait: they are on disk and run after the next start."""
        self._draining = True
        for active in self.jobs.values():
            for run in list(active.runs.values()):
                if not run.begun:
                    run.cancel(Outcome.CANCELLED_BY_OPERATOR, "the scheduler drains")

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                self._wake.clear()
                self._expire()
                wait_ms = self._dispatch()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait_ms, LOOK_EVERY_MS) / 1000):
                        await self._wake.wait()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what may begin

    def _touch(self, active: ActiveJob) -> None:
        """Something of it has changed: it is looked at in the next turn."""
        self._touched.add(active)
        self._wake.set()

    def _expire(self) -> None:
        if self._clock_ms() < self._expiry_due_ms:
            return
        self._expiry_due_ms = self._clock_ms() + LOOK_EVERY_MS
        now_ms = self._wall_ms()
        for active in self.jobs.values():
            if active.ending is None and not active.finishing and now_ms >= active.job.expires_ms:
                active.end(State.EXPIRED)
                active.changed()
                self._touch(active)

    def _dispatch(self) -> float:
        """Begins what may begin; returns the time until something that waits may, ms."""
        for active in self._touched:
            if active.ripe:
                active.finishing = True
                self._spawn(self._finish(active))
        self._touched.clear()
        if self._draining:
            return LOOK_EVERY_MS
        now_ms = self._clock_ms()
        wait_ms = LOOK_EVERY_MS
        for tenancy in self._tenants.values():
            for active in tenancy.open_jobs(self._limits.jobs_at_once_per_tenant):
                if len(active.waiting) < READ_AT_ONCE // 2 and not active.all_read and not active.reading:
                    active.reading = True
                    self._spawn(self._read(active))
                until_ms = max(active.paused_until_ms, tenancy.paused_until_ms)
                if until_ms > now_ms:
                    wait_ms = min(wait_ms, until_ms - now_ms)
        while self._in_flight < self._limits.lines_in_flight and self._preparing < MAX_PREPARING:
            chosen = self._choose(now_ms)
            if chosen is None:
                break
            self._begin(*chosen)
        return max(1.0, wait_ms)

    def _choose(self, now_ms: float) -> tuple[Tenancy, ActiveJob] | None:
        """The job whose line begins next: of the tenant with the fewest in flight, the one with the fewest."""
        best: tuple[Tenancy, ActiveJob] | None = None
        most = self._limits.lines_in_flight_per_tenant
        for tenancy in self._tenants.values():
            if tenancy.paused_until_ms > now_ms or (best is not None and tenancy.in_flight >= best[0].in_flight):
                continue
            if tenancy.in_flight >= self._door.most_in_flight(tenancy.tenant, most):
                continue
            able = [
                active
                for active in tenancy.open_jobs(self._limits.jobs_at_once_per_tenant)
                if active.waiting and active.paused_until_ms <= now_ms
            ]
            if able:
                best = tenancy, min(able, key=lambda active: active.in_flight)
        return best

    # -- one line

    def _begin(self, tenancy: Tenancy, active: ActiveJob) -> None:
        _, line = heappop(active.waiting)
        active.in_flight += 1
        tenancy.in_flight += 1
        self._in_flight += 1
        self._preparing += 1
        self._spawn(self._carry(tenancy, active, line))

    async def _carry(self, tenancy: Tenancy, active: ActiveJob, line: Line) -> None:
        preparing = True

        def accepted(run: Run | None) -> None:
            """The scheduler has it (or is asked once more)."""
            nonlocal preparing
            if preparing:
                preparing = False
                self._preparing -= 1
                self._wake.set()
            if run is None:
                active.runs.pop(line.line, None)
                return
            active.held_up_by = ""
            active.runs[line.line] = run
            if active.ending is not None:
                active.cancel(run)
            elif self._draining:
                run.cancel(Outcome.CANCELLED_BY_OPERATOR, "the scheduler drains")

        try:
            try:
                result = await self._carrier.carry(active, line, accepted, given_up=lambda: self._draining)
            except HeldUp as held:
                self._hold_up(tenancy, active, held)
                if active.ending is None:
                    active.push(held.line)
                return
            await self._recorder.put(result)
            active.tally.add([result])
            active.changed()
        finally:
            accepted(None)
            active.in_flight -= 1
            tenancy.in_flight -= 1
            self._in_flight -= 1
            self._touch(active)

    def _hold_up(self, tenancy: Tenancy, active: ActiveJob, held: HeldUp) -> None:
        until_ms = self._clock_ms() + held.delay_ms
        if held.holds_up is HoldsUp.TENANT:
            tenancy.paused_until_ms = max(tenancy.paused_until_ms, until_ms)
        elif held.holds_up is HoldsUp.JOB:
            active.paused_until_ms = max(active.paused_until_ms, until_ms)
        if held.why and held.why != active.held_up_by:
            active.held_up_by = held.why
            active.changed()

    # -- with the journal

    async def _read(self, active: ActiveJob) -> None:
        """More lines of a job."""
        try:
            lines = await self._journal.lines(active.job.job_id, active.read_to, READ_AT_ONCE)
        except JournalError as error:
            active.held_up_by = str(error)
            active.paused_until_ms = self._clock_ms() + 1000 * RETRY_S[0]
            await asyncio.sleep(RETRY_S[0])
        else:
            active.all_read = len(lines) < READ_AT_ONCE
            if lines:
                active.read_to = lines[-1].line
            if active.ending is None:
                for line in lines:
                    active.push(line)
        finally:
            active.reading = False
            self._touch(active)

    async def _finish(self, active: ActiveJob) -> None:
        """Writes down that a job has ended; tries until the journal takes it."""
        state = active.ending or State.COMPLETED
        detail = {
            State.CANCELLED: "its job was cancelled before it began",
            State.EXPIRED: "its job's time was over before it began",
        }.get(state, "")
        tries = 0
        while True:
            ended_ms = self._wall_ms()
            try:
                active.tally = await self._journal.end(active.job.job_id, state, ended_ms, detail)
                break
            except JournalError as error:
                active.held_up_by = str(error)
                await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
                tries += 1
        del self.jobs[active.job.job_id]
        tenancy = self._tenants[active.job.tenant]
        tenancy.jobs.remove(active)
        if not tenancy.jobs:
            del self._tenants[active.job.tenant]
        active.over.set()
        active.changed()
        self._log.info(
            "job ended", tenant=active.job.tenant, job_id=active.job.job_id, state=state.value, lines=active.job.lines
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("a job's task failed", error=repr(task.exception()), exc_info=task.exception())
