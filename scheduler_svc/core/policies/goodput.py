"""Goodput per time (JITServe / Tempo, arXiv 2504.20068): what serving a request earns, over how long it takes."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy, context_tokens, prefill_left_tokens
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class Goodput(Policy):
    """Greatest goodput / time to generate first.

    Goodput is what counts if the request still meets its target: its tokens, or 1 a request. Time to generate is that
    of the upper quantile of its length, smaller as tokens arrive. A request that can no longer meet its target counts
    with `missed_weight` of its goodput; a running one with `running_gain` times its priority, so that it is displaced
    only for a gain that pays for the stall. The paper also picks groups by input length; here it does not.
    """

    name = "goodput"
    summary = "JITServe: goodput over time to generate (upper-quantile length); what would miss its SLO goes last"
    ages = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/goodput.md."""

        length_level: float = option(0.9, "quantile of the length that is reckoned with", least=0.5, most=0.99)
        earns: str = option("tokens", "what a request that meets its target earns", choices=("tokens", "requests"))
        missed_weight: float = option(0.01, "of a request that will miss its target", least=0.0, most=1.0)
        running_gain: float = option(1.2, "a waiting request must be better by this factor", least=1.0, most=100.0)

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """At arrival and after every window."""
        return True

    def cost(self, job: Job, pace: Pace) -> float:
        """Time to generate what is left, ms. `job.state`: its whole length at that quantile, tokens."""
        upper = job.distribution.quantile(self.options.length_level, job.output_tokens)
        job.state = upper
        left = max(upper - job.output_tokens, 1.0)
        return pace.prefill_ms(prefill_left_tokens(job)) + pace.step_ms(context_tokens(job)) * left

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """Minus the goodput per ms."""
        options, spec = self.options, job.spec
        upper = job.state if isinstance(job.state, float) else 1.0
        due_ms = float("inf")
        if spec.latency_sensitive:
            due_ms = job.arrival_ms + spec.ttft_ms + spec.tpot_ms * upper
        elif spec.completion_ms is not None:
            due_ms = job.arrival_ms + spec.completion_ms
        earned = upper if options.earns == "tokens" else 1.0
        if now_ms + job.cost > due_ms:
            earned *= options.missed_weight
        if job.seated:
            earned *= options.running_gain
        return (0.0, -earned / max(job.cost, 1e-3))

    def rules(self) -> Rules:
        """A better-ranked job takes a worse one's seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
