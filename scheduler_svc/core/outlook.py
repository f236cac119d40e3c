"""When would a request be served, from the step-time models that the workers learned and the work that is ahead.

Used where a choice judges feasibility: `admission` (`guards`, `dp_soft`), `overload` (`reject`, `relegate`) and the
delay after which a refused client should come back. Pure and cheap: sums are kept (`tally.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler_svc.core.backlog import Backlog, due_step
from scheduler_svc.core.placement import ls_places
from scheduler_svc.core.types import Arrived, Rules, StepCost
from scheduler_svc.core.workers import Key, WorkerView

LEAST_PREFILL_SHARE = 0.05
"""However many decodes run, prefill gets its least chunks; a share of time below this is not believed."""

STEP_TOKENS = 2048
"""Prefill tokens of a step that has no decodes to spare time for; workers' own budgets are of this size."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """When something would be done.

    Attributes:
        wait_ms: until its own work begins to count.
        own_ms: its own work, at the pace that others leave it.
    """

    wait_ms: float
    own_ms: float

    @property
    def ms(self) -> float:
        """Until it is done."""
        return self.wait_ms + self.own_ms


def token_ms(cost: StepCost, decodes: float, context: float, seats: float) -> float:
    """Time in which each of these decodes gets a token, ms: a step, or as many as they fill `seats`."""
    steps = max(1.0, decodes / max(seats, 1.0))
    return cost.c0_ms * steps + cost.c2_ms_per_decode * decodes + cost.c3_ms_per_context_token * context


def ls_seats(worker: WorkerView, rules: Rules) -> float:
    """Places in a step that LS can have: all but the share that BE keeps."""
    return worker.seats(rules) * (1.0 - rules.be_share)


def prefill_share(worker: WorkerView, tpot_ms: float, rules: Rules) -> float:
    """Part of a worker's time that is left for prefill: its prefill budget over a step, 0 to 1.

    Steps that let LS decodes keep `tpot_ms` have tau - c0 - c2 n - c3 context ms for prefill, tau the target itself (a
    step may use what slack there is), n and context those of its LS requests. (SLOs-Serve's budget, arXiv 2504.08784.)
    Where n is beyond the seats they take turns, and c0 is paid for each of these.
    """
    cost, tally = worker.cost, worker.tally
    decodes = tally.latency_sensitive
    if not decodes:
        prefill_ms = cost.c1_ms_per_prefill_token * STEP_TOKENS
        return max(LEAST_PREFILL_SHARE, prefill_ms / max(cost.c0_ms + prefill_ms, 1e-9))
    taken_ms = token_ms(cost, decodes, tally.ls_used, ls_seats(worker, rules))
    return min(1.0, max(LEAST_PREFILL_SHARE, 1.0 - taken_ms / tpot_ms))


def ls_rate(workers: Sequence[WorkerView], tpot_ms: float, rules: Rules) -> float:
    """Prefill ms that the workers do together in a ms of time."""
    return sum(prefill_share(worker, tpot_ms, rules) for worker in workers)


def prefill_ahead_ms(due_ms: float, backlog: Backlog, workers: Sequence[WorkerView]) -> float:
    """Prefill of LS requests due no later than `due_ms`, in the pool and on workers, ms of one worker's time."""
    last = due_step(due_ms)
    waiting = sum(backlog.ls_prefill[step] for step in backlog.ls_prefill.irange(maximum=last))
    placed = sum(worker.tally.ls_prefill for worker in workers)
    c1 = sum(worker.cost.c1_ms_per_prefill_token for worker in workers) / len(workers)
    return c1 * (waiting + placed)


def first_token(
    spec: Arrived, due_ms: float, backlog: Backlog, workers: Sequence[WorkerView], rules: Rules
) -> Estimate:
    """Until the first token of an LS request that arrives now.

    Where LS has a tier of its own (or seats are free) that is the prefill due before its own, at the rate that decodes
    leave, or until a place is free where LS has taken all; else it waits for its turn with everything that waits.

    Args:
        spec: the request.
        due_ms: when its first token is due, on the clock of `ls_prefill`.
        backlog: what waits for these workers.
        workers: of its model; at least one.
        rules: of their steps.
    """
    rate = ls_rate(workers, spec.tpot_ms, rules)
    c1 = min(worker.cost.c1_ms_per_prefill_token for worker in workers)
    own_ms = c1 * spec.prompt_tokens * len(workers) / rate
    if rules.class_tiers:
        prefill_ms = prefill_ahead_ms(due_ms, backlog, workers) / rate
        return Estimate(prefill_ms + place_ms(backlog, workers, rules), own_ms)
    return Estimate(turn_ms(backlog, workers, rules), own_ms)


def place_ms(backlog: Backlog, workers: Sequence[WorkerView], rules: Rules) -> float:
    """Until a worker surely takes one more LS request, those that wait before it, ms; 0 while places are free.

    Of n that run, with r tokens each to go, one ends every r/n tokens on average. When is chance: the k-th end comes
    after k such times with a standard deviation of sqrt(k), two of which are added.
    """
    running = sum(worker.tally.latency_sensitive for worker in workers)
    places = sum(ls_places(worker, rules) for worker in workers)
    excess = running + backlog.tally.latency_sensitive + 1 - places
    if excess <= 0 or not running:
        return 0.0
    each_ms = [
        token_ms(worker.cost, worker.tally.latency_sensitive, worker.tally.ls_used, ls_seats(worker, rules))
        for worker in workers
    ]
    left = sum(worker.tally.ls_mean for worker in workers)
    end_ms = left / (running * running) * sum(each_ms) / len(each_ms)
    return (excess + 2.0 * math.sqrt(excess)) * end_ms


@dataclass(frozen=True, slots=True)
class Crowd:
    """The LS requests of some workers, those that wait for them included, and one more.

    Attributes:
        count: of them.
        step_ms: until each has one more token, all of them decoding, a worker's part of them: a step, or several where
            they are more than its seats.
        kv_share: of the workers' KV cache that they will fill: what they hold and half of what is to come, since not
            all are at their end at once; 0 where a worker did not say how much it has.
        end_ms: mean time between two ends among them.
    """

    count: int
    step_ms: float
    kv_share: float
    end_ms: float


def idle_prefill_ms(spec: Arrived, workers: Sequence[WorkerView]) -> float:
    """Prefill of a request on the fastest of these workers with nothing else to do."""
    steps = -(-spec.prompt_tokens // STEP_TOKENS)
    return min(steps * each.cost.c0_ms + each.cost.c1_ms_per_prefill_token * spec.prompt_tokens for each in workers)


def crowd(
    spec: Arrived, mean_tokens: float, backlog: Backlog, workers: Sequence[WorkerView], rules: Rules, *, counted: bool
) -> Crowd:
    """What LS would come to with one more request, all of it decoding; `counted`: it waits among them already."""
    tallies = [backlog.tally, *(worker.tally for worker in workers)]
    one, prompt, answer = (0, 0, 0.0) if counted else (1, spec.prompt_tokens, mean_tokens)
    count = one + sum(tally.latency_sensitive for tally in tallies)
    used = prompt + sum(tally.ls_used for tally in tallies)
    left = answer + sum(tally.ls_mean for tally in tallies)
    share = 1.0 / len(workers)
    step_ms = token_ms(
        workers[0].cost, share * count, share * used, share * sum(ls_seats(each, rules) for each in workers)
    )
    sizes = [worker.up.kv_blocks * worker.up.kv_block_tokens for worker in workers]
    kv_share = (used + 0.5 * left) / sum(sizes) if all(sizes) else 0.0
    return Crowd(count, step_ms, kv_share, spec.tpot_ms * left / (count * count))


def turn_ms(backlog: Backlog, workers: Sequence[WorkerView], rules: Rules, part: float = 1.0) -> float:
    """Until a seat comes free for who stands behind `part` of what waits, ms.

    W = work ahead / throughput (QLM, arXiv 2407.00047): the work that waits, and the share of what runs that must end
    before a seat is free; 0 where one is.
    """
    seats = sum(worker.seats(rules) for worker in workers)
    placed = sum(worker.placed for worker in workers)
    if placed < seats and not len(backlog):
        return 0.0
    waiting = work_ms(
        backlog.tally.prefill, backlog.tally.mean, backlog.tally.used / max(1, len(backlog)), workers, rules
    )
    running = sum(
        work_ms(worker.tally.prefill, worker.tally.mean, worker.tally.used / max(1, len(worker.tally)), [worker], rules)
        for worker in workers
    )
    # Of n requests that run, the first ends when about 1/n of their work is done.
    return (part * waiting + running / max(1, placed)) / len(workers)


def work_ms(prefill: float, decode: float, context: float, workers: Sequence[WorkerView], rules: Rules) -> float:
    """Tokens as ms of one worker's time, at the workers' mean pace with full seats."""
    total = 0.0
    for worker in workers:
        pace = worker.pace(rules)
        total += pace.prefill_ms(1) * prefill + pace.ms_per_token(round(context)) * decode
    return total / len(workers)


def completion(
    spec: Arrived,
    mean_tokens: float,
    key: Key,
    backlog: Backlog,
    workers: Sequence[WorkerView],
    rules: Rules,
) -> Estimate:
    """Until the last token of a request that would stand at `key` among what waits.

    What stands before it is taken for that share of all waiting work: exact for arrival order, too much where short
    work goes first, so that a refusal comes early rather than late there.
    """
    part = backlog.ahead_of(key[0], key[1:]) / max(1, len(backlog))
    pace = workers[0].pace(rules)
    own_ms = pace.prefill_ms(spec.prompt_tokens) + mean_tokens * pace.ms_per_token(spec.prompt_tokens) * pace.seats
    return Estimate(turn_ms(backlog, workers, rules, part), own_ms)
