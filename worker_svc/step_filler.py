"""Deals the seats, tokens, KV blocks and time of one step; used by `ordering.plan_step`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

from worker_svc.be_share import ShareCredit, share_after
from worker_svc.step_types import Held, StepLimits, StepModel, StepPlan, StepRules

# The constants of the default policy (design: scheduling, "The default policy `slo`").
URGENT_CHUNKS = 2
HOPELESS_LATE_MS = 500.0
TPOT_PACE = 0.96
MOST_LATE = 1 / 3
"""Share of LS decodes behind their pace from which on no slack is borrowed."""
STEP_SHARE_OF_TPOT = 0.5
BE_PREFILL_SHARE_OF_TTFT = 0.05
"""Most time of BE prefill in a step beside LS decodes, as a share of the least TTFT target among them.

An LS request that comes meanwhile waits for the end of the step. This bounds what BE prefill adds to it, not the whole
step, which may last longer without any: BE prefill would never have a turn then.
"""


def slack_ms(held: Held, now_ms: float) -> float:
    """Time until an LS decode's next token is due, from when its first token really left; ms, negative when late."""
    start_ms = now_ms if held.first_token_ms is None else held.first_token_ms
    return start_ms + held.output_tokens * TPOT_PACE * held.tpot_ms - now_ms


def borrowed_tpots(rules: StepRules, mean_tokens: float, late_share: float) -> float:
    """Slack that the next step may borrow of its LS decodes, in TPOTs.

    A mean over a whole answer bears a late token: most steps are shorter than a TPOT, so what was borrowed comes back,
    and fewer, fuller steps do more work in the same time. Where many are behind their pace, it does not come back; nor
    where answers are short: so no more than half the margin that the pace leaves over `mean_tokens`.

    Args:
        rules: of the step.
        mean_tokens: output tokens of the LS decodes so far, on average.
        late_share: share of them that are behind their pace.
    """
    part = max(0.0, 1.0 - late_share / MOST_LATE)
    return part * min(rules.borrow_tpots, 0.5 * (1.0 - TPOT_PACE) * mean_tokens)


def step_limit_ms(rules: StepRules, tpot_ms: float, slack_ms: float) -> float:
    """Longest step for LS decodes with this least TPOT target and least slack, what is borrowed included; ms."""
    return min(max(STEP_SHARE_OF_TPOT * tpot_ms, slack_ms), rules.max_itl_factor * tpot_ms)


def seats_of(rules: StepRules, limits: StepLimits) -> int:
    """Sequences that a step has places for."""
    return max(1, limits.seats if rules.step_seats is None else min(limits.slots, rules.step_seats))


def _runs(held: Held) -> bool:
    return held.decoding and held.resident


def _age(held: Held) -> tuple[float, int]:
    return held.arrival_ms, held.handle


class Filler:
    """Deals the seats, tokens, KV blocks and time of one step to sequences, in the order in which it is asked."""

    def __init__(
        self,
        order: list[Held],
        limits: StepLimits,
        rules: StepRules,
        model: StepModel,
        now_ms: float,
        share: ShareCredit,
        saving: frozenset[int] = frozenset(),
    ) -> None:
        self.plan = StepPlan()
        self.time_ms = model.c0_ms
        self._order = order
        self._limits = limits
        self._rules = rules
        self._model = model
        self._now_ms = now_ms
        self._seats = seats_of(rules, limits)
        self._tokens = limits.token_budget
        self._free = limits.free_blocks
        self._resident = sum(1 for held in order if held.resident)
        self._evicted: set[int] = set()
        self._saving = saving
        self._share = share
        self._oldest: int | None = None
        self._all_seats = self._seats
        fixed = rules.chunk_tokens if rules.chunking == "fixed" and limits.chunked_prefill else None
        self._prefill = limits.token_budget if fixed is None else fixed
        self._be_prefill = limits.token_budget
        self._limit_ms, self._chunk_ms = self._time_limits()

    def fill(self) -> None:
        """Deals the whole step."""
        if self._rules.class_tiers:
            self._fill_by_tier()
        elif self._chunk_ms is None:
            self._fill_by_rank(self._order)
        else:
            self._fill_by_slack()

    def _fill_by_rank(self, order: list[Held]) -> None:
        """One pass in rank order; a chunk takes what is left of the token budget."""
        self._give_all(order, None)

    def _fill_by_slack(self) -> None:
        """Seats by rank; chunks are what the decodes in these seats leave of the time, but for a least one."""
        seats = [held for held in self._order if held.admissible and held.handle not in self._saving][: self._seats]
        self._fill_by_rank([held for held in seats if held.decoding and held.resident])
        least = self._rules.min_chunk_tokens
        for held in self._order:
            if self._seats <= 0 or self._tokens <= 0:
                return
            if held.handle in self.plan.quotas:
                continue
            in_time = held.left_tokens if held.decoding else max(least, self._tokens_in_time(held, self._chunk_ms))
            given = self._give(held, min(held.left_tokens, in_time)) if in_time >= 1 else 0
            if given and not held.decoding:
                least = 0

    def _fill_by_tier(self) -> None:
        """LS decodes, LS prefill, then BE decodes and BE prefill while the step still ends in time for them."""
        best_effort = [held for held in self._order if not held.latency_sensitive]
        self._give_share(best_effort)
        prefill_allowance: float | None = None
        prefilled = 0
        for runs, group in groupby([held for held in self._order if held.latency_sensitive], _runs):
            if runs:
                # Behind prefill stand those that are ahead of their pace: they can spare the time as well as the seat.
                self._give_all(group, self._limit_ms if prefilled else None)
                continue
            for held in group:
                if self._seats <= 0 or self._tokens <= 0:
                    break
                if prefill_allowance is None:
                    prefill_allowance = self._prefill_allowance(held)
                if prefill_allowance >= 1:
                    given = self._give(held, min(held.left_tokens, int(prefill_allowance)))
                    prefill_allowance -= given
                    prefilled += given
        # Seats go by rank, so that a better request takes a worse one's seat; among the seated, decodes come first,
        # since a prefill would use up the time of all of them.
        seated, rest = best_effort[: max(self._seats, 0)], best_effort[max(self._seats, 0) :]
        decode_ms = self._limit_ms if self._rules.hold_be_decodes else None
        for group in (seated, rest):
            self._give_all([held for held in group if held.decoding], decode_ms)
            self._give_chunks([held for held in group if not held.decoding])

    def _give_share(self, best_effort: list[Held]) -> None:
        """The seat that BE keeps while its credit lasts, to the oldest that can use it (I6, `be_share.py`)."""
        if self._rules.be_share <= 0 or self._all_seats < 2 or not best_effort:
            return
        oldest = min(best_effort, key=_age)
        self._oldest = oldest.handle
        if not self._share.spending:
            return
        share_tokens = max(1, int(self._rules.be_share * self._limits.token_budget))
        if self._give(oldest, min(oldest.left_tokens, share_tokens)):
            return
        for held in sorted(best_effort, key=_age):
            if self._give(held, min(held.left_tokens, share_tokens)):
                self._oldest = held.handle
                return

    def note_share(self) -> None:
        """Puts into the plan what is saved up of the BE share after this step."""
        rules, plan = self._rules, self.plan
        plan.share = self._share
        if rules.be_share > 0 and rules.class_tiers and self._all_seats > 1 and plan.quotas:
            plan.share_taken = self._oldest in plan.quotas
            plan.share = share_after(self._share, rules.be_share * self._all_seats, plan.share_taken)

    def _give_chunks(self, prefills: list[Held]) -> None:
        """BE prefill in chunks that still end in time."""
        for held in prefills:
            if self._seats <= 0 or self._tokens <= 0:
                return
            if held.handle in self.plan.quotas:
                continue
            tokens = min(held.left_tokens, self._tokens_in_time(held, self._chunk_ms), self._be_prefill)
            if tokens >= 1:
                self._be_prefill -= self._give(held, tokens)

    def _give_all(self, group: Iterable[Held], limit_ms: float | None) -> None:
        """All that is left to each, in this order; to decodes only while they still end by the limit.

        Most of a step is decodes that need no new block: what `_give` does for these is written out here, because a
        step has but a fraction of a millisecond for all of them.
        """
        quotas, model, block_tokens = self.plan.quotas, self._model, self._limits.block_tokens
        c2_ms, c3_ms = model.c2_ms_per_decode, model.c3_ms_per_context_token
        barred = self._saving
        for held in group:
            if self._seats <= 0 or self._tokens <= 0:
                return
            handle, context = held.handle, held.context_tokens
            if handle in quotas:
                continue
            if not held.decoding:
                self._give(held, held.left_tokens)
                continue
            if limit_ms is not None and limit_ms - self.time_ms - c3_ms * context < c2_ms:
                continue
            ready = held.left_tokens == 1 and held.resident and held.admissible and context < held.blocks * block_tokens
            if not ready or handle in self._evicted or handle in barred:
                self._give(held, held.left_tokens)
                continue
            quotas[handle] = 1
            self._seats -= 1
            self._tokens -= 1
            self.time_ms += c2_ms + c3_ms * context

    def _time_limits(self) -> tuple[float | None, float | None]:
        """When the step must end for the sake of its LS decodes: as BE decodes are held to it, and as chunks are."""
        rules = self._rules
        budget = rules.step_budget and rules.class_tiers
        if not budget and rules.chunking != "slack":
            return None, None
        decodes = [
            (held, slack)
            for held in self._order
            if held.latency_sensitive
            and held.decoding
            and held.resident
            and (slack := slack_ms(held, self._now_ms)) > -HOPELESS_LATE_MS
        ]
        if not decodes:
            return None, None
        tpot_ms = min([held.tpot_ms for held, _ in decodes])
        limit_ms = step_limit_ms(rules, tpot_ms, self._least_slack_ms(decodes, tpot_ms))
        if self._limits.chunked_prefill and rules.chunking != "fixed":
            self._be_prefill = self._be_prefill_tokens(min([held.ttft_ms for held, _ in decodes]))
        return (limit_ms if budget else None), (None if rules.chunking == "fixed" else limit_ms)

    def _be_prefill_tokens(self, ttft_ms: float) -> int:
        """BE prefill tokens that one step may bring with this least TTFT target."""
        per_token_ms = self._model.c1_ms_per_prefill_token
        in_time = BE_PREFILL_SHARE_OF_TTFT * ttft_ms / per_token_ms if per_token_ms > 0 else math.inf
        return max(1, int(min(in_time, self._limits.token_budget)))

    def _least_slack_ms(self, decodes: list[tuple[Held, float]], tpot_ms: float) -> float:
        """The least slack among LS decodes, what may be borrowed of it included."""
        least_ms = min([slack for _, slack in decodes])
        if self._rules.borrow_tpots <= 0.0:
            return least_ms
        count = len(decodes)
        late = sum([slack < 0.0 for _, slack in decodes]) if least_ms < 0.0 else 0
        mean_tokens = sum([held.output_tokens for held, _ in decodes]) / count
        return least_ms + tpot_ms * borrowed_tpots(self._rules, mean_tokens, late / count)

    def _tokens_in_time(self, held: Held, limit_ms: float | None) -> int:
        """How many of its tokens still end by the limit; all of them where there is none."""
        if limit_ms is None:
            return held.left_tokens
        left_ms = limit_ms - self.time_ms - self._model.c3_ms_per_context_token * held.context_tokens
        if held.decoding:
            return held.left_tokens if left_ms >= self._model.c2_ms_per_decode else 0
        if left_ms < 0:
            return 0
        per_token_ms = self._model.c1_ms_per_prefill_token
        return int(left_ms / per_token_ms) if per_token_ms > 0 else self._limits.token_budget

    def _prefill_allowance(self, first: Held) -> float:
        """Prefill tokens for all LS requests of this step; the most urgent one decides how many at least."""
        if self._chunk_ms is None:
            return self._limits.token_budget
        waited_ms = self._now_ms - first.arrival_ms
        least = self._rules.min_chunk_tokens * (URGENT_CHUNKS if waited_ms > 0.5 * first.ttft_ms else 1)
        return max(least, self._tokens_in_time(first, self._chunk_ms))

    def _give(self, held: Held, tokens: int) -> int:
        """Gives up to `tokens` to one sequence if seat, token budget, slot and KV allow; returns what it got."""
        tokens = min(tokens, self._tokens if held.decoding else min(self._tokens, self._prefill))
        if self._seats <= 0 or tokens <= 0 or held.handle in self._evicted or not held.admissible:
            return 0
        if held.handle in self._saving:
            return 0
        if tokens < held.left_tokens and not self._limits.chunked_prefill:
            return 0
        if held.resident:
            tokens = self._grow(held, tokens)
        elif not self._enter(held):
            return 0
        if tokens <= 0:
            return 0
        self.plan.quotas[held.handle] = tokens
        self._seats -= 1
        self._tokens -= tokens
        if not held.decoding:
            self._prefill -= tokens
        model = self._model
        work_ms = model.c2_ms_per_decode if held.decoding else model.c1_ms_per_prefill_token * tokens
        self.time_ms += work_ms + model.c3_ms_per_context_token * held.context_tokens
        return tokens

    def _blocks_for(self, context_tokens: int) -> int:
        return -(-context_tokens // self._limits.block_tokens)

    def _grow(self, held: Held, tokens: int) -> int:
        """Takes the blocks that a resident sequence needs; returns for how many tokens they are enough.

        Where none is free the worst-ranked ones give theirs up; where that won't do, a prefill takes what there is.
        """
        needed = max(0, self._blocks_for(held.context_tokens + tokens) - held.blocks)
        if needed > self._free and not self._evict_for(needed, 0, self._victims_after(held)):
            if not self._limits.chunked_prefill:
                return 0
            needed = self._free
            tokens = min(tokens, (held.blocks + needed) * self._limits.block_tokens - held.context_tokens)
        if tokens > 0:
            self._free -= needed
        return tokens

    def _enter(self, held: Held) -> bool:
        """Takes a slot and the blocks of the whole prompt, so that what enters can also finish its prefill."""
        others = self._resident > 0
        needed = self._blocks_for(held.context_tokens + held.left_tokens)
        spare = self._limits.watermark_blocks if others else 0
        slots = 1 if self._resident >= self._limits.slots else 0
        if slots or needed + spare > self._free:
            victims = self._victims_for_entry(held)
            if not self._evict_for(needed + spare, slots, victims):
                return False
        self._free -= needed
        self._resident += 1
        self.plan.admit.append(held.handle)
        return True

    def _victims_after(self, held: Held) -> list[Held]:
        """Resident sequences behind `held` that take no part yet, worst first."""
        victims: list[Held] = []
        for other in reversed(self._order):
            if other.handle == held.handle:
                break
            if other.resident and other.handle not in self.plan.quotas and other.handle not in self._evicted:
                victims.append(other)
        return victims

    def _victims_for_entry(self, held: Held) -> list[Held]:
        """Who may lose its KV so that a waiting sequence enters; nobody where the rules or its own slack say wait."""
        if not self._rules.evict or self.plan.evict:
            return []
        victims = self._victims_after(held)
        if not self._rules.class_tiers:
            return victims
        if not held.latency_sensitive or held.output_tokens:
            return []
        model = self._model
        own_ms = model.c0_ms + model.c1_ms_per_prefill_token * held.left_tokens
        slack = held.arrival_ms + held.ttft_ms - self._now_ms - own_ms
        return [
            victim
            for victim in victims
            if not victim.latency_sensitive and slack <= model.c1_ms_per_prefill_token * victim.context_tokens
        ]

    def _evict_for(self, blocks: int, slots: int, victims: list[Held]) -> bool:
        """Evicts as few of `victims`, worst first, as make `blocks` (and `slots`) free; none if all would not do."""
        chosen: list[Held] = []
        free = self._free
        for victim in victims:
            if free >= blocks and len(chosen) >= slots:
                break
            chosen.append(victim)
            free += victim.blocks
        if free < blocks or len(chosen) < slots:
            return False
        for victim in chosen:
            self._evicted.add(victim.handle)
            self.plan.evict.append(victim.handle)
        self._resident -= len(chosen)
        self._free = free
        return True
