"""Memory over time (LAMPS, arXiv 2410.18248): the KV cache that a request will hold, for as long as it will."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Pace, Policy, context_tokens, prefill_left_tokens
from scheduler_svc.core.types import Job, Rules


class MemoryTime(Policy):
    """Smallest area of KV tokens x ms still to be held first.

    A short answer to a long prompt can cost more memory than a long answer to a short one; length alone does not see
    it. The paper's choice of what to do with the cache during a tool call (preserve, discard, swap) is not here.
    """

    name = "memory_time"
    summary = "LAMPS: least KV memory x time still to be held first"

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """At arrival and after every window."""
        return True

    def cost(self, job: Job, pace: Pace) -> float:
        """Area, token ms: half the prompt during prefill, then the context, longer by one token a step."""
        left = job.distribution.mean_remaining(job.output_tokens)
        context, prefill = context_tokens(job), prefill_left_tokens(job)
        decode = pace.step_ms(context) * (context * left + left * left / 2)
        return prefill / 2 * pace.prefill_ms(prefill) + decode

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """The area."""
        return (0.0, job.cost)

    def rules(self) -> Rules:
        """A better-ranked job takes a worse one's seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
