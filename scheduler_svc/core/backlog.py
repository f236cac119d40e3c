"""What waits for a worker: the jobs of one model, in the policy's order inside bands of fairness, and by age."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

from sortedcontainers import SortedDict, SortedList

from scheduler_svc.core.fairness import EVERYBODY, Group
from scheduler_svc.core.tally import Tally
from scheduler_svc.core.types import Job
from scheduler_svc.core.workers import Key

DUE_STEP_MS = 20.0

Stage = tuple[float, float]
"""(band, tier): what is tried together when something is to be placed."""
_Ranked = tuple[tuple[float, float], int]
_Head = tuple[float, tuple[float, float], int, Group]


def due_step(due_ms: float) -> int:
    """The step of `ls_prefill` that a due time falls into."""
    return int(due_ms // DUE_STEP_MS)


def _no_ranked() -> SortedList[_Ranked]:
    return SortedList()


class _Waiting:
    """The waiting jobs of one group (a tenant's, in one lane), in the policy's order and by age."""

    __slots__ = ("band", "by_age", "head", "ranked")

    def __init__(self, band: float) -> None:
        self.band = band
        self.ranked = _no_ranked()
        self.by_age: SortedDict[tuple[float, int], Job] = SortedDict()
        self.head: _Head | None = None


class Backlog:
    """Waiting jobs of one model; each operation costs O(log n).

    Args:
        group: whom a job is ordered among by the policy alone.
        band: of such a group; the caller tells when it changes.

    Attributes:
        tally: sums over all of them.
        ls_prefill: prompt tokens of the waiting LS jobs by when their first token is due, in units of `DUE_STEP_MS`.
    """

    def __init__(self, group: Callable[[Job], Group], band: Callable[[Group], float]) -> None:
        self._group_of = group
        self._band_of = band
        self._groups: dict[Group, _Waiting] = {}
        self._heads: SortedList[_Head] = SortedList()
        self._jobs: dict[int, Job] = {}
        self._groups_of: dict[int, Group] = {}
        self.tally = Tally()
        self.ls_prefill: SortedDict[int, int] = SortedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: Job) -> bool:
        return job.job_id in self._jobs

    def put(self, job: Job) -> None:
        """Adds a job under its present key."""
        self._jobs[job.job_id] = job
        self._rank(job)
        self.tally.put(job)
        if job.spec.latency_sensitive:
            self._add_prefill(job, 1)

    def take(self, job: Job) -> None:
        """Removes a job that stands under its present key."""
        del self._jobs[job.job_id]
        self._unrank(job)
        self.tally.take(job)
        if job.spec.latency_sensitive:
            self._add_prefill(job, -1)

    def rekey(self, job: Job, key: tuple[float, float]) -> None:
        """Moves a waiting job to another key."""
        if key != job.key:
            waiting = self._groups[self._groups_of[job.job_id]]
            waiting.ranked.remove((job.key, job.job_id))
            waiting.ranked.add((key, job.job_id))
            job.key = key
            self._head_changed(self._groups_of[job.job_id], waiting)

    def reband(self, group: Group) -> None:
        """The band of a group has changed."""
        waiting = self._groups.get(group)
        if waiting is not None:
            waiting.band = self._band_of(group)
            self._head_changed(group, waiting)

    def regroup(self) -> None:
        """Other groups, or other bands of all of them."""
        self._groups.clear()
        self._heads.clear()
        for job in self._jobs.values():
            self._rank(job)

    def ahead_of(self, band: float, key: tuple[float, float]) -> int:
        """How many stand before a job that comes now with this key: ties go to the older one."""
        return self._before(band, (key, math.inf))

    def place_of(self, job: Job) -> int:
        """How many stand before a job that waits here."""
        return self._before(self._groups[self._groups_of[job.job_id]].band, (job.key, job.job_id))

    def ids(self) -> Iterable[int]:
        """All of them, oldest first."""
        return self._jobs.keys()

    def best_first(self, stage: Stage | None = None) -> Iterator[Job]:
        """In order; from the first job of this stage on, if one is named."""
        ahead: list[tuple[float, tuple[float, float], int, Iterator[_Ranked]]] = []
        if stage is None:
            heads = iter(self._heads)
        else:
            band, tier = stage
            first = ((tier, -math.inf), -1)
            begin: _Head = (band, *first, EVERYBODY)
            for _, _, _, group in self._heads.irange((band, (-math.inf, 0.0), -1, EVERYBODY), begin):
                _push(ahead, band, self._groups[group].ranked.irange(first))
            heads = self._heads.irange(begin)
        head = next(heads, None)
        while head is not None or ahead:
            if ahead and (head is None or ahead[0][:3] < head[:3]):
                band, _, job_id, rest = heappop(ahead)
            else:
                assert head is not None
                band, job_id, rest = head[0], head[2], iter(self._groups[head[3]].ranked)
                next(rest)
                head = next(heads, None)
            yield self._jobs[job_id]
            _push(ahead, band, rest)

    def stage_of(self, job: Job) -> Stage:
        """What a waiting job is tried together with."""
        return (self._groups[self._groups_of[job.job_id]].band, job.key[0])

    def rank_of(self, job: Job) -> Key:
        """Where a waiting job stands in the whole order."""
        return (self._groups[self._groups_of[job.job_id]].band, *job.key)

    def oldest_best_effort(self) -> Job | None:
        """The BE job that the BE share serves next: of the tenants of the lowest band, the one that arrived first."""
        band: float | None = None
        oldest: tuple[tuple[float, int], Job] | None = None
        for head in self._heads:
            waiting = self._groups[head[3]]
            if not waiting.by_age:
                continue
            if band is not None and head[0] != band:
                break
            band = head[0]
            found = waiting.by_age.peekitem(0)
            if oldest is None or found[0] < oldest[0]:
                oldest = found
        return None if oldest is None else oldest[1]

    def _rank(self, job: Job) -> None:
        group = self._groups_of[job.job_id] = self._group_of(job)
        waiting = self._groups.get(group)
        if waiting is None:
            waiting = self._groups[group] = _Waiting(self._band_of(group))
        waiting.ranked.add((job.key, job.job_id))
        if not job.spec.latency_sensitive:
            waiting.by_age[job.arrival_ms, job.job_id] = job
        self._head_changed(group, waiting)

    def _unrank(self, job: Job) -> None:
        group = self._groups_of.pop(job.job_id)
        waiting = self._groups[group]
        waiting.ranked.remove((job.key, job.job_id))
        if not job.spec.latency_sensitive:
            del waiting.by_age[job.arrival_ms, job.job_id]
        self._head_changed(group, waiting)
        if not waiting.ranked:
            del self._groups[group]

    def _head_changed(self, group: Group, waiting: _Waiting) -> None:
        head = (waiting.band, *waiting.ranked[0], group) if waiting.ranked else None
        if head == waiting.head:
            return
        if waiting.head is not None:
            self._heads.remove(waiting.head)
        if head is not None:
            self._heads.add(head)
        waiting.head = head

    def _before(self, band: float, ranked: tuple[tuple[float, float], float]) -> int:
        count = 0
        for waiting in self._groups.values():
            if waiting.band < band:
                count += len(waiting.ranked)
            elif waiting.band == band:
                count += waiting.ranked.bisect_left(ranked)  # pyright: ignore[reportArgumentType]
        return count

    def _add_prefill(self, job: Job, sign: int) -> None:
        due = due_step(job.arrival_ms + job.spec.ttft_ms)
        left = self.ls_prefill.get(due, 0) + sign * (job.spec.prompt_tokens + job.base_tokens)
        if left:
            self.ls_prefill[due] = left
        else:
            self.ls_prefill.pop(due, None)


def _push(
    ahead: list[tuple[float, tuple[float, float], int, Iterator[_Ranked]]], band: float, rest: Iterator[_Ranked]
) -> None:
    following = next(rest, None)
    if following is not None:
        heappush(ahead, (band, *following, rest))
