"""Steps in which everybody takes part: known without an order, since whoever comes last has room as well.

Most steps of an engine that has room are such. Nothing but decodes is there; each has its seat, its token and its KV
block, and the step ends in time for the LS decodes in it whatever their slack is. `plan_step` would give each of them
its token (`tests/property/test_whole_steps.py`), at a cost that grows with their number. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker_svc.be_share import ShareCredit, share_after
from worker_svc.step_filler import STEP_SHARE_OF_TPOT, seats_of
from worker_svc.step_types import StepLimits, StepModel, StepRules


@dataclass(frozen=True, slots=True)
class Decodes:
    """What an engine holds, where that is resident decodes alone, each with one token to compute.

    Attributes:
        latency_sensitive, best_effort: how many of each class.
        context_tokens: of all together.
        least_tpot_ms: least TPOT target among the LS ones; infinite where there are none.
    """

    latency_sensitive: int
    best_effort: int
    context_tokens: int
    least_tpot_ms: float


def all_take_part(decodes: Decodes, limits: StepLimits, rules: StepRules, model: StepModel) -> bool:
    """Whether a step has room and time for each of these, in whatever order; False also where that is not plain."""
    count = decodes.latency_sensitive + decodes.best_effort
    if rules.credit_batching or count > min(seats_of(rules, limits), limits.token_budget, limits.free_blocks):
        return False
    timed = rules.class_tiers and rules.step_budget and rules.hold_be_decodes
    if not timed or not decodes.latency_sensitive or not decodes.best_effort:
        return True
    # However little slack there is, a step may last so long (`step_limit_ms`).
    least_limit_ms = min(STEP_SHARE_OF_TPOT, rules.max_itl_factor) * decodes.least_tpot_ms
    return model.step_ms(0, count, decodes.context_tokens) < least_limit_ms


def share_after_whole_step(decodes: Decodes, share: ShareCredit, limits: StepLimits, rules: StepRules) -> ShareCredit:
    """What is saved up of the oldest BE request's share after such a step: it takes part, if there is one."""
    seats = seats_of(rules, limits)
    if rules.be_share <= 0 or not rules.class_tiers or seats < 2:
        return share
    return share_after(share, rules.be_share * seats, decodes.best_effort > 0)
