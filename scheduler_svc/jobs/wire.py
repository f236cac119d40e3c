"""Jobs and results as the contract has them."""

from __future__ import annotations

import base64
import binascii
from array import array
from typing import cast

from google.protobuf import duration_pb2, timestamp_pb2

from fairlead.rpc import invalid
from fairlead.v1 import jobs_pb2, types_pb2
from scheduler_svc.jobs.active import ActiveJob
from scheduler_svc.journal.records import Job, Result, State, Tally

DAY_MS = 86_400_000
_ENDED = {
    State.COMPLETED: jobs_pb2.JOB_STATE_COMPLETED,
    State.CANCELLED: jobs_pb2.JOB_STATE_CANCELLED,
    State.EXPIRED: jobs_pb2.JOB_STATE_EXPIRED,
}


def job_to_wire(job: Job, active: ActiveJob | None, keep_days: float) -> jobs_pb2.Job:
    """A job as it is: from the journal, and from the runner while it lives."""
    tally = job.tally or (active.tally if active is not None else Tally())
    told = jobs_pb2.Job(
        job_id=job.job_id,
        name=job.name,
        idempotency_key=job.idempotency_key,
        state=_state(job, active, tally),
        lines=job.lines,
        outcomes=[
            jobs_pb2.LinesByOutcome(outcome=cast("types_pb2.Outcome", outcome), lines=number)
            for outcome, number in sorted(tally.outcomes.items())
        ],
        usage=types_pb2.Usage(
            prompt_tokens=min(tally.prompt_tokens, 2**32 - 1),
            cached_prompt_tokens=min(tally.cached_prompt_tokens, 2**32 - 1),
            output_tokens=min(tally.output_tokens, 2**32 - 1),
        ),
        created_at=_timestamp(job.created_ms),
        expires_at=_timestamp(job.expires_ms),
        model=job.model,
        retries=tally.retries,
    )
    if active is not None and job.live:
        told.lines_in_flight = active.in_flight
        told.held_up_by = active.held_up_by
    if job.ended_ms is not None:
        told.ended_at.CopyFrom(_timestamp(job.ended_ms))
        told.kept_until.CopyFrom(_timestamp(job.ended_ms + int(keep_days * DAY_MS)))
    if job.target_ms is not None:
        target = duration_pb2.Duration()
        target.FromMilliseconds(job.target_ms)
        told.completion_target.CopyFrom(target)
    return told


def _state(job: Job, active: ActiveJob | None, tally: Tally) -> jobs_pb2.JobState:
    if not job.live:
        return _ENDED[job.state]
    if job.state is State.CANCELLING or (active is not None and active.ending is not None):
        return jobs_pb2.JOB_STATE_CANCELLING
    begun = tally.ended or (active is not None and active.in_flight)
    return jobs_pb2.JOB_STATE_RUNNING if begun else jobs_pb2.JOB_STATE_QUEUED


def result_to_wire(result: Result) -> jobs_pb2.JobResult:
    """A result."""
    token_ids = array("I")
    token_ids.frombytes(result.token_ids or b"")
    return jobs_pb2.JobResult(
        line=result.line,
        custom_id=result.custom_id,
        outcome=result.outcome,
        text=result.text,
        token_ids=token_ids,
        usage=types_pb2.Usage(
            prompt_tokens=result.prompt_tokens,
            cached_prompt_tokens=result.cached_prompt_tokens,
            output_tokens=result.output_tokens,
        ),
        detail=result.detail,
        matched_stop=result.matched_stop,
        attempts=result.attempts,
        ended_at=_timestamp(result.ended_ms),
    )


def page_token(last: Job) -> str:
    """Where the next page of jobs begins."""
    return base64.urlsafe_b64encode(f"{last.created_ms}:{last.job_id}".encode()).decode()


def page_from(token: str) -> tuple[int, str] | None:
    """What `page_token` made. Raises Refusal where it is none."""
    if not token:
        return None
    try:
        created, _, job_id = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        return min(max(int(created), 0), 2**62), job_id.replace("\0", "")
    except (binascii.Error, ValueError):
        raise invalid(
            "page_token", "is none of ours; give `next_page_token` of the page before, or leave it out"
        ) from None


def _timestamp(ms: int) -> timestamp_pb2.Timestamp:
    made = timestamp_pb2.Timestamp()
    made.FromMilliseconds(ms)
    return made
