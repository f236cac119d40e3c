"""Scheduling by the lower end of a predicted interval (algorithm A_min of arXiv 2508.14544)."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job


class IntervalMin(Policy):
    """Smallest lower bound first; the bound rises to the tokens that are out once they exceed it.

    Of the interval [l, u] only l is used, as if it were the length. Who runs, runs on; where KV blocks run out, the
    running request with the smallest bound loses its own (it has the least to recompute), and comes back with the bound
    that it has reached.
    """

    name = "interval_min"
    summary = "A_min: the lower end of the predicted interval counts as the length and rises as tokens exceed it"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/interval_min.md."""

        lower_level: float = option(0.1, "quantile of the first prediction that is the lower end", least=0.0, most=0.9)

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """The lower bound as predicted, tokens."""
        return (job.predicted or job.distribution).quantile(self.options.lower_level)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Those that run, greatest bound first (victims come from the end); then the waiting, smallest first."""
        bound = max(job.cost, float(job.output_tokens))
        return (0.0, -bound) if job.seated else (1.0, bound)
