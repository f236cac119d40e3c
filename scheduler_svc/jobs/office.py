"""Owns the journal and what works on it: takes it when it is free, starts the runner, purges, gives it up at the end.

A journal that is damaged stops the start of the scheduler. One that another scheduler holds, or a database that is
away, does
not: requests are served meanwhile, and jobs are as soon as the journal is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import grpc

from fairlead.config import SchedulerConfig
from fairlead.rpc import Refusal
from fairlead.telemetry import get_logger
from scheduler_svc.jobs.door import Door
from scheduler_svc.jobs.metrics import JobMetrics
from scheduler_svc.jobs.recorder import Recorder
from scheduler_svc.jobs.runner import Runner
from scheduler_svc.journal.database import BadJournal, JournalError, JournalFull, journal_url
from scheduler_svc.journal.journal import MB, Journal
from scheduler_svc.journal.records import Job, Line, Tally

TAKE_EVERY_S = 1.0
CHECK_EVERY_S = 5.0
PURGE_EVERY_S = 600.0
LAST_RESULTS_WITHIN_S = 5.0
NOT_READY_RETRY_MS = 1000.0
FULL_RETRY_MS = 10_000.0
DAY_MS = 86_400_000


def wall_clock_ms() -> Callable[[], int]:
    """ms since 1970 as this process began, and from then on by the monotonic clock: a clock that is set while jobs run
    ends none of them."""
    offset_s = time.time() - time.monotonic()
    return lambda: int(1000 * (time.monotonic() + offset_s))


class Office:
    """Durable jobs of one scheduler.

    Args:
        config: of the scheduler.
        state_dir: where a SQLite journal lies if nothing else is said.
        door: into the scheduler.
        clock_ms: monotonic.
        wall_ms: ms since 1970.
        changed: called when `ready` has changed.
        metrics: None where they are off.

    Attributes:
        journal, runner: what the service asks; the runner only while `ready`.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        state_dir: Path,
        door: Door,
        *,
        clock_ms: Callable[[], float],
        wall_ms: Callable[[], int] | None = None,
        changed: Callable[[], None] = lambda: None,
        metrics: JobMetrics | None = None,
    ) -> None:
        self.limits = config.jobs
        secret = config.journal.get_secret_value() if config.journal is not None else None
        self.journal = Journal(journal_url(secret, state_dir))
        self.wall_ms = wall_ms or wall_clock_ms()
        self.runner: Runner | None = None
        self.size_bytes = 0
        self._door = door
        self._clock_ms = clock_ms
        self._changed = changed
        self._metrics = metrics
        self._problem = "the journal is not open yet"
        self._task: asyncio.Task[None] | None = None
        self._recorder: Recorder | None = None
        self._draining = False
        self._log = get_logger("jobs")
        if metrics is not None:
            metrics.observe(self)

    @property
    def ready(self) -> bool:
        """The journal is ours, and jobs can be asked about."""
        return self.runner is not None

    async def start(self) -> None:
        """Takes the journal if it is free now; else goes on trying beside everything else. Raises BadJournal."""
        opened = await self._try_open()
        self._task = asyncio.create_task(self._work(opened))

    def drain(self) -> None:
        """Begins no more lines; what is on disk runs after the next start."""
        self._draining = True
        if self.runner is not None:
            self.runner.drain()

    async def stop(self) -> None:
        """Puts on disk what has ended, and gives the journal up."""
        if self._recorder is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_RESULTS_WITHIN_S):
                    await self._recorder.idle()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.journal.close()

    # -- what the service asks

    def opened(self) -> Runner:
        """The runner. Raises Refusal while there is none."""
        if self.runner is None:
            raise Refusal(
                grpc.StatusCode.UNAVAILABLE,
                f"jobs can't be served now: {self._problem}; try again shortly",
                retry_after_ms=NOT_READY_RETRY_MS,
                reason="JOURNAL_UNAVAILABLE",
            )
        return self.runner

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncGenerator[None]:
        """Around what the journal is asked: its trouble as a Refusal."""
        try:
            yield
        except JournalError as error:
            raise self.refusal(error) from error

    def refusal(self, error: JournalError) -> Refusal:
        """What a client is told of the journal's trouble."""
        full = isinstance(error, JournalFull)
        reason = "JOURNAL_FULL" if full else "JOURNAL_UNAVAILABLE"
        if self._metrics is not None:
            self._metrics.refused(reason)
        return Refusal(
            grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE,
            f"{error}; nothing new was accepted, what was is safe; try again later",
            quota=("journal", str(error)) if full else None,
            retry_after_ms=FULL_RETRY_MS if full else NOT_READY_RETRY_MS,
            reason=reason,
        )

    async def check_room(self, tenant: str) -> None:
        """Raises Refusal where a tenant's job, or any, has no room."""
        async with self.asking():
            number, size = await self.journal.of_tenant(tenant)
            if number >= self.limits.max_jobs_per_tenant or size >= self.limits.max_tenant_mb * MB:
                what = f"{number} jobs with {size / MB:.0f} MB are kept for {tenant!r}"
                raise Refusal(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{what}; delete ended ones, or wait until their time is over",
                    quota=(f"tenant:{tenant}", what),
                    retry_after_ms=FULL_RETRY_MS,
                    reason="TENANT_JOBS_FULL",
                )
            self.size_bytes = await self.journal.size_bytes()
            if self.size_bytes >= self.limits.max_journal_mb * MB:
                raise JournalFull(f"the journal holds {self.size_bytes / MB:.0f} MB (scheduler.jobs.max_journal_mb)")
            free_mb = self.journal.free_mb()
            if free_mb is not None and free_mb < self.limits.min_free_mb:
                raise JournalFull(f"the journal's disk has {free_mb:.0f} MB left (scheduler.jobs.min_free_mb)")

    async def submit(self, job: Job, lines: list[Line]) -> Job | None:
        """Puts a job on disk and lets it run; or the one that has its key already. Raises Refusal."""
        runner = self.opened()
        async with self.asking():
            known = await self.journal.submit(job, lines)
        if known is None:
            runner.add(job, Tally())
            self._log.info("job accepted", tenant=job.tenant, job_id=job.job_id, lines=job.lines)
        return known

    async def cancel(self, job: Job) -> bool:
        """Ends a job; whether it was live. Raises Refusal."""
        runner = self.opened()
        async with self.asking():
            asked = await self.journal.ask_cancel(job.job_id)
        if asked:
            runner.cancel(job.job_id)
        return asked or job.live

    async def forget(self, tenant: str) -> int:
        """Deletes the ended jobs of a tenant; how many. Raises Refusal where one is live, or the journal is away."""
        self.opened()
        async with self.asking():
            live = await self.journal.jobs(tenant, before=None, limit=1, live_only=True)
            if live:
                raise Refusal(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"name: job {live[0].job_id} of {tenant!r} has not ended; nothing was deleted",
                    retry_after_ms=NOT_READY_RETRY_MS,
                    reason="TENANT_BUSY",
                )
            return await self.journal.forget(tenant)

    # -- the journal

    async def _try_open(self) -> bool:
        """Takes and opens the journal; False where that is to be tried again. Raises BadJournal."""
        try:
            if not await self.journal.ownership.take():
                self._note("another scheduler holds the journal")
                return False
            await self.journal.open()
            await self._load()
        except BadJournal:
            await self.journal.ownership.give_up()
            raise
        except JournalError as error:
            await self.journal.ownership.give_up()
            self._note(str(error))
            return False
        return True

    def _note(self, problem: str) -> None:
        if problem != self._problem or self._task is None:
            self._log.warning("the journal is not open; jobs wait", problem=problem)
        self._problem = problem

    async def _work(self, opened: bool) -> None:
        while True:
            while not opened:
                await asyncio.sleep(TAKE_EVERY_S)
                try:
                    opened = await self._try_open()
                except BadJournal as error:
                    self._note(str(error))
            try:
                await self._run()
            except JournalError as error:
                self._note(str(error))
            except Exception as error:  # somebody changed the tables, say: what is on disk is read anew
                self._log.error("jobs failed and begin anew", error=repr(error), exc_info=error)
            await self.journal.ownership.give_up()
            opened = False

    async def _load(self) -> None:
        """Finds the jobs that go on. Raises JournalError."""
        recorder = Recorder(self.journal, self._metrics.wrote if self._metrics is not None else None)
        runner = Runner(self.journal, self._door, recorder, self.limits, clock_ms=self._clock_ms, wall_ms=self.wall_ms)
        for job in await self.journal.live():
            runner.add(job, await self.journal.tally(job.job_id))
        if runner.jobs:
            self._log.info("jobs go on", jobs=len(runner.jobs))
        self.runner, self._recorder = runner, recorder
        if self._draining:
            runner.drain()
        self._changed()

    async def _run(self) -> None:
        """Runs jobs until the journal is ours no more. Raises JournalError."""
        runner, recorder = self.runner, self._recorder
        assert runner is not None and recorder is not None, "it was loaded"
        tasks = [asyncio.create_task(work) for work in (recorder.run(), runner.run(), self._keep())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.runner = self._recorder = None
            self._problem = "the journal was lost"
            self._changed()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        """Purges what is old; returns when the journal is ours no more."""
        purge_due_s = 0.0
        while await self.journal.ownership.still_held():
            with contextlib.suppress(JournalError):
                if time.monotonic() >= purge_due_s:
                    purge_due_s = time.monotonic() + PURGE_EVERY_S
                    await self._purge()
                self.size_bytes = await self.journal.size_bytes()
            await asyncio.sleep(CHECK_EVERY_S)

    async def _purge(self) -> None:
        before_ms = self.wall_ms() - int(self.limits.keep_days * DAY_MS)
        gone = 0
        while found := await self.journal.purge(before_ms):
            gone += found
        if gone:
            self._log.info("old jobs deleted", jobs=gone)
