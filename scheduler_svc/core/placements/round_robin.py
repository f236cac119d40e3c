"""Each worker in its turn."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler_svc.core.placements.base import Placement
from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView


class RoundRobin(Placement):
    """The next one by name that has room, for each model in a turn of its own; blind to load and length."""

    name = "round_robin"
    summary = "the next worker in turn that has room; blind to load"

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def pick(self, job: Job, workers: Sequence[WorkerView], rules: Rules) -> WorkerView:  # noqa: ARG002
        """The first after the last one that was picked."""
        last = self._last.get(job.spec.model, "")
        in_order = sorted(workers, key=lambda worker: worker.up.worker)
        chosen = next((worker for worker in in_order if worker.up.worker > last), in_order[0])
        self._last[job.spec.model] = chosen.up.worker
        return chosen
