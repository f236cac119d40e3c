"""A policy of one's own: whoever is short for certain takes the express lane. See docs/writing-a-policy.md."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules

EXPRESS, NORMAL = 0.0, 1.0


class ExpressLane(Policy):
    """Two lanes, each first come, first served; who waited long enough changes into the first."""

    name = "express_lane"
    summary = "requests that will be short for certain first; the others wait at most patience_ms behind them"
    ages = True  # patience ends while nothing else happens to a request

    @dataclass(frozen=True, slots=True)
    class Options:
        """What an operator may set."""

        short_tokens: int = option(200, "longest answer of the express lane, tokens", least=1, most=1_000_000)
        certainty: float = option(0.8, "probability that it is no longer than that", least=0.01, most=0.99)
        patience_ms: float = option(30_000.0, "wait after which a request changes lanes", least=0, most=86_400_000)

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """At arrival only; afterwards the distribution itself is conditioned on the tokens that are out."""
        return generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """The length that the answer stays below with that certainty, tokens."""
        return job.distribution.quantile(self.options.certainty, job.output_tokens)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """The lane, then the arrival."""
        patient = now_ms - job.arrival_ms < self.options.patience_ms
        return (NORMAL if patient and job.cost > self.options.short_tokens else EXPRESS, job.arrival_ms)

    def rules(self) -> Rules:
        """A better-ranked request takes the seat of a running one, which keeps its KV cache."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
