"""What every step of an engine must keep, stated from the design and not from the code that decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker_svc.ordering import Held, StepLimits, StepModel, StepPlan, StepRules, slack_ms


@dataclass(frozen=True)
class Room:
    """What a plan leaves of a step: tokens, seats, slots, KV blocks and time (None: unbounded).

    `decode_ms` is the time for BE decodes, `ahead_ms` for LS decodes that may wait, `chunk_ms` and `chunk` time and
    tokens for prefill, `be_prefill_ms` what BE prefill may still add to the step.
    """

    tokens: int
    seats: int
    slots: int
    blocks: int
    decode_ms: float | None
    ahead_ms: float | None
    chunk_ms: float | None
    chunk: int
    be_prefill_ms: float | None


def step_limit_ms(sequences: Sequence[Held], rules: StepRules, now_ms: float) -> float | None:
    """The time that a step may take while LS decodes run (design: scheduling, "Step budget")."""
    running = [held for held in sequences if held.latency_sensitive and held.decoding and held.resident]
    in_time = [held for held in running if slack_ms(held, now_ms) > -500.0]
    if not in_time:
        return None
    tpot_ms = min(held.tpot_ms for held in in_time)
    least_slack_ms = min(slack_ms(held, now_ms) for held in in_time)
    late_share = sum(slack_ms(held, now_ms) < 0 for held in in_time) / len(in_time)
    mean_tokens = sum(held.output_tokens for held in in_time) / len(in_time)
    borrowed = max(0.0, 1.0 - late_share / (1 / 3)) * min(rules.borrow_tpots, 0.5 * (1.0 - 0.96) * mean_tokens)
    return min(max(0.5 * tpot_ms, least_slack_ms + borrowed * tpot_ms), rules.max_itl_factor * tpot_ms)


def blocks_for(tokens: int, block_tokens: int) -> int:
    return -(-tokens // block_tokens)


def room_left(
    plan: StepPlan,
    sequences: Sequence[Held],
    limits: StepLimits,
    rules: StepRules,
    model: StepModel,
    now_ms: float,
) -> Room:
    """What `plan` leaves; `sequences` are as before the step.

    A sequence that enters reserves its whole prompt. Blocks that an eviction made free beyond its need are there for
    the next step, as in vLLM: others were asked before it.
    """
    by_handle = {held.handle: held for held in sequences}
    blocks, residents = limits.free_blocks, sum(held.resident for held in sequences)
    for handle in plan.evict:
        blocks += by_handle[handle].blocks
        residents -= 1
    prefill = decodes = context = 0
    for handle, tokens in plan.quotas.items():
        held = by_handle[handle]
        end = held.context_tokens + (tokens if held.resident else held.left_tokens)
        blocks -= max(0, blocks_for(end, limits.block_tokens) - held.blocks)
        residents += not held.resident
        context += held.context_tokens
        decodes += held.decoding
        prefill += 0 if held.decoding else tokens
    limit_ms = step_limit_ms(sequences, rules, now_ms)
    left_ms = None if limit_ms is None else limit_ms - model.step_ms(prefill, decodes, context)
    budget = rules.class_tiers and rules.step_budget
    by_time = rules.chunking == "slack" or (rules.chunking == "auto" and budget)
    fixed = rules.chunking == "fixed" and limits.chunked_prefill and rules.chunk_tokens is not None
    chunk = rules.chunk_tokens if fixed and rules.chunk_tokens is not None else limits.token_budget
    seats = limits.seats if rules.step_seats is None else min(limits.slots, rules.step_seats)
    return Room(
        tokens=limits.token_budget - sum(plan.quotas.values()),
        seats=seats - len(plan.quotas),
        slots=limits.slots - residents,
        blocks=min(blocks, 0) if plan.evict else blocks,
        decode_ms=left_ms if budget and rules.hold_be_decodes else None,
        ahead_ms=left_ms if budget else None,
        chunk_ms=left_ms if by_time else None,
        chunk=chunk - prefill,
        be_prefill_ms=be_prefill_left_ms(plan, sequences, model, now_ms)
        if by_time and rules.class_tiers and limits.chunked_prefill
        else None,
    )


def be_prefill_left_ms(plan: StepPlan, sequences: Sequence[Held], model: StepModel, now_ms: float) -> float | None:
    """BE prefill adds to a step no more than 5 % of the least TTFT target of the LS decodes that run."""
    targets = [
        held.ttft_ms
        for held in sequences
        if held.latency_sensitive and held.decoding and held.resident and slack_ms(held, now_ms) > -500.0
    ]
    if not targets:
        return None
    tokens = sum(
        plan.quotas.get(held.handle, 0) for held in sequences if not held.latency_sensitive and not held.decoding
    )
    return 0.05 * min(targets) - tokens * model.c1_ms_per_prefill_token


def fits(held: Held, room: Room, limits: StepLimits, model: StepModel, *, may_wait: bool) -> bool:
    """Whether one more token of `held` fits into the room that a plan leaves."""
    if room.tokens < 1 or room.seats < 1 or not held.admissible:
        return False
    if not limits.chunked_prefill and held.left_tokens > room.tokens:
        return False
    if held.resident:
        needed = blocks_for(held.context_tokens + 1, limits.block_tokens) - held.blocks
    else:
        needed = blocks_for(held.left_tokens, limits.block_tokens) + limits.watermark_blocks
        if room.slots < 1:
            return False
    if needed > room.blocks or (not held.decoding and room.chunk < 1):
        return False
    be_prefill = not held.latency_sensitive and not held.decoding
    if be_prefill and room.be_prefill_ms is not None and room.be_prefill_ms < model.c1_ms_per_prefill_token:
        return False
    ms = room.ahead_ms if may_wait else room.decode_ms if held.decoding else room.chunk_ms
    if ms is None or (held.latency_sensitive and held.decoding and not may_wait):
        return True
    work_ms = model.c2_ms_per_decode if held.decoding else model.c1_ms_per_prefill_token
    return model.c3_ms_per_context_token * held.context_tokens + work_ms <= ms


def without_turn(sequences: Sequence[Held], rules: StepRules) -> set[int]:
    """Credit batching: LS decodes that have not saved up a turn; the one with the least target always has."""
    running = [held for held in sequences if held.latency_sensitive and held.decoding and held.resident]
    if not (rules.credit_batching and running):
        return set()
    least_ms = min(held.tpot_ms for held in running)
    return {held.handle for held in running if held.credit + least_ms / held.tpot_ms < 1 - 1e-9}


def may_wait(plan: StepPlan, sequences: Sequence[Held], rules: StepRules, now_ms: float) -> set[int]:
    """LS decodes a whole TPOT ahead of their pace: beside LS prefill they may be left out for want of time."""
    prefilled = any(
        held.latency_sensitive and held.handle in plan.quotas and not (held.decoding and held.resident)
        for held in sequences
    )
    if not (rules.yield_when_ahead and rules.class_tiers and prefilled):
        return set()
    return {
        held.handle
        for held in sequences
        if held.latency_sensitive and held.decoding and held.resident and slack_ms(held, now_ms) > held.tpot_ms
    }


def check_plan(
    plan: StepPlan,
    sequences: Sequence[Held],
    limits: StepLimits,
    rules: StepRules,
    model: StepModel,
    now_ms: float,
) -> None:
    """The plan is well formed and within its budgets (I4), and leaves nothing out that fits (I5)."""
    by_handle = {held.handle: held for held in sequences}
    assert sorted(plan.order) == sorted(by_handle), "order names every sequence once"
    assert len(set(plan.evict)) == len(plan.evict)
    assert not set(plan.evict) & plan.quotas.keys(), "an evicted sequence takes no part"
    assert all(by_handle[handle].resident for handle in plan.evict)
    for handle, tokens in plan.quotas.items():
        assert 1 <= tokens <= by_handle[handle].left_tokens
        assert by_handle[handle].admissible
    assert plan.admit == [handle for handle in plan.quotas if not by_handle[handle].resident]
    room = room_left(plan, sequences, limits, rules, model, now_ms)
    assert min(room.tokens, room.seats, room.slots, room.blocks, room.chunk) >= 0, f"I4: beyond the limits: {room}"
    no_turn = without_turn(sequences, rules)
    waits = may_wait(plan, sequences, rules, now_ms)
    ran_early = no_turn & plan.quotas.keys()
    left_out = [
        held
        for held in sequences
        if (held.handle not in no_turn or ran_early)
        and held.handle not in plan.quotas
        and held.handle not in plan.evict
        and fits(held, room, limits, model, may_wait=held.handle in waits)
    ]
    assert not left_out, f"I5: left out although it fits {room}: {left_out}"
    runnable = [held for held in sequences if held.resident or (held.admissible and _could_enter(held, limits))]
    assert plan.quotas or not runnable, f"I5: an empty step although these can run: {runnable}"


def _could_enter(held: Held, limits: StepLimits) -> bool:
    return blocks_for(held.left_tokens, limits.block_tokens) <= limits.free_blocks and (
        limits.chunked_prefill or held.left_tokens <= limits.token_budget
    )
