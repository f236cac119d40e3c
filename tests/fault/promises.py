"""What a scheduler promises over time, watched while faults pass: bounded wait (I6) and fair shares (I7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from scheduler_svc.core.types import (
    AssignRefused,
    Decision,
    Event,
    Job,
    PolicyChanged,
    TenantsChanged,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)
from scheduler_svc.core.waiting import wait_bound_ms
from scheduler_svc.host import SchedulerHost

Report = Callable[[str], None]
OTHER_CAPACITY = (WorkerUp, WorkerLost, WorkerUpdated, PolicyChanged, TenantsChanged, AssignRefused)
"""After these a wait is promised anew: it is reckoned from the workers, the rules and the weights that there are."""


class WaitWatch:
    """A witness of I6: each waiting BE request begins within the wait that the core promises it.

    The promise is of the workers that there are. So it is taken anew when they change, and while a fault lasts, which
    the scheduler may not have noticed yet, none is held against it.

    Args:
        host: that has started.
        faulty: whether a fault lasts now.
        report: takes what is broken.

    Attributes:
        kept: promises that were kept so far.
    """

    def __init__(self, host: SchedulerHost, faulty: Callable[[], bool], report: Report) -> None:
        self.kept = 0
        self._core = host.shell.core
        self._faulty = faulty
        self._report = report
        self._promised: dict[int, tuple[Job, float]] = {}
        self._seen: set[int] = set()

    def saw(self, event: Event, at_ms: float) -> None:
        """Drops what was promised of other workers or other rules."""
        del at_ms
        if isinstance(event, OTHER_CAPACITY):
            self._forget()

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        """Holds promises against the clock, and takes those of requests that are new."""
        del decisions
        if self._faulty():
            self._forget()
            return
        for job_id, (job, until_ms) in list(self._promised.items()):
            begun_ms = now_ms if job.first_token_ms is None else job.first_token_ms
            if job.outcome is None and begun_ms > until_ms:
                self._report(f"I6: job {job_id} waited {begun_ms - until_ms:.0f} ms longer than was promised")
            if job.outcome is not None or job.first_token_ms is not None or begun_ms > until_ms:
                self.kept += begun_ms <= until_ms
                del self._promised[job_id]
        for job_id, job in self._core.live_jobs().items():
            if job_id not in self._seen and not job.started:
                self._seen.add(job_id)
                # Asked of the pool itself: the core promises nothing to one that has entered a worker in this tick.
                bound_ms = None if job.output_tokens else wait_bound_ms(self._core._dispatcher, job)
                if bound_ms is not None:
                    self._promised[job_id] = (job, now_ms + bound_ms)

    def _forget(self) -> None:
        self._promised.clear()
        self._seen.clear()


class ShareWatch:
    """A witness of I7: tenants that always wait are served alike, up to the bound of `core/fairness.py`.

    Args:
        host: that has started.
        whole_tokens: length of the whole answer of a request with this id.
        report: takes what is broken.
    """

    def __init__(self, host: SchedulerHost, whole_tokens: Callable[[str], int], report: Report) -> None:
        self._core = host.shell.core
        self._book = host.shell.book
        self._whole_tokens = whole_tokens
        self._report = report
        self._weights: dict[str, float] = {}
        self._jobs: dict[int, Job] = {}
        self._counted: dict[int, float] = {}
        self._served: dict[tuple[bool, str], float] = {}
        self._spread: dict[tuple[bool, str, str], tuple[float, float, float]] = {}
        self._reported: set[tuple[bool, str, str]] = set()

    def saw(self, event: Event, at_ms: float) -> None:
        """Other rules or other weights: whoever waits is looked at from here on."""
        del at_ms
        if isinstance(event, PolicyChanged | TenantsChanged):
            self._count()
            self._spread.clear()

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        """Counts what was served, and holds every two tenants that wait in one lane against each other."""
        del now_ms, decisions
        self._count()
        fair: Any = self._core._dispatcher.fair
        if not fair.rules.on:
            self._spread.clear()
            return
        waiting: set[tuple[bool, str]] = set()
        placed: dict[tuple[bool, str], float] = {}
        for job in self._jobs.values():
            lane = self._lane(job)
            if job.worker is None:
                waiting.add(lane)
            else:
                whole = job.spec.prompt_tokens + fair.rules.output_weight * self._answer_tokens(job)
                placed[lane] = placed.get(lane, 0.0) + max(whole, job.charged) / self._weight(lane[1])
        tenants = sorted({name for _, name in waiting})
        for behind in (False, True):
            most_placed = max((most for lane, most in placed.items() if lane[0] == behind), default=0.0)
            for one, other in combinations(tenants, 2):
                if {(behind, one), (behind, other)} <= waiting:
                    self._hold((behind, one, other), most_placed, fair.rules.bound)
                else:
                    self._spread.pop((behind, one, other), None)

    def _hold(self, pair: tuple[bool, str, str], most_placed: float, band: float) -> None:
        behind, one, other = pair
        apart = self._served.get((behind, one), 0.0) - self._served.get((behind, other), 0.0)
        least, most, placed = self._spread.get(pair, (apart, apart, 0.0))
        least, most, placed = min(least, apart), max(most, apart), max(placed, most_placed)
        self._spread[pair] = (least, most, placed)
        bound = 5 * band + 5 * placed
        if most - least > bound and pair not in self._reported:
            self._reported.add(pair)
            self._report(
                f"I7: {one} and {other} are {most - least:.0f} weighted tokens apart, the bound is {bound:.0f}"
            )

    def _count(self) -> None:
        """What each live job was served since the last look; those that have ended, for the last time."""
        live = self._core.live_jobs()
        self._jobs.update(live)
        weight: float = self._core._dispatcher.fair.rules.output_weight
        for job_id, job in list(self._jobs.items()):
            prompt = job.spec.prompt_tokens if job.started else 0
            served = prompt + weight * (job.output_tokens - job.spec.received_tokens)
            lane = self._lane(job)
            new = (served - self._counted.get(job_id, 0.0)) / self._weight(lane[1])
            self._served[lane] = self._served.get(lane, 0.0) + new
            self._counted[job_id] = served
            if job_id not in live:
                del self._jobs[job_id], self._counted[job_id]

    def _answer_tokens(self, job: Job) -> int:
        return self._whole_tokens(self._book.live[job.job_id].accepted.request_id)

    def _lane(self, job: Job) -> tuple[bool, str]:
        behind, tenant = self._core._dispatcher.fair.group(job)
        return bool(behind), tenant or job.spec.tenant

    def _weight(self, tenant: str) -> float:
        return self._core._dispatcher.fair._weight(tenant)
