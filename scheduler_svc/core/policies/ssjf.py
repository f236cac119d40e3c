"""Speculative shortest job first (Qiu et al., "Efficient Interactive LLM Serving with Proxy Model-based Sequence Length
Prediction", arXiv 2404.08509)."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.types import Job


class Ssjf(Policy):
    """Shortest predicted time first, of what waits; who runs, runs on.

    One prediction, at arrival; predicted time = constant + time per token x predicted length. Here the constant is the
    prompt's prefill, and the time per token comes from the worker's own step-time model.
    """

    name = "ssjf"
    summary = "SSJF: shortest predicted time first among the waiting, one prediction, never displaces"

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:
        """Predicted time of the whole request, ms."""
        length = (job.predicted or job.distribution).mean_remaining(0.0)
        return pace.prefill_ms(job.spec.prompt_tokens) + pace.ms_per_token(job.spec.prompt_tokens) * length

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Predicted time."""
        return (0.0, job.cost)
