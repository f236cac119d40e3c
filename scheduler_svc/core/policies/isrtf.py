"""Iterative shortest remaining time first, as ELIS has it (arXiv 2505.09142)."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.types import Job, Rules


class Isrtf(Policy):
    """Fewest predicted remaining tokens first, predicted again from prompt and answer so far after every window.

    Classes and SLOs play no part, and nothing bounds a long job's wait. Unlike the paper's, a displaced job keeps its
    KV cache: it is paused, not recomputed.
    """

    name = "isrtf"
    summary = "ELIS: fewest predicted remaining tokens first, predicted again every window; no classes"

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """At arrival and after every window."""
        return True

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """Mean remaining output tokens."""
        return job.distribution.mean_remaining(job.output_tokens)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Remaining tokens."""
        return (0.0, job.cost)

    def rules(self) -> Rules:
        """A better-ranked job takes a worse one's seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
