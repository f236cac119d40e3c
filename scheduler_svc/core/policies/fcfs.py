"""First come, first served: what an engine does by itself."""

from __future__ import annotations

from scheduler_svc.core.policies.base import Policy


class Fcfs(Policy):
    """By arrival; who runs, runs on. No prediction, no classes, no starvation, and no protection from long work."""

    name = "fcfs"
    summary = "first come, first served; no classes, no prediction"
    follows_progress = False
