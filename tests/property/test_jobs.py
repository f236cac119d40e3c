"""Durable jobs under random submissions, endings, refusals, cancels, expiry, drains and crashes, against a model.

Journal, runner and recorder are the real ones on a real SQLite file; only the engine's side of the door is a script, so
that endings come in any order. At every step: each line is either left or has one result (I1); a result never changes
(I2); no line that has one is run again (I3).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from array import array
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairlead.config import JobsConfig
from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.core.types import Outcome
from scheduler_svc.jobs.carrying import RUN_AGAIN
from scheduler_svc.jobs.door import Ending
from scheduler_svc.jobs.recorder import Recorder
from scheduler_svc.jobs.runner import Runner
from scheduler_svc.journal.database import journal_url
from scheduler_svc.journal.journal import Journal
from scheduler_svc.journal.records import Job, Result, State, Tally
from scheduler_svc.wire import OUTCOME_TO_WIRE
from tests.unit.journals import HOUR_MS, make_job, make_lines

T = TypeVar("T")
ATTEMPTS = 2
LIMITS = JobsConfig(lines_in_flight=5, lines_in_flight_per_tenant=4, jobs_at_once_per_tenant=2, max_attempts=ATTEMPTS)
ENDINGS = st.sampled_from([types_pb2.OUTCOME_STOP, types_pb2.OUTCOME_LENGTH, *sorted(RUN_AGAIN)])
REFUSALS = (
    Refusal(grpc.StatusCode.UNAVAILABLE, "no worker is connected", retry_after_ms=1000, reason="NO_WORKERS"),
    Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many wait", retry_after_ms=1000, reason="TENANT_QUEUE_FULL"),
    Refusal(grpc.StatusCode.NOT_FOUND, "no such model", reason="UNKNOWN_MODEL"),
    Refusal(grpc.StatusCode.INVALID_ARGUMENT, "too long", reason="INVALID_FIELD"),
    Refusal(grpc.StatusCode.ALREADY_EXISTS, "in use", reason="ID_IN_USE"),
)


@dataclass(eq=False)
class ScriptedRun:
    """A run that ends when the test says so, or when it is cancelled."""

    tenant: str
    request_id: str
    text: str
    ended: asyncio.Future[Ending]
    begun: bool = False

    def end(self, outcome: types_pb2.Outcome) -> None:
        self.ended.set_result(Ending(outcome, "scripted", self.text, array("I", [1, 2]), output_tokens=2))

    def cancel(self, outcome: Outcome, detail: str) -> None:
        if not self.ended.done():
            self.ended.set_result(Ending(OUTCOME_TO_WIRE[outcome], detail))


@dataclass
class ScriptedDoor:
    """Accepts runs, or refuses them as told."""

    runs: list[ScriptedRun] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    async def ask(self, tenant: str, request: inference_pb2.GenerateRequest, time_left_s: float) -> ScriptedRun:
        await asyncio.sleep(0)
        self.asked.append(request.request_id)
        assert time_left_s > 0
        if self.refusals:
            raise self.refusals.pop()
        text = f"{request.request_id}: {request.text}"
        run = ScriptedRun(tenant, request.request_id, text, asyncio.get_running_loop().create_future())
        self.runs.append(run)
        return run

    def most_in_flight(self, tenant: str, configured: int) -> int:
        del tenant
        return configured

    def open(self) -> list[ScriptedRun]:
        return [run for run in self.runs if not run.ended.done()]


class JobsMachine(RuleBasedStateMachine):
    """What a job's life may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="fl-jobs-"))
        self.now_ms = 1000
        self.jobs: list[Job] = []
        self.seen: dict[tuple[str, int], Result] = {}
        self.seen_before: dict[tuple[str, int], Result] = {}
        self.cancelled: set[str] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize()
    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        self.journal = Journal(journal_url(None, self.folder))
        assert await self.journal.ownership.take()
        await self.journal.open()
        self.door, self.looked = ScriptedDoor(), 0
        recorder = Recorder(self.journal, linger_s=0)
        self.runner = Runner(
            self.journal, self.door, recorder, LIMITS,
            clock_ms=lambda: float(self.now_ms), wall_ms=lambda: self.now_ms, retry_delay_s=0,
        )  # fmt: skip
        for job in await self.journal.live():
            self.runner.add(job, await self.journal.tally(job.job_id))
        self.tasks = [asyncio.create_task(recorder.run()), asyncio.create_task(self.runner.run())]
        await self._pass()

    async def _end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.journal.close()

    async def _pass(self) -> None:
        """Lets things happen; nothing below depends on how much did."""
        self.runner._wake.set()  # type: ignore[attr-defined]  # the clock is ours
        await asyncio.sleep(0.003)

    @rule(tenant=st.sampled_from(["alice", "bob"]), lines=st.integers(1, 6))
    def submit(self, tenant: str, lines: int) -> None:
        number = len(self.jobs) + 1
        job = make_job(number, tenant=tenant, lines=lines, created_ms=self.now_ms, expires_ms=self.now_ms + HOUR_MS)

        async def submitted() -> None:
            assert await self.journal.submit(job, make_lines(lines)) is None
            self.runner.add(job, Tally())
            await self._pass()

        self.run(submitted())
        self.jobs.append(job)

    @precondition(lambda self: self.door.open())
    @rule(which=st.integers(0, 10), outcome=ENDINGS)
    def a_run_ends(self, which: int, outcome: types_pb2.Outcome) -> None:
        open_runs = self.door.open()
        open_runs[which % len(open_runs)].end(outcome)
        self.run(self._pass())

    @precondition(lambda self: self.door.open())
    @rule()
    def all_runs_end_at_once(self) -> None:
        for run in self.door.open():
            run.end(types_pb2.OUTCOME_STOP)
        self.run(self._pass())

    @rule(refusals=st.lists(st.sampled_from(REFUSALS), min_size=1, max_size=4))
    def the_scheduler_refuses(self, refusals: list[Refusal]) -> None:
        self.door.refusals += refusals
        self.run(self._pass())

    @rule()
    def time_passes(self) -> None:
        self.now_ms += 40_000
        self.run(self._pass())

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 10))
    def cancel(self, which: int) -> None:
        job = self.jobs[which % len(self.jobs)]

        async def cancelled() -> None:
            if await self.journal.ask_cancel(job.job_id):
                self.cancelled.add(job.job_id)
                self.runner.cancel(job.job_id)
            await self._pass()

        self.run(cancelled())

    @precondition(lambda self: self.jobs)
    @rule()
    def the_oldest_expires(self) -> None:
        live = self.run(self.journal.live())
        if live:
            self.now_ms = max(self.now_ms, live[0].expires_ms)
        self.run(self._pass())

    @rule()
    def crash(self) -> None:
        """As far as the disk is concerned: what was not committed is gone."""
        self.run(self._end())
        self.run(self._start())

    @rule()
    def drain_and_start_again(self) -> None:
        async def drained() -> None:
            self.runner.drain()
            await self._pass()
            await self._end()
            await self._start()

        self.run(drained())

    # -- what must hold

    @invariant()
    def every_line_is_left_or_has_one_result_that_stays(self) -> None:
        if hasattr(self, "tasks"):
            self.run(self._check())

    async def _check(self) -> None:
        for job in self.jobs:
            results, _ = await self.journal.results(job.job_id, 1, 100, skip_unfinished=True)
            left = await self.journal.lines(job.job_id, 0, 100)
            ended = {result.line: result for result in results}
            assert len(ended) == len(results)
            # Read one after the other: a line may have moved from left to ended meanwhile, never the other way.
            assert set(ended) | {line.line for line in left} | self._moved(job, await self._again(job)) == set(
                range(1, job.lines + 1)
            )
            for line, result in ended.items():
                known = self.seen.setdefault((job.job_id, line), result)
                assert result == known, "a result changed"
                assert result.attempts <= ATTEMPTS
        assert self.runner.in_flight <= LIMITS.lines_in_flight

    async def _again(self, job: Job) -> list[Result]:
        return (await self.journal.results(job.job_id, 1, 100, skip_unfinished=True))[0]

    @staticmethod
    def _moved(job: Job, results: list[Result]) -> set[int]:
        assert all(result.job_id == job.job_id for result in results)
        return {result.line for result in results}

    @invariant()
    def no_line_with_a_result_is_run_again(self) -> None:
        if not hasattr(self, "door"):
            return
        for name in self.door.asked[self.looked :]:
            job_id, line, attempt = name.rsplit(".", 2)
            assert int(attempt) <= ATTEMPTS
            assert (job_id, int(line)) not in self.seen_before, f"{name} was asked for, and had a result"
        self.looked = len(self.door.asked)
        self.seen_before = dict(self.seen)

    def teardown(self) -> None:
        try:
            if hasattr(self, "tasks"):
                self.run(self._to_the_end())
                self.run(self._end())
        finally:
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _to_the_end(self) -> None:
        """All that is left runs to its end: no job hangs, none is lost."""
        while self.runner.jobs:
            self.door.refusals.clear()
            self.now_ms += 1000
            for run in self.door.open():
                run.end(types_pb2.OUTCOME_STOP)
            await self._pass()
        await self._check()
        for job in self.jobs:
            ended = await self.journal.job(job.tenant, job.job_id)
            assert ended is not None
            assert ended.tally is not None
            assert ended.tally.ended == job.lines
            assert not await self.journal.lines(job.job_id, 0, 100)
            if job.job_id not in self.cancelled and job.expires_ms > self.now_ms:
                assert ended.state is State.COMPLETED
                assert types_pb2.OUTCOME_CANCELLED_BY_CLIENT not in ended.tally.outcomes
            for result in await self._again(job):
                if result.outcome == types_pb2.OUTCOME_STOP:
                    assert result.text == f"{job.job_id}.{result.line}.{result.attempts}: prompt {result.line}"


JobsMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestJobs = JobsMachine.TestCase
