"""Learning to rank (Fu et al., "Efficient LLM Scheduling by Learning to Rank", arXiv 2408.15792, with its starvation
prevention)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class Rank(Policy):
    """By the ranker's score, fixed at arrival; who has waited past a threshold goes first for a quantum.

    Only the order of the scores matters, so any predictor serves; here the score is the first prediction's median. The
    paper counts idle iterations; here idleness is time without a token, looked at about once a second.
    """

    name = "rank"
    summary = "learning to rank: one score at arrival; waiting past a threshold promotes for a quantum of tokens"
    ages = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/rank.md."""

        threshold_ms: float = option(
            30_000.0, "time without a token after which a request is promoted", least=100.0, most=86_400_000.0
        )
        quantum_tokens: int = option(50, "tokens that a promoted request goes first for", least=1, most=1_000_000)

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """The score."""
        return (job.predicted or job.distribution).quantile(0.5)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """The promoted by age, then all others by score. `job.state`: when its promotion ends, in output tokens."""
        until = job.state if isinstance(job.state, float) else -1.0
        if job.output_tokens >= until:
            idle_ms = now_ms - (job.arrival_ms if job.last_token_ms is None else job.last_token_ms)
            if idle_ms < self.options.threshold_ms:
                job.state, job.review_at = None, math.inf
                return (1.0, job.cost)
            until = job.state = job.review_at = float(job.output_tokens + self.options.quantum_tokens)
        return (0.0, job.arrival_ms)

    def rules(self) -> Rules:
        """Waiting and running are sorted together, as in the paper."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
