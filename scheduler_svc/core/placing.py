"""One round of placing: who of those that wait for a model enters which of its workers now."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, takewhile

from scheduler_svc.core.backlog import Backlog, Stage
from scheduler_svc.core.fairness import CLASS_BAND, FairShares
from scheduler_svc.core.placement import Gate
from scheduler_svc.core.types import Job
from scheduler_svc.core.workers import Key, WorkerView

MEMORY_TRIES = 8
"""Waiting jobs of one stage that are tried in turn, where the best one's predicted memory does not fit."""
BANDS_PAST = 1.0
"""How many bands may pass one in which somebody waits for memory; more would let small requests pass large ones for
ever (I7)."""


def _no_limits() -> dict[float, float]:
    return {0.0: math.inf, CLASS_BAND: math.inf}


@dataclass(slots=True)
class Round:
    """A round for one model.

    Attributes:
        backlog, workers: of the model; there is at least one of either.
        gate: says who has room.
        fair: the tenants' counters.
        assign: carries a placement out.
    """

    backlog: Backlog
    workers: list[WorkerView]
    gate: Gate
    fair: FairShares
    assign: Callable[[Job, WorkerView], None]
    _last_band: dict[float, float] = field(default_factory=_no_limits)

    def share(self) -> None:
        """Lets the BE job that goes first into each worker that holds none which goes before it (I6)."""
        oldest = self.backlog.oldest_best_effort()
        band = self.fair.band_of(oldest) if oldest is not None else 0.0
        for worker in self.workers:
            if oldest is None:
                return
            if self.gate.has_share_room(worker, oldest, band):
                self.assign(oldest, worker)
                oldest = self.backlog.oldest_best_effort()
                band = self.fair.band_of(oldest) if oldest is not None else 0.0

    def longest_first(self) -> None:
        """Whom the order lets in at once goes in by work, longest first; who they are is still the order's."""
        free = sum(self.gate.free_seats(worker) for worker in self.workers)
        first = next(self.backlog.best_first(), None)
        if first is None:
            return
        last_band = self.backlog.stage_of(first)[0] + BANDS_PAST
        in_bands = takewhile(lambda job: self.backlog.stage_of(job)[0] <= last_band, self.backlog.best_first())
        for job in sorted(islice(in_bands, free), key=lambda job: (-job.remaining_mean, job.job_id)):
            worker = self.gate.choose(job, self.backlog.rank_of(job), self.workers)
            if worker is not None:
                self.assign(job, worker)

    def in_order(self) -> None:
        """Stage by stage, that is, by band and tier: the first of a stage that finds room, until none does."""
        stage: Stage | None = None
        widest = self.gate.widest(self.workers)
        while True:
            candidates = list(islice(self.backlog.best_first(stage), MEMORY_TRIES))
            if not candidates:
                return
            stage = self.backlog.stage_of(candidates[0])
            lane = CLASS_BAND if stage[0] >= CLASS_BAND else 0.0
            if stage[0] > self._last_band[lane] or self._closed(lane, self.backlog.rank_of(candidates[0]), widest):
                if lane or not self.fair.rules.apart:
                    return
                stage = (CLASS_BAND, -math.inf)
            elif self._place_one(candidates, stage, lane, widest):
                widest = self.gate.widest(self.workers)
            else:
                stage = (stage[0], stage[1] + 1.0)

    def _closed(self, lane: float, best: Key, widest: tuple[Key, Key]) -> bool:
        """Whether nobody from `best` on in its lane finds room anywhere."""
        return best >= (widest[1 if lane else 0] if self.fair.rules.apart else max(widest))

    def _place_one(self, candidates: list[Job], stage: Stage, lane: float, widest: tuple[Key, Key]) -> bool:
        """Places the first of `candidates` in `stage` that finds room; False where none does."""
        for job in candidates:
            if self.backlog.stage_of(job) != stage:
                return False
            rank = self.backlog.rank_of(job)
            if rank >= widest[0 if job.spec.latency_sensitive else 1]:
                continue
            worker = self.gate.choose(job, rank, self.workers)
            if worker is not None:
                self.assign(job, worker)
                return True
            if self.fair.rules.on and self.gate.could_enter_later(job, self.workers):
                self._last_band[lane] = min(self._last_band[lane], stage[0] + BANDS_PAST)
        return False
