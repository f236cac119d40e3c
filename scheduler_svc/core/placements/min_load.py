"""The least loaded worker, by requests."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler_svc.core.placements.base import Placement
from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView


class MinLoad(Placement):
    """Fewest requests for its seats (ELIS's min-load balancer, arXiv 2505.09142)."""

    name = "min_load"
    summary = "the worker with the fewest requests for its seats"

    def pick(self, job: Job, workers: Sequence[WorkerView], rules: Rules) -> WorkerView:  # noqa: ARG002
        """Least placed / seats."""
        return min(workers, key=lambda worker: (worker.placed / worker.seats(rules), worker.up.worker))
