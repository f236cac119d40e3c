"""A request as the core sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.events import Arrived, Outcome


@dataclass(slots=True)
class Job:
    """A request as the core sees it: no text, no token ids.

    Attributes:
        worker: where it is placed; None while it waits in the pool.
        attempt: placements so far.
        seated: it took part in its worker's last known step.
        base_tokens: output tokens that were out before this attempt.
        output_tokens: tokens out, over all attempts.
        distribution: of total output tokens; a prior until a prediction comes.
        predicted: the first prediction, for the record.
        estimated_at: output tokens at which its key was last computed from the distribution.
        cost: what the policy derives from the distribution (remaining tokens, or ms of work), kept between windows.
        remaining_high: tokens still to come at the quantile that memory reckons with, kept between windows.
        remaining_mean, remaining_sd: of the tokens still to come; 0 unless the choices in force reckon with work.
        expected_tokens: prompt and expected answer, as reckoned at its arrival.
        started: its prompt was begun on some worker.
        unserved: it waits in the pool, or holds no seat on its worker; kept by `fairness.py`, as the next.
        charged: weighted tokens that its tenant's counter was charged for it.
        relegated: it came as LS and is BE from now on; `spec` says BE.
        key: its place in the order; smaller first.
        review_at: output tokens at which the policy wants to set another key, even within a window.
        state: what the policy in force keeps about this job; no other reads it.
        first_assigned_ms, first_token_ms, last_token_ms: None before.
    """

    spec: Arrived
    arrival_ms: float
    distribution: LengthDistribution
    worker: str | None = None
    attempt: int = 0
    seated: bool = False
    base_tokens: int = 0
    output_tokens: int = 0
    predicted: LengthDistribution | None = None
    predictions: int = 0
    estimated_at: int = 0
    cost: float = 0.0
    remaining_high: float = 0.0
    remaining_mean: float = 0.0
    remaining_sd: float = 0.0
    expected_tokens: float = 0.0
    started: bool = False
    unserved: bool = False
    charged: float = 0.0
    relegated: bool = False
    key: tuple[float, float] = (0.0, 0.0)
    review_at: float = math.inf
    state: object = None
    first_assigned_ms: float | None = None
    first_token_ms: float | None = None
    last_token_ms: float | None = None
    pauses: int = 0
    evictions: int = 0
    outcome: Outcome | None = None

    @property
    def came_as_ls(self) -> bool:
        """The class that it was accepted in."""
        return self.relegated or self.spec.latency_sensitive

    @property
    def job_id(self) -> int:
        """The core's name of it."""
        return self.spec.job_id

    @property
    def served_tokens(self) -> int:
        """Prompt and answer tokens that were worked on for it; an answer begun by an earlier scheduler not again."""
        prompt = self.spec.prompt_tokens if self.started else 0
        return prompt + self.output_tokens - self.spec.received_tokens
