"""Earliest deadline first (Liu & Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time
Environment", JACM 1973, section 7)."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


class Edf(Policy):
    """By deadline, fixed at arrival: LS by its first token's, BE by its completion's.

    The deadline of an LS request stays that of its first token while it decodes, so that one which has begun goes on
    before those that are due later.
    """

    name = "edf"
    summary = "earliest deadline first: LS by TTFT target, BE by completion target; no prediction"
    follows_progress = False

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/edf.md."""

        be_completion_ms: float = option(
            300_000.0, "completion target of a BE request that states none", least=1.0, most=86_400_000.0
        )
        preempt: bool = option(True, "an earlier deadline takes a running request's seat; its KV cache is kept")

    options: Options

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """When it is due."""
        spec = job.spec
        if spec.latency_sensitive:
            return (0.0, job.arrival_ms + spec.ttft_ms)
        target_ms = self.options.be_completion_ms if spec.completion_ms is None else spec.completion_ms
        return (0.0, job.arrival_ms + target_ms)

    def rules(self) -> Rules:
        """Preemptive, unless switched off."""
        return Rules(displace=self.options.preempt, step_seats=self.settings.step_seats)
