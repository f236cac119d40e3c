"""Deadline and work in one number (Niyama / QoServe, arXiv 2503.22562): alpha slides from EDF to shortest first."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy, prefill_left_tokens
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class HybridSlo(Policy):
    """Smallest P first, in ms.

    LS: P = arrival + TTFT target + alpha x prefill tokens left. BE: P = arrival + completion target + alpha x (prefill
    and decode tokens left). alpha = 0 is earliest deadline first, a large alpha shortest remaining first. LS decodes
    come before everything else; a BE decode may be paused. The paper also sizes prefill chunks by slack and relegates
    what would miss: `chunking: slack` and `overload: relegate` beside this policy.
    """

    name = "hybrid_slo"
    summary = "Niyama: deadline + alpha x work left; LS decodes are never displaced"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/hybrid_slo.md."""

        alpha_ms: float = option(8.0, "delay that one token of work left is worth", least=0.0, most=10_000.0)
        be_completion_ms: float = option(
            600_000.0, "completion target of a BE request that states none", least=1.0, most=86_400_000.0
        )

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:
        """BE only: LS is not ordered by length."""
        return not job.spec.latency_sensitive and generated_tokens == 0

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """Tokens of work left: prefill, and for BE decode."""
        decode = 0.0 if job.spec.latency_sensitive else job.distribution.mean_remaining(job.output_tokens)
        return prefill_left_tokens(job) + decode

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """LS decodes, then all else; each by P."""
        spec, options = job.spec, self.options
        job.review_at = job.base_tokens + 1.0 if job.output_tokens <= job.base_tokens else float("inf")
        if spec.latency_sensitive:
            decoding = job.worker is not None and prefill_left_tokens(job) == 0
            work = prefill_left_tokens(job)
            return (0.0 if decoding else 1.0, job.arrival_ms + spec.ttft_ms + options.alpha_ms * work)
        target_ms = options.be_completion_ms if spec.completion_ms is None else spec.completion_ms
        return (1.0, job.arrival_ms + target_ms + options.alpha_ms * job.cost)

    def rules(self) -> Rules:
        """A smaller P takes a seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
