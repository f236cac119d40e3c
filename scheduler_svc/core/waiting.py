"""The bounded wait that the BE share promises (I6): how long until a waiting BE request has its first token.

The share serves BE in its own order: by band of fairness, then by age. Each step of an engine of N seats brings
min(1, be_share x N) turns; a turn is an output token, or be_share of the token budget of prefill. So a BE request
starts after at most

    (turns of the BE work before it + its own prefill) x step / (workers x min(1, be_share x N)) + one saving-up,

where the step is as long as the worker's model says of one with full seats, twice the least prefill chunk and a full
cache, and answers count as long as is expected. What is before it is all BE work that is there, and, with fair shares,
what other tenants may yet bring: their weights' part beside its own tenant's, and one bound each (I7). Pure.
"""

from __future__ import annotations

import math

from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.outlook import STEP_TOKENS
from scheduler_svc.core.tally import Tally
from scheduler_svc.core.types import Job
from scheduler_svc.core.workers import WorkerView

SAVED_TURNS = 51.0
"""Most turns that an engine saves up before it spends them (`worker_svc/be_share.py`)."""


def wait_bound_ms(dispatcher: Dispatcher, job: Job) -> float | None:
    """Longest that a waiting BE job will wait from now on, ms; None where nothing is promised.

    Nothing is without a BE share, for LS, under rules without class tiers, and while no worker of
    the model that has more than one seat takes work.
    """
    rules = dispatcher.rules
    # An engine of one seat keeps none back (`worker_svc/step_filler.py`).
    there = dispatcher.workers_of(job.spec.model)
    workers = [worker for worker in there if not worker.draining and worker.seats(rules) > 1]
    if rules.be_share <= 0 or not rules.class_tiers or job.spec.latency_sensitive or not workers:
        return None
    prefill_tokens = max(1.0, rules.be_share * STEP_TOKENS)
    tallies = [dispatcher.backlog(job.spec.model).tally, *(worker.tally for worker in workers)]
    ahead = sum(_turns(tally, prefill_tokens) for tally in tallies)
    fair = dispatcher.fair
    others = fair.others_weight(job)
    ahead += others * ahead + (1.0 + others) * fair.rules.bound / fair.rules.output_weight if others else 0.0
    own = 1.0 + (job.spec.prompt_tokens + job.output_tokens) / prefill_tokens
    turns_per_ms = sum(_turns_per_step(worker, dispatcher) / _full_step_ms(worker, dispatcher) for worker in workers)
    saving_ms = max(
        SAVED_TURNS / max(rules.be_share * worker.seats(rules), 1e-9) * _full_step_ms(worker, dispatcher)
        for worker in workers
    )
    return (ahead + own) / turns_per_ms + saving_ms


def _turns(tally: Tally, prefill_tokens: float) -> float:
    """Turns that the BE work of a tally takes; each request rounds its prefill up by less than one."""
    requests = len(tally) - tally.latency_sensitive
    return (tally.prefill - tally.ls_prefill) / prefill_tokens + requests + tally.mean - tally.ls_mean


def _turns_per_step(worker: WorkerView, dispatcher: Dispatcher) -> float:
    return min(1.0, dispatcher.rules.be_share * worker.seats(dispatcher.rules))


def _full_step_ms(worker: WorkerView, dispatcher: Dispatcher) -> float:
    """A step with full seats, the least prefill chunk and a full KV cache, ms."""
    cost, rules = worker.cost, dispatcher.rules
    kv_tokens = worker.up.kv_blocks * worker.up.kv_block_tokens
    step_ms = cost.step_ms(2 * rules.min_chunk_tokens, worker.seats(rules), kv_tokens)
    return max(step_ms, math.ulp(1.0))
