"""Why a request stands where it stands: read from the pool and the workers, changing nothing. Pure.

`hindrances` repeats the questions by which the dispatcher places a job, worker by worker, so that what is told is what
decided. `standing` costs O(log n) but for those ahead, of whom a bounded number is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.placement import Hindrance
from scheduler_svc.core.policies.base import context_tokens, prefill_left_tokens
from scheduler_svc.core.types import Job
from scheduler_svc.core.waiting import wait_bound_ms
from scheduler_svc.core.workers import WorkerView

MOST_SHOWN = 8
"""Requests ahead that are named one by one."""
MOST_COUNTED = 2000
"""Requests ahead that are counted by tenant and class."""

Hindered = tuple[str, Hindrance]
"""(worker, why it does not take the job); no worker's name where there is none of its model."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a live job stands.

    Attributes:
        ahead: jobs before it in the pool, or on its worker.
        standing: jobs there, itself included.
        seats: of its worker; 0 in the pool.
        first_ahead: the first of those before it.
        ahead_by_class: (tenant, latency_sensitive) to how many of those before it, of `MOST_COUNTED` at most.
        inputs: what the key is made from, by name and unit.
        hindrances: while it waits.
    """

    ahead: int
    standing: int
    seats: int
    first_ahead: tuple[Job, ...]
    ahead_by_class: Counter[tuple[str, bool]]
    inputs: dict[str, float]
    hindrances: tuple[Hindered, ...]


def standing(dispatcher: Dispatcher, job: Job, now_ms: float) -> Standing:
    """Where a live job stands now."""
    if job.worker is None:
        backlog = dispatcher.backlog(job.spec.model)
        ahead, count, seats = backlog.place_of(job), len(backlog), 0
        before = list(islice(backlog.best_first(), min(ahead, MOST_COUNTED)))
        hindered = hindrances(dispatcher, job)
    else:
        worker = dispatcher.workers[job.worker]
        ahead, count, seats = worker.place_of(job), len(worker.order), worker.seats(dispatcher.rules)
        before = [worker.jobs[job_id] for _, job_id in worker.order[: min(ahead, MOST_COUNTED)]]
        hindered = ()
    by_class = Counter((other.spec.tenant, other.spec.latency_sensitive) for other in before)
    inputs = key_inputs(job, now_ms) | fair_inputs(dispatcher, job)
    return Standing(ahead, count, seats, tuple(before[:MOST_SHOWN]), by_class, inputs, tuple(hindered))


def fair_inputs(dispatcher: Dispatcher, job: Job) -> dict[str, float]:
    """Where its tenant stands with its fair share, and the wait that the BE share promises, where there are such."""
    found: dict[str, float] = {}
    if dispatcher.fair.rules.on:
        spec = job.spec
        share = dispatcher.fair.share(spec.tenant, spec.model, latency_sensitive=spec.latency_sensitive)
        found["tenant_counter"] = share.counter
        found["tenant_ahead"] = share.ahead
        found["tenant_yields"] = float(share.yields)
    if job.worker is None and (bound_ms := wait_bound_ms(dispatcher, job)) is not None:
        found["wait_bound_ms"] = bound_ms
    return found


def hindrances(dispatcher: Dispatcher, job: Job, most: int | None = None) -> list[Hindered]:
    """Why each worker of its model, or the first `most` of them, does not take a waiting job."""
    workers = dispatcher.workers_of(job.spec.model)
    if not workers:
        return [("", Hindrance.NO_WORKER)]
    return [
        (worker.up.worker, _of(dispatcher, worker, job))
        for worker in (workers if most is None else islice(workers, most))
    ]


def _of(dispatcher: Dispatcher, worker: WorkerView, job: Job) -> Hindrance:
    found = dispatcher.gate.hindrance(worker, job, dispatcher.rank_of(job))
    # The worker has room by every rule, yet the job waits: only the first few of a tier are tried when memory is short.
    return found or Hindrance.BEHIND_OTHERS


def weightiest(hindered: Sequence[Hindered]) -> Hindered:
    """The one that comes nearest to letting the job in: what it really waits for."""
    return max(hindered, key=lambda each: _NEARNESS[each[1]])


_NEARNESS = {
    reason: rank
    for rank, reason in enumerate(
        (
            Hindrance.NO_WORKER,
            Hindrance.KV_SIZE,
            Hindrance.DRAINING,
            Hindrance.REFUSED_FULL,
            Hindrance.HELD_BOUND,
            Hindrance.SLOTS,
            Hindrance.SEATS,
            Hindrance.KV_PEAK,
            Hindrance.PACE_GUARD,
            Hindrance.BEHIND_OTHERS,
        )
    )
}
assert len(_NEARNESS) == len(Hindrance)


def key_inputs(job: Job, now_ms: float) -> dict[str, float]:
    """What policies make keys from, by name and unit; each reads some of it (docs/policies says which)."""
    spec = job.spec
    since_ms = job.arrival_ms if job.last_token_ms is None else job.last_token_ms
    found = {
        "waited_ms": now_ms - job.arrival_ms,
        "since_last_token_ms": now_ms - since_ms,
        "seated": float(job.seated),
        "output_tokens": float(job.output_tokens),
        "prompt_tokens": float(spec.prompt_tokens),
        "prefill_left_tokens": float(prefill_left_tokens(job)),
        "context_tokens": float(context_tokens(job)),
        "estimated_at_tokens": float(job.estimated_at),
        "mean_remaining_tokens": float(job.distribution.mean_remaining(job.output_tokens)),
        "cost": job.cost,
    }
    if spec.latency_sensitive:
        found["ttft_left_ms"] = job.arrival_ms + spec.ttft_ms - now_ms
        found["tpot_target_ms"] = spec.tpot_ms
    if spec.completion_ms is not None:
        found["completion_left_ms"] = job.arrival_ms + spec.completion_ms - now_ms
    if isinstance(job.state, float):
        found["planned_place"] = job.state
    return found
