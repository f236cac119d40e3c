"""What waits for a worker: the jobs of one model, in the policy's order and by age."""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict, SortedList

from scheduler_svc.core.types import Job
from scheduler_svc.core.workers import Ranked


class Backlog:
    """Waiting jobs of one model; each operation costs O(log n)."""

    def __init__(self) -> None:
        self._order: SortedList[Ranked] = SortedList()
        self._jobs: dict[int, Job] = {}
        self._best_effort: SortedDict[tuple[float, int], Job] = SortedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Adds a job under its present key."""
        self._jobs[job.job_id] = job
        self._order.add((job.key, job.job_id))
        if not job.spec.latency_sensitive:
            self._best_effort[(job.arrival_ms, job.job_id)] = job

    def take(self, job: Job) -> None:
        """Removes a job that stands under its present key."""
        del self._jobs[job.job_id]
        self._order.remove((job.key, job.job_id))
        if not job.spec.latency_sensitive:
            del self._best_effort[(job.arrival_ms, job.job_id)]

    def rekey(self, job: Job, key: tuple[float, float]) -> None:
        """Moves a waiting job to another key."""
        if key != job.key:
            self._order.remove((job.key, job.job_id))
            self._order.add((key, job.job_id))
            job.key = key

    def jobs(self) -> list[Job]:
        """All of them, in no stated order."""
        return list(self._jobs.values())

    def best_first(self, tier: float | None = None) -> Iterator[Job]:
        """In order; from the first job of `tier` on, if one is named."""
        ranked = self._order.irange() if tier is None else self._order.irange(((tier, float("-inf")), -1))
        return (self._jobs[job_id] for _, job_id in ranked)

    def oldest_best_effort(self) -> Job | None:
        """The BE job that arrived first."""
        return self._best_effort.peekitem(0)[1] if self._best_effort else None
