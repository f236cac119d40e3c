"""Highest response ratio next (Brinch Hansen, "An Analysis of Response Ratio Scheduling", IFIP Congress 1971), as the
duration-aware scheduling of ASR uses it (arXiv 2603.11273)."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.types import Job


class Hrrn(Policy):
    """Greatest (wait + service) / service first among the waiting; who runs, runs on.

    Service is the predicted time of the whole request. Short requests go first, and every wait raises the ratio, so
    that none starves. Ratios of the waiting are refreshed about once a second.
    """

    name = "hrrn"
    summary = "highest response ratio next: (wait + predicted service) / predicted service; never displaces"
    ages = True

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:
        """Predicted service alone on the worker's seats, ms."""
        spec = job.spec
        length = (job.predicted or job.distribution).mean_remaining(0.0)
        return pace.prefill_ms(spec.prompt_tokens) + pace.step_ms(spec.prompt_tokens) * length

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """Minus the response ratio."""
        return (0.0, -1.0 - (now_ms - job.arrival_ms) / max(job.cost, 1e-3))
