"""What waits for a worker: the jobs of one model, in the policy's order and by age."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from sortedcontainers import SortedDict, SortedList

from scheduler_svc.core.tally import Tally
from scheduler_svc.core.types import Job
from scheduler_svc.core.workers import Ranked

DUE_STEP_MS = 20.0


def due_step(due_ms: float) -> int:
    """The step of `ls_prefill` that a due time falls into."""
    return int(due_ms // DUE_STEP_MS)


class Backlog:
    """Waiting jobs of one model; each operation costs O(log n).

    Attributes:
        tally: sums over all of them.
        ls_prefill: prompt tokens of the waiting LS jobs by when their first token is due, in units of `DUE_STEP_MS`.
    """

    def __init__(self) -> None:
        self._order: SortedList[Ranked] = SortedList()
        self._jobs: dict[int, Job] = {}
        self._best_effort: SortedDict[tuple[float, int], Job] = SortedDict()
        self.tally = Tally()
        self.ls_prefill: SortedDict[int, int] = SortedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return job.job_id in self._jobs

    def put(self, job: Job) -> None:
        """Adds a job under its present key."""
        self._jobs[job.job_id] = job
        self._order.add((job.key, job.job_id))
        self.tally.put(job)
        if job.spec.latency_sensitive:
            self._add_prefill(job, 1)
        else:
            self._best_effort[(job.arrival_ms, job.job_id)] = job

    def take(self, job: Job) -> None:
        """Removes a job that stands under its present key."""
        del self._jobs[job.job_id]
        self._order.remove((job.key, job.job_id))
        self.tally.take(job)
        if job.spec.latency_sensitive:
            self._add_prefill(job, -1)
        else:
            del self._best_effort[(job.arrival_ms, job.job_id)]

    def rekey(self, job: Job, key: tuple[float, float]) -> None:
        """Moves a waiting job to another key."""
        if key != job.key:
            self._order.remove((job.key, job.job_id))
            self._order.add((key, job.job_id))
            job.key = key

    def ahead_of(self, key: tuple[float, float]) -> int:
        """How many stand before a job that comes now with this key: ties go to the older one."""
        return self._order.bisect_right((key, sys.maxsize))

    def place_of(self, job: Job) -> int:
        """How many stand before a job that waits here."""
        return self._order.bisect_left((job.key, job.job_id))

    def _add_prefill(self, job: Job, sign: int) -> None:
        due = due_step(job.arrival_ms + job.spec.ttft_ms)
        left = self.ls_prefill.get(due, 0) + sign * (job.spec.prompt_tokens + job.base_tokens)
        if left:
            self.ls_prefill[due] = left
        else:
            self.ls_prefill.pop(due, None)

    def ids(self) -> Iterable[int]:
        """All of them, oldest first."""
        return self._jobs.keys()

    def best_first(self, tier: float | None = None) -> Iterator[Job]:
        """In order; from the first job of `tier` on, if one is named."""
        ranked = self._order.irange() if tier is None else self._order.irange(((tier, float("-inf")), -1))
        return (self._jobs[job_id] for _, job_id in ranked)

    def oldest_best_effort(self) -> Job | None:
        """The BE job that arrived first."""
        return self._best_effort.peekitem(0)[1] if self._best_effort else None
