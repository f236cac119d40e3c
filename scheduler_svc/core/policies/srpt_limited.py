"""SRPT with limited preemption (TRAIL: Shahout et al., "Don't Stop Me Now: Embedding Based Scheduling for LLMs", arXiv
2410.01035, section on limited preemption)."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class SrptLimited(Policy):
    """Fewest predicted remaining tokens first; a request past `c` of its first prediction is displaced no more.

    KV cache grows with age: to displace an old request keeps (or throws away) the most memory for the least gain.
    """

    name = "srpt_limited"
    summary = "TRAIL: SRPT on predictions, a request past c of its first prediction is not displaced"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/srpt_limited.md."""

        c: float = option(
            0.8, "share of the first prediction after which a request keeps its seat; 0: from its start", least=0.0,
            most=10.0,
        )  # fmt: skip

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """At arrival and after every window; the paper's probe answers at every token."""
        return True

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """Mean remaining output tokens."""
        return job.distribution.mean_remaining(job.output_tokens)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Those that may not be displaced, then the others; each by remaining tokens."""
        threshold = self.options.c * (job.predicted or job.distribution).mean_remaining(0.0)
        if job.worker is not None and job.first_token_ms is not None and job.output_tokens >= threshold:
            job.review_at = float("inf")
            return (0.0, job.cost)
        job.review_at = max(threshold, job.output_tokens + 1.0)
        return (1.0, job.cost)

    def rules(self) -> Rules:
        """A better-ranked job takes a worse one's seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
