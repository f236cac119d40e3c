"""Gittins index of the length distribution, all classes alike (Gittins 1989; Scully, Grosof & Harchol-Balter, "SOAP",
2018; Mitzenmacher & Shahout, "Queueing, Predictions, and LLMs", 2025)."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy, context_tokens, prefill_left_tokens
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class Gittins(Policy):
    """Smallest cost = 1 / Gittins index first, in ms of work: prefill left, then decode.

    Minimises mean completion time over one server when the lengths are known only as distributions. Classes and SLOs
    play no part: `slo` uses the same cost inside BE.
    """

    name = "gittins"
    summary = "class-blind Gittins index of the length distribution: least mean completion time"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/gittins.md."""

        running_factor: float = option(
            0.3, "a running request's cost counts this much, so that near-ties do not swap seats", least=0.01, most=1.0
        )

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """At arrival and after every window."""
        return True

    def cost(self, job: Job, pace: Pace) -> float:
        """Gittins cost, ms of work."""
        per_token = pace.ms_per_token(context_tokens(job))
        return job.distribution.gittins_cost_ms(job.output_tokens, per_token, pace.prefill_ms(prefill_left_tokens(job)))

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """The cost, less while it runs."""
        return (0.0, job.cost * (self.options.running_factor if job.seated else 1.0))

    def rules(self) -> Rules:
        """A better-ranked job takes a worse one's seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
