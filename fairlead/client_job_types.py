"""Durable jobs as plain typed Python: what a job is, and how its lines ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, TypeAlias, TypedDict, cast

from google.protobuf.timestamp_pb2 import Timestamp

from fairlead.client_types import SAMPLING_FIELDS, Outcome, Usage, set_field
from fairlead.v1 import jobs_pb2 as jobs
from fairlead.v1 import types_pb2 as types

PIECE_BYTES = 64 * 1024

JobSource: TypeAlias = Path | bytes | IO[bytes] | Iterable[Mapping[str, Any]]
"""A file of JSON lines, its bytes, an open binary file, or the lines as mappings."""


class JobState(StrEnum):
    """Of a job."""

    UNSPECIFIED = "UNSPECIFIED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def ended(self) -> bool:
        """Every line has its outcome."""
        return self in (JobState.COMPLETED, JobState.CANCELLED, JobState.EXPIRED)


class JobOptions(TypedDict, total=False):
    """What may be said of a job; absent or None: see `fairlead.v1.JobOptions`. Sampling is of lines that state none."""

    idempotency_key: str | None
    name: str | None
    model: str | None
    completion_target_s: float | None
    lifetime_s: float | None
    return_token_ids: bool | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when it was asked about.

    Attributes:
        outcomes: lines that have ended, by outcome.
        held_up_by: one sentence where nothing can begin now; else "".
        retries: runs of lines beyond their first.
        existed: the answer to a submission that was sent before.
    """

    job_id: str
    name: str
    idempotency_key: str | None
    state: JobState
    lines: int
    lines_in_flight: int
    outcomes: Mapping[Outcome, int]
    usage: Usage
    created_at: datetime
    ended_at: datetime | None
    expires_at: datetime
    kept_until: datetime | None
    completion_target_s: float | None
    held_up_by: str
    model: str
    retries: int
    existed: bool = False

    @property
    def ended_lines(self) -> int:
        """Lines that have an outcome."""
        return sum(self.outcomes.values())

    @property
    def failed_lines(self) -> int:
        """Ended lines without a whole answer."""
        return sum(number for outcome, number in self.outcomes.items() if not outcome.complete)


@dataclass(frozen=True, slots=True)
class JobResult:
    """How one line ended. `line`: its number in the file, from 1; `detail`: where the outcome is no whole answer."""

    line: int
    custom_id: str
    outcome: Outcome
    text: str
    token_ids: tuple[int, ...]
    usage: Usage
    detail: str
    matched_stop: str | None
    attempts: int
    ended_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """As a line of a results file."""
        told: dict[str, Any] = {"line": self.line, "custom_id": self.custom_id, "outcome": str(self.outcome)}
        told["text"] = self.text
        if self.token_ids:
            told["token_ids"] = list(self.token_ids)
        if self.detail:
            told["detail"] = self.detail
        if self.matched_stop is not None:
            told["matched_stop"] = self.matched_stop
        told["usage"] = {
            "prompt_tokens": self.usage.prompt_tokens,
            "cached_prompt_tokens": self.usage.cached_prompt_tokens,
            "output_tokens": self.usage.output_tokens,
        }
        told["attempts"] = self.attempts
        told["ended_at"] = self.ended_at.isoformat()
        return told


def build_options(options: JobOptions) -> jobs.JobOptions:
    """The message of a job's options. Raises InvalidRequest where a value does not fit."""
    made = jobs.JobOptions(return_token_ids=bool(options.get("return_token_ids")))
    for name in ("idempotency_key", "name", "model"):
        if options.get(name) is not None:
            set_field(made, name, options.get(name))
    for name in SAMPLING_FIELDS:
        value = cast("object", options.get(name))
        if value is not None:
            set_field(made.sampling, name, value)
    for name, field in (("completion_target_s", "completion_target"), ("lifetime_s", "lifetime")):
        seconds = cast("float | None", options.get(name))
        if seconds is not None:
            getattr(made, field).FromTimedelta(timedelta(seconds=seconds))
    return made


def pieces(source: JobSource) -> Iterator[bytes]:
    """The bytes of a file, some at a time. Raises OSError where it can't be read."""
    if isinstance(source, bytes):
        yield from (source[start : start + PIECE_BYTES] for start in range(0, len(source), PIECE_BYTES))
    elif isinstance(source, Path):
        with source.open("rb") as file:
            yield from _read(file)
    elif hasattr(source, "read"):
        yield from _read(cast("IO[bytes]", source))
    else:
        batch = b""
        for line in cast("Iterable[Mapping[str, Any]]", source):
            batch += json.dumps(line, ensure_ascii=False).encode() + b"\n"
            if len(batch) >= PIECE_BYTES:
                yield batch
                batch = b""
        if batch:
            yield batch


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def job_from(message: jobs.Job, *, existed: bool = False) -> Job:
    """`fairlead.v1.Job` as a dataclass."""
    return Job(
        job_id=message.job_id,
        name=message.name,
        idempotency_key=message.idempotency_key if message.HasField("idempotency_key") else None,
        state=_state(message.state),
        lines=message.lines,
        lines_in_flight=message.lines_in_flight,
        outcomes={_outcome(item.outcome): item.lines for item in message.outcomes},
        usage=_usage(message.usage),
        created_at=_datetime(message.created_at),
        ended_at=_datetime(message.ended_at) if message.HasField("ended_at") else None,
        expires_at=_datetime(message.expires_at),
        kept_until=_datetime(message.kept_until) if message.HasField("kept_until") else None,
        completion_target_s=(
            message.completion_target.ToTimedelta().total_seconds() if message.HasField("completion_target") else None
        ),
        held_up_by=message.held_up_by,
        model=message.model,
        retries=message.retries,
        existed=existed,
    )


def result_from(message: jobs.JobResult) -> JobResult:
    """`fairlead.v1.JobResult` as a dataclass."""
    return JobResult(
        line=message.line,
        custom_id=message.custom_id,
        outcome=_outcome(message.outcome),
        text=message.text,
        token_ids=tuple(message.token_ids),
        usage=_usage(message.usage),
        detail=message.detail,
        matched_stop=message.matched_stop if message.HasField("matched_stop") else None,
        attempts=message.attempts,
        ended_at=_datetime(message.ended_at),
    )


def _state(value: int) -> JobState:
    try:
        return JobState(jobs.JobState.Name(value).removeprefix("JOB_STATE_"))
    except ValueError:
        return JobState.UNSPECIFIED


def _outcome(value: int) -> Outcome:
    try:
        return Outcome(types.Outcome.Name(value).removeprefix("OUTCOME_"))
    except ValueError:
        return Outcome.UNSPECIFIED


def _usage(message: types.Usage) -> Usage:
    return Usage(message.prompt_tokens, message.cached_prompt_tokens, message.output_tokens)


def _datetime(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
