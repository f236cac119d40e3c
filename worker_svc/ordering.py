"""Ranks to "who runs in this iteration": pure, shared by the vLLM and the simulated engine.

`plan_step` is given every sequence that the engine holds, the limits of one step and the rules of the policy, and
returns a token quota for each sequence that takes part. A running sequence without a quota is paused: it gives up its
seat and keeps its KV cache. Nothing here reads a clock, a file or a random source.

Reading guide: `plan_step` is the decision; `_order` ranks; `step_filler.py` deals seats, tokens, KV blocks
and time; `credits.py` says who has saved up a turn, `be_share.py` when the oldest BE request has; `step_types.py`
holds the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from worker_svc.be_share import FULL, ShareCredit
from worker_svc.credits import credits_after, saving_credit
from worker_svc.step_filler import TPOT_PACE, Filler, slack_ms
from worker_svc.step_types import Held, StepLimits, StepModel, StepPlan, StepRules

__all__ = ["Held", "StepLimits", "StepModel", "StepPlan", "StepRules", "plan_step", "slack_ms"]

_HANDLE, _RANK = attrgetter("handle"), attrgetter("rank")

# The constants of the default policy (design: scheduling, "The default policy `slo`").
RELEGATED_BY_MS = 30_000.0
WORK_MS_PER_PREFILL_TOKEN = 0.1
KEEPS_SEAT_TPOTS = 4.0
"""How much further ahead, in TPOTs, a running LS decode may get before another that is ahead too takes its seat.

Without it those that are ahead take turns at every step, and vLLM builds its batch anew for each of them.
"""


def plan_step(
    sequences: Sequence[Held],
    limits: StepLimits,
    rules: StepRules,
    model: StepModel,
    now_ms: float,
    share: ShareCredit = FULL,
) -> StepPlan:
    """Decides who takes part in the next step and with how many tokens.

    Args:
        sequences: everything the engine holds, in any order.
        limits: of this step and of memory.
        rules: of the policy.
        model: predicts the step's time.
        now_ms: on the clock of `arrival_ms` and `first_token_ms`.
        share: what the last plan left of the oldest BE request's share.

    Returns:
        The plan. While anything is runnable its quotas are not empty (I5), and the blocks that they need, after its
        evictions, are within `free_blocks` (I4).
    """
    order = _order(sequences, rules, now_ms)
    saving = saving_credit(order) if rules.credit_batching else frozenset[int]()
    filler = Filler(order, limits, rules, model, now_ms, share, saving)
    filler.fill()
    if saving and not filler.plan.quotas:  # those with a credit can't run: better early than idle (I5)
        filler = Filler(order, limits, rules, model, now_ms, share)
        filler.fill()
    plan = filler.plan
    if rules.credit_batching:
        plan.credits = credits_after(order, plan)
    plan.order = [held.handle for held in order]
    plan.planned_ms = filler.time_ms
    filler.note_share()
    return plan


def _prefill_due_ms(held: Held, now_ms: float, relegate_late: bool) -> float:
    """When an LS prefill should be done; one that has missed moves back, to keep the rest on time (relegation)."""
    work_ms = WORK_MS_PER_PREFILL_TOKEN * held.left_tokens
    if held.output_tokens:  # evicted in mid-answer: its next token is what is due
        return now_ms + slack_ms(held, now_ms) + work_ms
    deadline_ms = held.arrival_ms + held.ttft_ms
    return deadline_ms + work_ms + (RELEGATED_BY_MS if relegate_late and now_ms > deadline_ms else 0.0)


def _order(sequences: Sequence[Held], rules: StepRules, now_ms: float) -> list[Held]:
    """Everything, most urgent first; the handle breaks ties.

    LS decodes come before LS prefill, or deadline order thrashes once LS alone saturates. One that is a whole TPOT
    ahead of its pace may yield: with few seats that is what keeps TTFT, and it stops by itself once the slack is used
    up. Among those ahead a running one keeps its seat for some steps.
    """
    if not rules.class_tiers:
        return _by_rank(sequences, rules)

    # Written out, since calls would cost more than all the rest; handles differ, so that no tie goes beyond them.
    running: list[tuple[float, int, Held]] = []
    prefill: list[tuple[float, int, Held]] = []
    ahead: list[tuple[float, int, Held]] = []
    best_effort: list[Held] = []
    may_yield = rules.yield_when_ahead
    for held in sequences:
        if not held.latency_sensitive:
            best_effort.append(held)
        elif not (held.decoding and held.resident):
            prefill.append((_prefill_due_ms(held, now_ms, rules.relegate_late), held.handle, held))
        else:
            first_ms, tpot_ms = held.first_token_ms, held.tpot_ms
            slack = (now_ms if first_ms is None else first_ms) + held.output_tokens * TPOT_PACE * tpot_ms - now_ms
            if not may_yield or slack <= tpot_ms:
                running.append((slack, held.handle, held))
            elif held.seated:
                ahead.append((slack - KEEPS_SEAT_TPOTS * tpot_ms, held.handle, held))
            else:
                (running if _stalls(held, rules, now_ms) else ahead).append((slack, held.handle, held))
    running.sort()
    prefill.sort()
    ahead.sort()
    order = [held for group in (running, prefill, ahead) for _, _, held in group]
    return order + _by_rank(best_effort, rules)


def _stalls(held: Held, rules: StepRules, now_ms: float) -> bool:
    """Whether one without a seat has had no token for as long as the longest step may last: slack buys no stall."""
    return now_ms - held.unseated_ms >= rules.max_itl_factor * held.tpot_ms


def _by_rank(sequences: Sequence[Held], rules: StepRules) -> list[Held]:
    """Smallest rank first, then smallest handle; where nobody is displaced, those with a slot before all others.

    Stable sorts by one attribute each: a tuple as key costs three times as much at every step.
    """
    order = sorted(sequences, key=_HANDLE)
    order.sort(key=_RANK)
    if rules.displace:
        return order
    return [held for held in order if held.resident] + [held for held in order if not held.resident]
