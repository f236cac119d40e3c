"""vLLM's static priority, for comparison: class first, then first come, first served."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Policy
from scheduler_svc.core.types import Job


class Priority(Policy):
    """LS before BE, each by arrival; who runs, runs on.

    What `--scheduling-policy priority` of vLLM (PagedAttention, arXiv 2309.06180) does with priority 0 for LS and 1 for
    BE: the waiting ones are sorted by (priority, arrival), nothing is paused for a seat, and where KV blocks run out
    the worst-ranked resident loses its own. No step budget: a long prefill stalls every decode beside it.
    """

    name = "priority"
    summary = "vLLM's static priority: LS before BE, each by arrival; no pauses, no step budget"
    classes_apart = True
    follows_progress = False

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Class, then arrival."""
        return (0.0 if job.spec.latency_sensitive else 1.0, job.arrival_ms)
