"""SCORPIO's TPOT guard: an LS request enters a worker while every LS request there keeps its time per token.

SCORPIO, "Serving the Right Requests at the Right Time for Heterogeneous SLOs in LLM Inference", arXiv 2505.23022. Its
TTFT guard is in `outlook.py`, its credit batching in the worker (`worker_svc/credits.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

from scheduler_svc.core.types import Job, StepCost
from scheduler_svc.core.workers import WorkerView


def guarded_step_ms(cost: StepCost, sequences: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """(step time, least TPOT target), ms, of LS decodes that are batched by credit.

    Each takes part in TRP(r) = least target / own target of the steps. The sum of TRP is the *virtual batch size*; it
    takes the place of the batch size in the step-time model, and the context is weighted by TRP likewise.

    Args:
        cost: the worker's step-time model.
        sequences: (TPOT target in ms, context tokens) each; at least one.
    """
    known = list(sequences)
    least_ms = min(tpot_ms for tpot_ms, _ in known)
    virtual = sum(least_ms / tpot_ms for tpot_ms, _ in known)
    context = sum(least_ms / tpot_ms * tokens for tpot_ms, tokens in known)
    step_ms = cost.c0_ms + cost.c2_ms_per_decode * virtual + cost.c3_ms_per_context_token * context
    return step_ms, least_ms


def keeps_pace(worker: WorkerView, job: Job) -> bool:
    """Whether the LS requests of `worker` would keep their targets with `job`; the first always enters.

    Contexts are reckoned at half of what is predicted to come, their mean over the time that they run.
    """
    others = [other for other in worker.jobs.values() if other.spec.latency_sensitive]
    if not others:
        return True
    sequences = [
        (each.spec.tpot_ms, each.spec.prompt_tokens + each.output_tokens + 0.5 * each.remaining_mean)
        for each in (*others, job)
    ]
    step_ms, least_ms = guarded_step_ms(worker.cost, sequences)
    return step_ms <= least_ms
