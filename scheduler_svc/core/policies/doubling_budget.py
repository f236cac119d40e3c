"""Budgets that double (SeaLLM, arXiv 2504.15720): safe against predictions that are far too small."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class DoublingBudget(Policy):
    """Smallest budget first; a request that overruns its budget gets twice as much and the lower rank that goes with
    it.

    The first budget is what is predicted. A length that was predicted k times too small is found out after at most
    log2(k) + 1 overruns, in each of which it was served as long as it had been promised.
    """

    name = "doubling_budget"
    summary = "SeaLLM: by token budget; on overrun the budget doubles and the priority drops"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/doubling_budget.md."""

        least_tokens: int = option(16, "smallest first budget", least=1, most=1_000_000)
        slack: float = option(1.0, "first budget over the predicted mean", least=0.01, most=100.0)

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """First budget, tokens."""
        mean = (job.predicted or job.distribution).mean_remaining(0.0)
        return float(max(self.options.least_tokens, math.ceil(self.options.slack * mean)))

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """The budget in force."""
        budget = job.cost
        while budget <= job.output_tokens:
            budget *= 2.0
        job.review_at = budget
        return (0.0, budget)

    def rules(self) -> Rules:
        """A smaller budget takes a seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
