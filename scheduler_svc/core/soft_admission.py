"""Which new LS requests can all be served in time beside those already admitted: a dynamic programme.

SLOs-Serve (arXiv 2504.08784): prefill work has what the running decodes leave of each step, their prefill budget; each
admitted request must have its prompt done by its TTFT target. The most new requests that fit are admitted, the others
are served as best effort ("soft admission"). Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """One LS request that waits.

    Attributes:
        job_id: names it.
        due_ms: its first token is due in so many ms; negative when late.
        work_ms: prefill that it needs, ms of a worker's time.
        forced: it was admitted before and stays so.
    """

    job_id: int
    due_ms: float
    work_ms: float
    forced: bool


def admitted(demands: Sequence[Demand], rate: float, backlog_ms: float = 0.0) -> set[int]:
    """The new requests to admit.

    With requests by due time, f_k is the least work that k admitted ones of those seen so far need. Each new one is
    passed over or taken (f_k+1 = f_k + its work) if that is done by its due time; one that is forced is always taken,
    and drops the states in which it would be late, unless it is late in any case. The largest k that remains wins, with
    its least work: O(forced + new²) for all.

    Args:
        demands: new and forced ones.
        rate: prefill ms that all workers do in a ms of time, > 0.
        backlog_ms: prefill that is done before any of these.
    """
    ordered = sorted(demands, key=lambda demand: (demand.due_ms, demand.job_id))
    states: list[tuple[float, tuple[int, ...]]] = [(backlog_ms, ())]
    for demand in ordered:
        capacity = demand.due_ms * rate
        if demand.forced:
            states = _forced(states, demand.work_ms, capacity)
            continue
        taken = [(work + demand.work_ms, (*chosen, demand.job_id)) for work, chosen in states]
        grown = [*states, (math.inf, ())]
        for k, state in enumerate(taken):
            if state[0] <= capacity and state[0] < grown[k + 1][0]:
                grown[k + 1] = state
        if grown[-1][0] == math.inf:
            grown.pop()
        states = grown
    best = next(chosen for work, chosen in reversed(states) if work < math.inf)
    return set(best)


def _forced(
    states: list[tuple[float, tuple[int, ...]]], work_ms: float, capacity: float
) -> list[tuple[float, tuple[int, ...]]]:
    moved = [(work + work_ms, chosen) for work, chosen in states]
    if moved[0][0] > capacity:  # late even with no new request: it can't be spoilt any more
        return moved
    return [state if state[0] <= capacity else (math.inf, ()) for state in moved]
