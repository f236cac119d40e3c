"""Whether a waiting job may enter a worker now, and which: the pool is central, a worker holds little in advance."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from scheduler_svc.core.guards import keeps_pace
from scheduler_svc.core.memory import PEAK_SHARE, Peak
from scheduler_svc.core.placements import Placement
from scheduler_svc.core.policies import Policy
from scheduler_svc.core.types import Job, PolicySettings, Rules
from scheduler_svc.core.workers import ALWAYS, NEVER, Key, WorkerView

LS_PER_SEAT = 2
"""LS jobs that share a seat where those ahead of their pace yield it; the worker's clock says who is ahead."""


class Hindrance(Enum):
    """Why a worker does not take a waiting job: the set of `fairlead.v1.HindranceReason`, same names."""

    NO_WORKER = "no worker of its model is connected"
    DRAINING = "the worker takes nothing new"
    REFUSED_FULL = "the worker refused an assignment for want of room, and nothing has left it since"
    HELD_BOUND = "the worker holds as many requests as it can"
    SLOTS = "the worker's slots are taken, and none may be evicted for it"
    SEATS = "the worker's seats and the places ahead are taken by requests that go before it or may not be displaced"
    KV_SIZE = "its prompt and answer so far do not fit into the worker's KV cache at all"
    KV_PEAK = "the predicted KV peak with it would exceed the worker's cache"
    PACE_GUARD = "the LS requests on the worker would miss their pace with it"
    BEHIND_OTHERS = "those before it in the order are tried first, and there is no room for them"


class Gate:
    """Who has room for whom under the policy and the choices in force; a placement picks among them.

    Args:
        look_ahead: jobs that a worker holds beyond its seats, so that a freed seat never waits for the network.
        placement: picks.
        policy: in force.
        rules: of its steps.
        settings: of the policy, and the choices beside it.
    """

    def __init__(
        self, look_ahead: int, placement: Placement, policy: Policy, rules: Rules, settings: PolicySettings
    ) -> None:
        self.placement = placement
        self._look_ahead = look_ahead
        self._rules = rules
        # A class-blind policy orders LS and BE alike, so memory holds them alike.
        explicit = settings.kv_admission == "peak"
        self._peak_for_be = explicit or (settings.kv_admission == "auto" and policy.admits_by_memory)
        self._peak_for_ls = explicit and not rules.class_tiers
        self._guarded = settings.admission == "guards"
        self._window_tokens = settings.window_tokens

    @property
    def reckons_memory(self) -> bool:
        """Whether anyone is held to a predicted peak."""
        return self._peak_for_be or self._peak_for_ls

    def entry(self, worker: WorkerView, latency_sensitive: bool) -> Key:
        """A job of this class finds a slot and a seat, or a place ahead, if its key is below this."""
        if worker.entry is None:
            worker.entry = (self._entry(worker, True), self._entry(worker, False))
        return worker.entry[0 if latency_sensitive else 1]

    def widest(self, workers: Sequence[WorkerView]) -> tuple[Key, Key]:
        """(LS, BE): a job whose key is not below this finds no room anywhere."""
        ls, be = NEVER, NEVER
        for worker in workers:
            entry = worker.entry
            if entry is None:
                entry = (self.entry(worker, True), self.entry(worker, False))
            ls = max(ls, entry[0])
            be = max(be, entry[1])
        return ls, be

    def choose(self, job: Job, rank: Key, workers: Sequence[WorkerView]) -> WorkerView | None:
        """The worker that `job`, which stands at `rank`, should enter now, or None: it waits in the pool."""
        latency_sensitive = job.spec.latency_sensitive
        open_to_it = [
            worker
            for worker in workers
            if rank < self.entry(worker, latency_sensitive)
            and self._has_memory(worker, job)
            and (not (self._guarded and latency_sensitive) or keeps_pace(worker, job))
        ]
        return self.placement.pick(job, open_to_it, self._rules) if open_to_it else None

    def could_enter_later(self, job: Job, workers: Sequence[WorkerView]) -> bool:
        """Whether some worker that takes requests has the memory for it, were it not for those that are there."""
        return any(_takes(worker) and _could_hold(worker, job) for worker in workers)

    def hindrance(self, worker: WorkerView, job: Job, rank: Key) -> Hindrance | None:
        """Why `choose` would pass this worker over for `job`; None: it would not."""
        latency_sensitive = job.spec.latency_sensitive
        if worker.draining:
            return Hindrance.DRAINING
        if worker.full:
            return Hindrance.REFUSED_FULL
        if worker.placed >= worker.up.max_held:
            return Hindrance.HELD_BOUND
        if not rank < self.entry(worker, latency_sensitive):
            return Hindrance.SLOTS if worker.placed >= worker.up.slots else Hindrance.SEATS
        if not _could_hold(worker, job):
            return Hindrance.KV_SIZE
        if not self._has_memory(worker, job):
            return Hindrance.KV_PEAK
        if self._guarded and latency_sensitive and not keeps_pace(worker, job):
            return Hindrance.PACE_GUARD
        return None

    def has_share_room(self, worker: WorkerView, oldest: Job, band: float) -> bool:
        """Whether a waiting BE job of this band should enter for the seat that BE keeps (I6): none there goes first.

        The caller asks only where BE keeps one.
        """
        if worker.first_in_share <= (band, oldest.arrival_ms) or not _takes(worker):
            return False
        return worker.placed < worker.up.slots and _could_hold(worker, oldest)

    def free_seats(self, worker: WorkerView) -> int:
        """Jobs that a worker takes at once without displacing any."""
        if not _takes(worker):
            return 0
        return max(0, min(worker.seats(self._rules) + self._look_ahead, worker.up.slots) - worker.placed)

    def _entry(self, worker: WorkerView, latency_sensitive: bool) -> Key:
        if not _takes(worker):
            return NEVER
        rules = self._rules
        seats = worker.seats(rules)
        if rules.yield_when_ahead and latency_sensitive:
            return ALWAYS if worker.tally.latency_sensitive < ls_places(worker, rules) else NEVER
        if worker.placed < min(seats + self._look_ahead, worker.up.slots):
            return ALWAYS
        # It would get a seat at once. A slot must be free, or an LS job may take the slot of a BE job.
        slot = worker.placed < worker.up.slots or (rules.evict and rules.class_tiers and latency_sensitive)
        if not rules.displace or not slot:
            return NEVER
        last = worker.last_seat_key(seats)
        return ALWAYS if last is None else last

    def _has_memory(self, worker: WorkerView, job: Job) -> bool:
        """Whether it can ever finish its prompt there, and the predicted KV peak stays within the worker's.

        LS of a policy with tiers, and an idle worker, are not held to the peak.
        """
        if not _could_hold(worker, job):
            return False
        held = self._peak_for_ls if job.spec.latency_sensitive else self._peak_for_be
        if not held or not worker.jobs:
            return True
        room = PEAK_SHARE * worker.up.kv_blocks * worker.up.kv_block_tokens
        used, remaining = _memory_of(job)
        # Most questions are answered by sums that stand ready: the peak is no less than what is held now, and no more
        # than what all would hold at their ends together. A tally may be a window of tokens behind for each job.
        tally = worker.tally
        if tally.used + used > room:
            return False
        if tally.used + len(tally) * self._window_tokens + tally.high + used + remaining <= room:
            return True
        if worker.peak is None:
            worker.peak = Peak(_memory_of(other) for other in worker.jobs.values())
        return worker.peak.with_job(used, remaining) <= room


def ls_places(worker: WorkerView, rules: Rules) -> int:
    """LS jobs that a worker takes at once under rules with class tiers."""
    return worker.seats(rules) * (LS_PER_SEAT if rules.yield_when_ahead else 1)


def _takes(worker: WorkerView) -> bool:
    return not worker.draining and not worker.full and worker.placed < worker.up.max_held


def _could_hold(worker: WorkerView, job: Job) -> bool:
    """Whether what is to be computed and one more token fit into the whole cache; 0 blocks: the worker did not say."""
    kv_tokens = worker.up.kv_blocks * worker.up.kv_block_tokens
    return not kv_tokens or job.spec.prompt_tokens + job.output_tokens < kv_tokens


def _memory_of(job: Job) -> tuple[float, float]:
    """(KV tokens now, tokens to come at the level that memory reckons with)."""
    return job.spec.prompt_tokens + job.output_tokens, job.remaining_high
