"""Mean plus tail penalty (TIE, arXiv 2604.00499): the length is a heavy-tailed distribution, not a number."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


def cvar_remaining(distribution: LengthDistribution, level: float, a: float) -> float:
    """Conditional value at risk: E[L - a | L beyond its `level` quantile, L > a], in tokens.

    Rockafellar & Uryasev, "Optimization of Conditional Value-at-Risk", 2000: for a continuous law the mean of the worst
    1 - level.
    """
    quantile = distribution.quantile(level, a)
    beyond = quantile + distribution.mean_remaining(quantile)
    return max(min(beyond, distribution.max_tokens) - max(a, distribution.generated_tokens), 1.0)


class TailPenalty(Policy):
    """Smallest E[L] + weight x CVaR first: of two with one mean, the one that may run away goes later.

    One prediction, at arrival. `preempt` orders by what is left of both given the tokens that are out, and displaces.
    """

    name = "tail_penalty"
    summary = "TIE: mean length plus a penalty for its tail (CVaR); one prediction"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/tail_penalty.md."""

        weight: float = option(1.0, "of the tail beside the mean", least=0.0, most=1000.0)
        tail_level: float = option(0.9, "quantile at which the tail begins", least=0.0, most=0.999)
        preempt: bool = option(False, "a better-ranked request takes a running one's seat; its KV cache is kept")

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """Mean and weighted tail, tokens."""
        options = self.options
        distribution, a = (job.predicted or job.distribution), 0
        if options.preempt:
            distribution, a = job.distribution, job.output_tokens
        return distribution.mean_remaining(a) + options.weight * cvar_remaining(distribution, options.tail_level, a)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Mean and weighted tail."""
        return (0.0, job.cost)

    def rules(self) -> Rules:
        """Displaces only where asked to."""
        return Rules(displace=self.options.preempt, step_seats=self.settings.step_seats)
