"""What the core knows of one worker: its size, its pace, and the ordered jobs placed on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sortedcontainers import SortedList

from scheduler_svc.core.memory import Peak
from scheduler_svc.core.policies.base import Pace
from scheduler_svc.core.tally import Tally
from scheduler_svc.core.types import Job, Rules, StepCost, WorkerUp

Key = tuple[float, float, float]
"""(band, tier, value): where a job stands; the first is fairness's, the others are the policy's."""
Ranked = tuple[Key, int]
"""(key, job_id): the job_id breaks ties, oldest first."""


NEVER = (-math.inf, -math.inf, -math.inf)
ALWAYS = (math.inf, math.inf, math.inf)
NOBODY = (math.inf, math.inf)


def _no_order() -> SortedList[Ranked]:
    return SortedList()


def _none_best_effort() -> SortedList[tuple[float, float, int]]:
    return SortedList()


@dataclass(slots=True)
class WorkerView:
    """One incarnation of a worker.

    Attributes:
        jobs: live jobs placed here, by id.
        order: the same, by key.
        leaving: ended jobs that the worker has not yet said it let go of; they still hold their slots.
        full: it refused an assignment for want of room; nothing is placed until something leaves.
        relative_error: of its step-time model; None while it has told none.
        tally: sums over `jobs`.
        peak: predicted memory of `jobs`; None: to be reckoned again.
        first_in_share: (band, arrival) of the BE job here that the BE share serves first; infinite where there is none.
        entry: below which keys an LS and a BE job would find room (`placement.py`); None: to be looked at again.
        rules_sent, order_sent: what it was last told.
        next_rank: behind every rank that it knows.
    """

    up: WorkerUp
    cost: StepCost
    draining: bool = False
    full: bool = False
    relative_error: float | None = None
    tally: Tally = field(default_factory=Tally)
    peak: Peak | None = None
    entry: tuple[Key, Key] | None = None
    first_in_share: tuple[float, float] = NOBODY
    jobs: dict[int, Job] = field(default_factory=dict[int, Job])
    order: SortedList[Ranked] = field(default_factory=_no_order)
    leaving: set[int] = field(default_factory=set[int])
    rules_sent: Rules | None = None
    order_sent: tuple[int, ...] = ()
    next_rank: int = 0
    _best_effort: SortedList[tuple[float, float, int]] = field(default_factory=_none_best_effort)
    _keys: dict[int, Key] = field(default_factory=dict[int, Key])

    @property
    def placed(self) -> int:
        """Jobs that hold or will hold a slot."""
        return len(self.jobs) + len(self.leaving)

    def seats(self, rules: Rules) -> int:
        """Places in one of its steps under `rules`."""
        return min(self.up.slots, self.up.step_seats if rules.step_seats is None else rules.step_seats)

    def pace(self, rules: Rules) -> Pace:
        """What work costs here."""
        return Pace(self.cost, max(1, self.seats(rules)))

    def put(self, job: Job, band: float) -> None:
        """Adds a job under its present key, in this band."""
        self.jobs[job.job_id] = job
        self._stand(job, band)
        self.tally.put(job)
        self.peak = None

    def take(self, job: Job) -> None:
        """Removes a job."""
        del self.jobs[job.job_id]
        self._stand_no_more(job)
        self.tally.take(job)
        self.peak = None

    def rekey(self, job: Job, band: float | None = None) -> None:
        """Moves a job to its present key, in the band in which it entered or in another."""
        entered = self._stand_no_more(job)
        self._stand(job, entered if band is None else band)

    def rank_of(self, job: Job) -> Key:
        """Where a job stands."""
        return self._keys[job.job_id]

    def place_of(self, job: Job) -> int:
        """How many stand before a job that is placed here."""
        return self.order.bisect_left((self._keys[job.job_id], job.job_id))

    def _stand(self, job: Job, band: float) -> None:
        key = self._keys[job.job_id] = (band, *job.key)
        self.order.add((key, job.job_id))
        if not job.spec.latency_sensitive:
            self._best_effort.add((band, job.arrival_ms, job.job_id))
            self.first_in_share = self._best_effort[0][:2]
        self.entry = None

    def _stand_no_more(self, job: Job) -> float:
        key = self._keys.pop(job.job_id)
        self.order.remove((key, job.job_id))
        if not job.spec.latency_sensitive:
            self._best_effort.remove((key[0], job.arrival_ms, job.job_id))
            self.first_in_share = self._best_effort[0][:2] if self._best_effort else NOBODY
        self.entry = None
        return key[0]

    def last_seat_key(self, seats: int) -> Key | None:
        """Key of the job in the last seat; None while seats are free."""
        return self.order[seats - 1][0] if len(self.order) >= seats else None
