"""The simulated engine, leaping: steps that `plan_step` would plan as the last one are counted instead of planned.

A leap is only made where it is certain that `plan_step` would deal the same tokens again. Let M be the sequences of
the last plan that have not ended, all of them decoding, one token each, and O the others that are held. The plan
repeats as long as the KV blocks that M grows into are free, and

- **everyone**: O is empty. Each of M gets its token, whatever the order;
- **seats**: without tiers or displacing, residents come before the waiting: M fills all seats and O waits;
- **again**: the last plan was M itself: it let nobody in, evicted nobody and prefilled nothing, and nothing has
  happened since. Who was left out for want of seats, tokens, a slot or blocks is left out again: free blocks only
  shrink, and what an eviction could give is no more than it was.

Under class tiers two conditions more: every LS sequence is in M, and the BE decodes fit in the step's time limit.
That limit is followed step by step from below; at a doubt the leap ends and `plan_step` is asked. Where somebody is
left out, a leap ends when the BE share's credit starts or stops being spent. Where somebody is
left out under **again**, the last step must have had time to spare for it, so that time was not the reason.
Rules that this module does not know of make it ask `plan_step` at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import cast

from worker_svc.be_share import share_after_steps, steps_alike
from worker_svc.engines.simulated_core import SimulatedCore, SimulatedLimits, SimulatedSequence, StepResult
from worker_svc.ordering import StepModel, StepRules, slack_ms
from worker_svc.step_filler import HOPELESS_LATE_MS, TPOT_PACE, borrowed_tpots, step_limit_ms

MAX_LEAP_STEPS = 4096
MARGIN_MS = 1e-6
_KNOWN_RULES = frozenset(
    (
        "class_tiers",
        "step_budget",
        "displace",
        "evict",
        "step_seats",
        "be_share",
        "max_itl_factor",
        "yield_when_ahead",
        "relegate_late",
        "hold_be_decodes",
        "min_chunk_tokens",
        "chunk_tokens",
        "borrow_tpots",
    )
)


@dataclass(slots=True)
class LeapSequence(SimulatedSequence):
    """A sequence that may be leapt over.

    Attributes:
        stop_at: output tokens at which something is to be looked at: its end, or a report that is due.
    """

    stop_at: int = 1


@dataclass(frozen=True, slots=True)
class Leap:
    """Steps that repeat the last plan: when each of them ends, on the clock of `step`."""

    start_ms: float
    ends_ms: list[float]


class LeapingCore(SimulatedCore):
    """`SimulatedCore` that can say for how long its last plan stands.

    Attributes:
        recomputed: tokens whose KV was dropped and had to be computed again, by handle.
    """

    sequence_class = LeapSequence

    def __init__(self, limits: SimulatedLimits, model: StepModel, rules: StepRules | None = None) -> None:
        super().__init__(limits, model, rules)
        self.recomputed: dict[int, int] = {}
        self._members: list[LeapSequence] = []
        self._pure = False
        self._others_stay = False
        self._planned: tuple[float, float] = (0.0, 0.0)
        self._known_rules = _is_known(self.rules)
        self._ls_held = 0
        self._share_spent = False
        self._share_taken = False

    # -- what happens between steps

    def note_added(self, latency_sensitive: bool) -> None:
        """A sequence has come: the last plan may not stand."""
        self._pure = False
        self._ls_held += latency_sensitive

    def cancel(self, handle: int) -> bool:
        """Drops a sequence and its KV; False if it is not held."""
        held = self.sequences.get(handle)
        if held is not None:
            self._ls_held -= held.latency_sensitive
            self._forget_members()
        return super().cancel(handle)

    def set_ranks(self, handles: Sequence[int], rules: StepRules | None = None) -> None:
        """The new order, most urgent first; sequences not named keep their order behind these."""
        super().set_ranks(handles, rules)
        self._pure = False
        if rules is not None:
            self._known_rules = _is_known(rules)
            self._forget_members()

    def step(self, now_ms: float) -> StepResult:
        """Runs one planned step."""
        before = self.share
        result = super().step(now_ms)
        plan, sequences = result.plan, self.sequences
        members = [sequences[handle] for handle in plan.quotas if handle in sequences]
        if result.ended:
            self._ls_held = sum([held.latency_sensitive for held in sequences.values()])
        # All sequences are of `sequence_class`.
        self._members = cast("list[LeapSequence]", members) if all(held.decoding for held in members) else []
        self._pure = not (result.prefill_tokens or result.ended or plan.admit or plan.evict)
        self._others_stay = False
        self._planned = (now_ms, plan.planned_ms)
        self._share_spent = before.spending
        self._share_taken = plan.share_taken
        return result

    # -- leaping

    def leap(self, now_ms: float) -> Leap | None:
        """The steps from `now_ms` on that need no planning; None if the next one does."""
        members = self._members
        if not members or not self._known_rules or not self._stands(members):
            return None
        steps = min([held.stop_at - held.output_tokens for held in members])
        steps = self._within_blocks(members, min(steps, MAX_LEAP_STEPS))
        if steps < 1:
            return None
        if self._earned() and len(self.sequences) > len(members):
            as_then = self.share.spending is self._share_spent
            steps = steps_alike(self.share, self._earned(), self._share_taken, steps) if as_then else 0
        if steps < 1:
            return None
        rules = self.rules
        timed = rules.class_tiers and rules.step_budget and 0 < self._ls_held < len(members)
        ends = self._timed_ends(members, now_ms, steps) if timed else self._ends(members, now_ms, steps)
        return Leap(now_ms, ends) if ends else None

    def advance(self, steps: int) -> tuple[list[int], list[int]]:
        """Carries out so many steps of a leap; (handles at their `stop_at`, those of them that ended)."""
        block_tokens = self.limits.kv_block_tokens
        earned = self._earned()
        if earned:
            taken = self._share_taken if len(self.sequences) > len(self._members) else self._has_best_effort()
            self.share = share_after_steps(self.share, earned, taken, steps)
        stopped: list[int] = []
        ended: list[int] = []
        for held in self._members:
            held.context_tokens = context = held.context_tokens + steps
            held.output_tokens = output = held.output_tokens + steps
            if context > held.blocks * block_tokens:
                needed = -(-context // block_tokens) - held.blocks
                held.blocks += needed
                self.free_blocks -= needed
            if output >= held.stop_at:
                stopped.append(held.handle)
                if output >= held.answer_tokens:
                    ended.append(held.handle)
        self.step_count += steps
        for handle in ended:
            self._drop(handle)
        if ended:
            gone = set(ended)
            self._members = [held for held in self._members if held.handle not in gone]
            self._pure = False
        return stopped, ended

    def _earned(self) -> float:
        """What a step adds to the BE share's credit; 0 where there is none."""
        rules, limits = self.rules, self.limits
        seats = max(1, limits.step_seats if rules.step_seats is None else min(limits.slots, rules.step_seats))
        return rules.be_share * seats if rules.class_tiers and seats > 1 else 0.0

    def _has_best_effort(self) -> bool:
        return self._ls_held < len(self.sequences)

    def _drop(self, handle: int) -> None:
        held = self.sequences.pop(handle)
        self._ls_held -= held.latency_sensitive
        self._seated.discard(handle)
        self._free(held)

    def _forget_members(self) -> None:
        self._members = []
        self._pure = False

    def _evict(self, handle: int, result: StepResult) -> None:
        self.recomputed[handle] = self.recomputed.get(handle, 0) + self.sequences[handle].context_tokens
        super()._evict(handle, result)

    def _stands(self, members: list[LeapSequence]) -> bool:
        """Whether the last plan is the next one too, time and blocks apart."""
        limits, rules = self.limits, self.rules
        count = len(members)
        seats = max(1, limits.step_seats if rules.step_seats is None else min(limits.slots, rules.step_seats))
        if count > seats or count > limits.step_token_budget:
            return False
        others = len(self.sequences) - count
        if rules.class_tiers and self._ls_held and self._ls_held != sum(held.latency_sensitive for held in members):
            return False
        if not others:
            return True
        if not rules.class_tiers and not rules.displace and count == seats and self.residents == count:
            return True
        if not self._pure:
            return False
        if not self._others_stay:
            self._others_stay = not (rules.class_tiers and rules.step_budget) or self._had_time_to_spare(members)
        return self._others_stay

    def _had_time_to_spare(self, members: list[LeapSequence]) -> bool:
        """Whether the last step could have taken one more token of any BE sequence that it left out."""
        planned_at_ms, planned_ms = self._planned
        slacks = [(held.tpot_ms, slack_ms(held, planned_at_ms)) for held in members if held.latency_sensitive]
        if not slacks:
            return True
        # Each slack as it was when that step was planned: one token less was out.
        before = [(tpot, slack - TPOT_PACE * tpot) for tpot, slack in slacks]
        if min(slack for _, slack in before) <= MARGIN_MS - HOPELESS_LATE_MS:
            return False
        tpot_ms = min(tpot for tpot, _ in before)
        limit_ms = _limit_from_below_ms(
            self.rules, tpot_ms, min(slack for _, slack in before), _mean_tokens(members) - 1.0
        )
        inside = {held.handle for held in members}
        context = max(held.context_tokens for held in self.sequences.values() if held.handle not in inside)
        model = self.model
        work_ms = max(model.c1_ms_per_prefill_token, model.c2_ms_per_decode) + model.c3_ms_per_context_token * context
        return planned_ms + work_ms + MARGIN_MS <= limit_ms

    def _within_blocks(self, members: list[LeapSequence], steps: int) -> int:
        """How many steps at most the free blocks are enough for."""
        block_tokens, free = self.limits.kv_block_tokens, self.free_blocks
        while steps > 0:
            if len(members) * (steps // block_tokens + 1) <= free:
                return steps
            needed = 0
            for held in members:
                needed += max(0, -(-(held.context_tokens + steps) // block_tokens) - held.blocks)
            if needed <= free:
                return steps
            steps //= 2
        return 0

    def _ends(self, members: list[LeapSequence], now_ms: float, steps: int) -> list[float]:
        """End of each step; the same additions in the same order as steps one by one, so the same floats."""
        model, count = self.model, len(members)
        fixed_ms = model.c0_ms + model.c2_ms_per_decode * count
        per_context_ms = model.c3_ms_per_context_token
        context = sum([held.context_tokens for held in members])
        ends: list[float] = []
        for _ in range(steps):
            now_ms += fixed_ms + per_context_ms * context
            context += count
            ends.append(now_ms)
        return ends

    def _timed_ends(self, members: list[LeapSequence], now_ms: float, steps: int) -> list[float]:
        """The same, as long as all of `members` fit into the step's time limit, which is never overestimated."""
        slacks = [(held.tpot_ms, slack_ms(held, now_ms)) for held in members if held.latency_sensitive]
        tpot_ms = min(tpot for tpot, _ in slacks)
        least_ms = min(slack for _, slack in slacks)
        kept: list[float] = []
        gain_ms = TPOT_PACE * tpot_ms
        mean_tokens = _mean_tokens(members)
        before_ms = now_ms
        for end_ms in self._ends(members, now_ms, steps):
            step_ms = end_ms - before_ms
            if least_ms <= MARGIN_MS - HOPELESS_LATE_MS:
                break
            if step_ms + MARGIN_MS > _limit_from_below_ms(self.rules, tpot_ms, least_ms, mean_tokens):
                break
            kept.append(end_ms)
            least_ms += gain_ms - step_ms
            before_ms = end_ms
        return kept


def _limit_from_below_ms(rules: StepRules, tpot_ms: float, least_slack_ms: float, mean_tokens: float) -> float:
    """The step's time limit as if all were late once one is."""
    borrowed = borrowed_tpots(rules, mean_tokens, 1.0 if least_slack_ms < 0.0 else 0.0)
    return step_limit_ms(rules, tpot_ms, least_slack_ms + tpot_ms * borrowed)


def _mean_tokens(members: Sequence[LeapSequence]) -> float:
    """Output tokens of the LS sequences among these, on average."""
    tokens = [held.output_tokens for held in members if held.latency_sensitive]
    return sum(tokens) / len(tokens)


def _is_known(rules: StepRules) -> bool:
    """Whether all that these rules ask for is among what leaping was made for."""
    for field in fields(rules):
        if field.name in _KNOWN_RULES or (field.name == "chunking" and rules.chunking != "slack"):
            continue
        if getattr(rules, field.name) != field.default:
            return False
    return True
