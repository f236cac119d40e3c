"""Sees one line through: asks the scheduler, waits for the end, runs it again where the failure was not its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

import grpc

from fairlead.rpc import Refusal
from fairlead.telemetry import get_logger
from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.jobs.active import ActiveJob
from scheduler_svc.jobs.door import Door, Ending, Run
from scheduler_svc.journal.database import JournalError
from scheduler_svc.journal.journal import Journal
from scheduler_svc.journal.records import Line, Result, State
from scheduler_svc.validation import LEAST_SLO_MS, MAX_SLO_MS

LEAST_DELAY_MS = 50.0
MOST_DELAY_MS = 30_000.0
USUAL_DELAY_MS = 1000.0
MOST_RETRY_DELAY_S = 30.0
RUN_AGAIN = frozenset(
    {
        types_pb2.OUTCOME_FAILED_WORKER_LOST,
        types_pb2.OUTCOME_FAILED_ENGINE,
        types_pb2.OUTCOME_FAILED_INTERNAL,
        types_pb2.OUTCOME_EXPIRED,
        types_pb2.OUTCOME_SLOW_READER,
    }
)
_MISSED_TARGET = "COMPLETION_OUT_OF_REACH"
_WAITS_FOR_MODEL = "UNKNOWN_MODEL"


class HoldsUp(Enum):
    """What must wait."""

    NOTHING = "nothing"
    JOB = "job"
    TENANT = "tenant"


class HeldUp(Exception):
    """The line can't run now; it goes back, and what is named waits."""

    def __init__(self, line: Line, holds_up: HoldsUp = HoldsUp.NOTHING, delay_ms: float = 0.0, why: str = "") -> None:
        super().__init__(why)
        self.line = line
        self.holds_up = holds_up
        self.delay_ms = delay_ms
        self.why = why


class Carrier:
    """Carries lines.

    Args:
        journal: where tries are noted.
        door: into the scheduler.
        max_attempts: runs of a line before a failure is its outcome.
        wall_ms: ms since 1970.
        retry_delay_s: before the second run; doubles.
    """

    def __init__(
        self, journal: Journal, door: Door, *, max_attempts: int, wall_ms: Callable[[], int], retry_delay_s: float
    ) -> None:
        self._journal = journal
        self._door = door
        self._max_attempts = max_attempts
        self._wall_ms = wall_ms
        self._retry_delay_s = retry_delay_s
        self._log = get_logger("jobs")

    async def carry(
        self, active: ActiveJob, line: Line, accepted: Callable[[Run | None], None], given_up: Callable[[], bool]
    ) -> Result:
        """The result of a line.

        Args:
            active: its job.
            line: to run.
            accepted: called with each run, and with None when it is over.
            given_up: whether lines are no longer begun: what an operator ended then is no outcome.

        Raises:
            HeldUp: it has none yet.
        """
        while active.ending is None and not given_up():
            attempt = line.attempts + 1
            again = True
            try:
                run = await self._ask(active, line, attempt)
            except Refusal as refusal:
                ending, again = self._judge(line, refusal)
            except Exception as error:
                self._log.error("a line could not be asked for", error=repr(error), exc_info=error)
                ending = Ending(types_pb2.OUTCOME_FAILED_INTERNAL, f"{type(error).__name__} while it was prepared")
            else:
                accepted(run)
                ending = await run.ended
                accepted(None)
                again = ending.outcome in RUN_AGAIN
            if given_up() and ending.outcome == types_pb2.OUTCOME_CANCELLED_BY_OPERATOR:
                break
            line = replace(line, attempts=attempt)
            if not again or attempt >= self._max_attempts or active.ending is not None:
                return self._result(active, line, ending)
            await self._again(active, line)
        raise HeldUp(line)

    async def _ask(self, active: ActiveJob, line: Line, attempt: int) -> Run:
        job = active.job
        request = inference_pb2.GenerateRequest.FromString(line.request)
        request.request_id = f"{job.job_id}.{line.line}.{attempt}"
        request.service_class = types_pb2.SERVICE_CLASS_BEST_EFFORT
        if job.model and not request.HasField("model"):
            request.model = job.model
        now_ms = self._wall_ms()
        left_s = max(0.001, (job.expires_ms - now_ms) / 1000)
        if job.target_ms is not None:
            target_ms = job.created_ms + job.target_ms - now_ms
            if target_ms >= LEAST_SLO_MS:
                request.slo.completion_ms = min(target_ms, MAX_SLO_MS)
        try:
            return await self._door.ask(job.tenant, request, left_s)
        except Refusal as refusal:
            if refusal.reason != _MISSED_TARGET or not request.slo.HasField("completion_ms"):
                raise
            request.ClearField("slo")  # late is better than not at all
            return await self._door.ask(job.tenant, request, left_s)

    def _judge(self, line: Line, refusal: Refusal) -> tuple[Ending, bool]:
        """What a refusal makes of a line, and whether another try may go better. Raises HeldUp where it has to wait."""
        delay_ms = refusal.retry_after_ms
        code = refusal.code
        if code is grpc.StatusCode.ALREADY_EXISTS:
            return Ending(types_pb2.OUTCOME_FAILED_INTERNAL, "its request id was in use"), True
        passing = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED) and (
            code is grpc.StatusCode.UNAVAILABLE or delay_ms is not None
        )
        if not passing and refusal.reason != _WAITS_FOR_MODEL:
            return Ending(types_pb2.OUTCOME_FAILED_ENGINE, refusal.message), False
        delay_ms = min(max(USUAL_DELAY_MS if delay_ms is None else delay_ms, LEAST_DELAY_MS), MOST_DELAY_MS)
        holds_up = HoldsUp.TENANT if code is grpc.StatusCode.RESOURCE_EXHAUSTED else HoldsUp.JOB
        raise HeldUp(line, holds_up, delay_ms, refusal.message)

    async def _again(self, active: ActiveJob, line: Line) -> None:
        try:
            await self._journal.note_attempts(active.job.job_id, line.line, line.attempts)
        except JournalError as error:  # then a restart grants one run more
            self._log.warning("a try could not be noted", problem=str(error))
        await asyncio.sleep(min(self._retry_delay_s * 2 ** (line.attempts - 1), MOST_RETRY_DELAY_S))

    def _result(self, active: ActiveJob, line: Line, ending: Ending) -> Result:
        outcome = ending.outcome
        if active.ending is State.EXPIRED and outcome in RUN_AGAIN:
            outcome = types_pb2.OUTCOME_EXPIRED
        return Result(
            job_id=active.job.job_id,
            line=line.line,
            custom_id=line.custom_id,
            outcome=outcome,
            ended_ms=self._wall_ms(),
            detail=ending.detail,
            text=ending.text,
            token_ids=ending.token_ids.tobytes() if active.job.return_token_ids else None,
            matched_stop=ending.matched_stop,
            prompt_tokens=ending.prompt_tokens,
            cached_prompt_tokens=ending.cached_prompt_tokens,
            output_tokens=ending.output_tokens,
            attempts=line.attempts,
        )
