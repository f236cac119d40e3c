"""Shortest remaining processing time with the true length: the bound for mean completion time (Schrage, "A Proof of the
Optimality of the Shortest Remaining Processing Time Discipline", Operations Research 1968)."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Pace, Policy, context_tokens, prefill_left_tokens
from scheduler_svc.core.types import Job, Rules


class Srpt(Policy):
    """Least work left first, in ms of prefill and decode, by the true length.

    The true length is the hint that an operator's request carries (the simulator gives it to every request), or what
    the `oracle` predictor answers. A request with neither counts with its mean remaining length, so that on ordinary
    traffic this is `isrtf` in milliseconds with one prediction. Optimal for one server that works on one job at a time;
    with many seats a bound to compare with, not a theorem.
    """

    name = "srpt"
    summary = "SRPT by the true length (an operator's hint or the oracle): a bound to compare with"

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:
        """At arrival, where no hint says it already."""
        return generated_tokens == 0 and job.spec.length_hint_tokens is None

    def cost(self, job: Job, pace: Pace) -> float:
        """Work left, ms."""
        hint = job.spec.length_hint_tokens
        if hint is None:
            left = job.distribution.mean_remaining(job.output_tokens)
        else:
            left = max(1.0, min(hint, job.spec.max_tokens) - job.output_tokens)
        return pace.prefill_ms(prefill_left_tokens(job)) + pace.ms_per_token(context_tokens(job)) * left

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Work left."""
        return (0.0, job.cost)

    def rules(self) -> Rules:
        """Less work takes a seat from more."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
