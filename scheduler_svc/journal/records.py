"""What goes into the journal and comes out: jobs, lines, results. Times are ms since 1970."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fairlead.v1 import types_pb2


class State(StrEnum):
    """Of a job, as it is on disk."""

    LIVE = "LIVE"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


LIVE_STATES = (State.LIVE, State.CANCELLING)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that has not ended. `request`: a serialised GenerateRequest; `attempts`: runs that failed."""

    line: int
    custom_id: str
    request: bytes
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """How a line ended. `token_ids`: packed as uint32, None where not asked for."""

    job_id: str
    line: int
    custom_id: str
    outcome: types_pb2.Outcome
    ended_ms: int
    detail: str = ""
    text: str = ""
    token_ids: bytes | None = None
    matched_stop: str | None = None
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0
    attempts: int = 0


@dataclass
class Tally:
    """Of a job's ended lines: how many by outcome, and what they used."""

    outcomes: Counter[int] = field(default_factory=Counter[int])
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0

    @property
    def ended(self) -> int:
        """Lines that have ended."""
        return self.outcomes.total()

    def add(self, results: Iterable[Result]) -> None:
        """Counts results."""
        for result in results:
            self.outcomes[result.outcome] += 1
            self.prompt_tokens += result.prompt_tokens
            self.cached_prompt_tokens += result.cached_prompt_tokens
            self.output_tokens += result.output_tokens
            self.retries += max(0, result.attempts - 1)

    def dumps(self) -> str:
        """As text for the journal."""
        return json.dumps({**vars(self), "outcomes": {str(key): value for key, value in self.outcomes.items()}})

    @classmethod
    def loads(cls, text: str) -> Tally:
        """From the journal's text."""
        told = json.loads(text)
        told["outcomes"] = Counter({int(key): value for key, value in told["outcomes"].items()})
        return cls(**told)


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        idempotency_key: None where the client chose none.
        digest: SHA-256 of what was submitted.
        model: of lines that name none; "" where none was known.
        lines: how many.
        request_bytes: of the file.
        target_ms: duration from `created_ms` in which the last line should end.
        ended_ms, tally: None while it lives.
    """

    job_id: str
    tenant: str
    idempotency_key: str | None
    digest: bytes
    name: str
    model: str
    lines: int
    request_bytes: int
    return_token_ids: bool
    created_ms: int
    expires_ms: int
    target_ms: int | None = None
    state: State = State.LIVE
    ended_ms: int | None = None
    tally: Tally | None = None

    @property
    def live(self) -> bool:
        """Not every line has ended yet."""
        return self.state in LIVE_STATES
