"""Which worker a waiting job goes to, and whether now: the pool is central, a worker holds little in advance."""

from __future__ import annotations

from collections.abc import Iterable

from scheduler_svc.core.memory import PEAK_LEVEL, PEAK_SHARE, predicted_peak_tokens
from scheduler_svc.core.policies.base import Policy
from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView

LS_PER_SEAT = 2
"""LS jobs that share a seat where those ahead of their pace yield it; the worker's clock says who is ahead."""


class Placement:
    """Least-loaded worker with room (ELIS's min-load balancer); stateless but for its settings.

    Args:
        look_ahead: jobs that a worker holds beyond its seats, so that a freed seat never waits for the network.
    """

    def __init__(self, look_ahead: int) -> None:
        self._look_ahead = look_ahead

    def choose(self, job: Job, workers: Iterable[WorkerView], policy: Policy, rules: Rules) -> WorkerView | None:
        """The worker that `job` should enter now, or None: it waits in the pool."""
        open_to_it = [
            worker for worker in workers if self._has_room(worker, job, rules) and self._has_memory(worker, job, policy)
        ]
        if not open_to_it:
            return None
        return min(open_to_it, key=lambda worker: (worker.placed / worker.seats(rules), worker.up.worker))

    def has_share_room(self, worker: WorkerView, oldest: Job, rules: Rules) -> bool:
        """Whether the oldest waiting BE job should enter for the seat that BE keeps (I6): none there is older."""
        if rules.be_share <= 0 or not self._takes(worker) or worker.placed >= worker.up.slots:
            return False
        best_effort = [job for job in worker.jobs.values() if not job.spec.latency_sensitive]
        return all(job.arrival_ms > oldest.arrival_ms for job in best_effort)

    def _takes(self, worker: WorkerView) -> bool:
        return not worker.draining and not worker.full and worker.placed < worker.up.max_held

    def _has_room(self, worker: WorkerView, job: Job, rules: Rules) -> bool:
        if not self._takes(worker):
            return False
        seats = worker.seats(rules)
        if rules.yield_when_ahead and job.spec.latency_sensitive:
            return sum(other.spec.latency_sensitive for other in worker.jobs.values()) < LS_PER_SEAT * seats
        if worker.placed < min(seats + self._look_ahead, worker.up.slots):
            return True
        if not rules.displace:
            return False
        last = worker.last_seat_key(seats)
        if last is not None and job.key >= last:
            return False
        # It would get a seat at once. A slot must be free, or an LS job may take the slot of a BE job.
        return worker.placed < worker.up.slots or (rules.evict and rules.class_tiers and job.spec.latency_sensitive)

    def _has_memory(self, worker: WorkerView, job: Job, policy: Policy) -> bool:
        """Whether the predicted KV peak stays within the worker's; LS and an idle worker are not held to it."""
        if not policy.admits_by_memory or job.spec.latency_sensitive or not worker.jobs:
            return True
        room = PEAK_SHARE * worker.up.kv_blocks * worker.up.kv_block_tokens
        held = [_memory_of(other) for other in (*worker.jobs.values(), job)]
        if sum(used + remaining for used, remaining in held) <= room:
            return True
        return predicted_peak_tokens(held) <= room


def _memory_of(job: Job) -> tuple[float, float]:
    """(KV tokens now, tokens to come at the level that memory reckons with)."""
    return job.spec.prompt_tokens + job.output_tokens, job.remaining_high


def remaining_high(job: Job) -> float:
    """Output tokens still to come, at the quantile that memory reckons with."""
    return max(0.0, job.distribution.quantile(PEAK_LEVEL, job.output_tokens) - job.output_tokens)
