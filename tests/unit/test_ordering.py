"""Ranks to quotas: each rule of the default policy on a case small enough to work out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker_svc.ordering import Held, StepLimits, StepModel, StepRules, plan_step

MODEL = StepModel(6.0, 0.045, 0.05, 0.0)
LIMITS = StepLimits(token_budget=2048, seats=4, slots=8, free_blocks=100, block_tokens=16)
TIERS = StepRules(class_tiers=True, step_budget=True, displace=True, evict=True)
NOW_MS = 10_000.0


def decode(handle: int, rank: int, *, ls: bool = False, **changes: object) -> Held:
    """A sequence with 100 tokens of context that makes one token a step."""
    held = Held(
        handle=handle,
        rank=rank,
        latency_sensitive=ls,
        resident=True,
        seated=True,
        left_tokens=1,
        context_tokens=100,
        output_tokens=10,
        decoding=True,
        arrival_ms=9_000.0,
        first_token_ms=NOW_MS - 10 * 0.96 * 50.0,
        ttft_ms=1000.0,
        tpot_ms=50.0,
        blocks=7,
    )
    return replace(held, **changes)


def waiting(handle: int, rank: int, tokens: int, *, ls: bool = False, **changes: object) -> Held:
    """A sequence that has not begun, with a prompt of `tokens`."""
    fresh = decode(
        handle,
        rank,
        ls=ls,
        resident=False,
        seated=False,
        left_tokens=tokens,
        context_tokens=0,
        output_tokens=0,
        decoding=False,
        first_token_ms=None,
        blocks=0,
    )
    return replace(fresh, **changes)


def test_without_displacing_who_runs_runs_on() -> None:
    held = [decode(handle, rank=10) for handle in range(1, 5)] + [waiting(9, rank=0, tokens=50)]
    plan = plan_step(held, LIMITS, StepRules(), MODEL, NOW_MS)
    assert plan.quotas == {1: 1, 2: 1, 3: 1, 4: 1}
    assert plan.admit == []


def test_a_better_ranked_one_takes_the_seat_and_the_worst_keeps_its_kv() -> None:
    held = [decode(handle, rank=handle) for handle in range(1, 5)] + [waiting(9, rank=0, tokens=50)]
    plan = plan_step(held, LIMITS, StepRules(displace=True), MODEL, NOW_MS)
    assert plan.quotas == {9: 50, 1: 1, 2: 1, 3: 1}
    assert plan.admit == [9]
    assert plan.evict == []


def test_ls_prefill_comes_before_be_decodes_that_hold_all_seats() -> None:
    held = [decode(handle, rank=handle) for handle in range(1, 5)] + [waiting(9, rank=99, tokens=50, ls=True)]
    plan = plan_step(held, LIMITS, TIERS, MODEL, NOW_MS)
    assert plan.quotas[9] == 50
    assert set(plan.quotas) == {9, 1, 2, 3}


def test_an_ls_decode_is_never_displaced_by_another_ls_request() -> None:
    held = [decode(handle, rank=handle, ls=True) for handle in range(1, 5)]
    held.append(waiting(9, rank=0, tokens=50, ls=True, ttft_ms=1.0))
    plan = plan_step(held, LIMITS, TIERS, MODEL, NOW_MS)
    assert set(plan.quotas) == {1, 2, 3, 4}


def test_ls_decodes_go_by_least_slack() -> None:
    late = decode(2, rank=9, ls=True, first_token_ms=NOW_MS - 10 * 0.96 * 50.0 - 20.0)
    plan = plan_step([decode(1, rank=0, ls=True), late], replace(LIMITS, seats=1), TIERS, MODEL, NOW_MS)
    assert plan.quotas == {2: 1}


def test_an_ls_prefill_that_has_missed_its_target_moves_behind_one_that_has_not() -> None:
    missed = waiting(1, rank=0, tokens=50, ls=True, arrival_ms=NOW_MS - 2000.0)
    fresh = waiting(2, rank=1, tokens=50, ls=True, arrival_ms=NOW_MS - 1.0)
    plan = plan_step([missed, fresh], replace(LIMITS, seats=1), TIERS, MODEL, NOW_MS)
    assert plan.quotas == {2: 50}


def test_be_is_held_back_so_that_the_step_ends_in_time_for_the_ls_decode() -> None:
    # Slack 0, so the step may last half of TPOT = 25 ms: 6 + 0.05 for the LS decode, 18.95 ms left = 421 tokens.
    held = [decode(1, rank=0, ls=True), waiting(2, rank=1, tokens=1000)]
    plan = plan_step(held, LIMITS, TIERS, MODEL, NOW_MS)
    assert plan.quotas == {1: 1, 2: 421}
    assert plan.planned_ms <= 25.0


def test_a_step_borrows_slack_up_to_so_many_tpots_and_less_where_it_would_not_come_back() -> None:
    def chunk(borrow_tpots: float, *decodes: Held) -> int:
        limits = replace(LIMITS, seats=8, free_blocks=1000, token_budget=10_000)
        rules = replace(TIERS, borrow_tpots=borrow_tpots)
        return plan_step([*decodes, waiting(20, rank=1, tokens=4000)], limits, rules, MODEL, NOW_MS).quotas[20]

    def tokens_in(time_ms: float, decodes: int) -> int:
        return int((time_ms - 6.0 - decodes * 0.05) / 0.045)

    def out(tokens: int, late_ms: float = 0.0, handle: int = 1) -> Held:
        first_ms = NOW_MS - tokens * 0.96 * 50.0 - late_ms
        return decode(handle, rank=0, ls=True, output_tokens=tokens, first_token_ms=first_ms, ttft_ms=60_000.0)

    assert chunk(1.5, out(1000)) == tokens_in(75.0, 1)
    assert chunk(1.5, out(10)) == tokens_in(25.0, 1), "0.2 TPOTs over 10 tokens: less than half of TPOT"
    assert chunk(4.0, out(100)) == pytest.approx(tokens_in(100.0, 1), abs=1), "half a margin of 4 % of 100 tokens"
    assert chunk(4.0, out(1000, late_ms=10.0)) == tokens_in(25.0, 1), "all are late"
    others = [out(1000, handle=handle) for handle in range(2, 7)]
    assert chunk(4.0, out(1000, late_ms=15.0), *others) == tokens_in(100.0 - 15.0, 6), "one of six is late: half of it"


def test_be_prefill_adds_no_more_to_a_step_than_a_newcomer_can_wait_for() -> None:
    # The LS decodes have time for all of it. 5 % of the least TTFT target are 40 ms, 888 tokens of the two prompts.
    ahead = [
        decode(handle, rank=0, ls=True, first_token_ms=NOW_MS + 100_000.0, ttft_ms=ttft_ms)
        for handle, ttft_ms in ((1, 1000.0), (2, 800.0))
    ]
    prompts = [waiting(3, rank=1, tokens=600), waiting(4, rank=2, tokens=600)]
    limits = replace(LIMITS, token_budget=100_000, free_blocks=1000)
    assert plan_step([*ahead, *prompts], limits, TIERS, MODEL, NOW_MS).quotas == {1: 1, 2: 1, 3: 600, 4: 288}
    for off in (replace(TIERS, step_budget=False), replace(TIERS, chunking="fixed")):
        quotas = plan_step([*ahead, *prompts], limits, off, MODEL, NOW_MS).quotas
        assert (quotas[3], quotas[4]) == (600, 600), off
    whole = replace(limits, chunked_prefill=False)
    assert plan_step([*ahead, *prompts], whole, TIERS, MODEL, NOW_MS).quotas[4] == 600


def test_without_ls_decodes_only_the_token_budget_holds() -> None:
    plan = plan_step([waiting(2, rank=1, tokens=5000)], replace(LIMITS, free_blocks=1000), TIERS, MODEL, NOW_MS)
    assert plan.quotas == {2: 2048}


def test_saved_slack_does_not_buy_a_stall_beyond_the_longest_step() -> None:
    ahead = decode(1, rank=0, ls=True, first_token_ms=NOW_MS + 100_000.0, ttft_ms=60_000.0)
    held = [ahead, waiting(2, rank=1, tokens=5000)]
    limits = replace(LIMITS, token_budget=100_000, free_blocks=1000)
    plan = plan_step(held, limits, TIERS, MODEL, NOW_MS)
    assert plan.planned_ms == pytest.approx(4 * 50.0, abs=0.1)


def test_an_ls_decode_that_is_hopelessly_late_sets_no_budget() -> None:
    late = decode(1, rank=0, ls=True, first_token_ms=NOW_MS - 10 * 0.96 * 50.0 - 501.0)
    plan = plan_step([late, waiting(2, rank=1, tokens=1500)], LIMITS, TIERS, MODEL, NOW_MS)
    assert plan.quotas == {1: 1, 2: 1500}


def test_ls_prefill_gets_its_least_chunk_even_when_the_step_has_no_time() -> None:
    tight = decode(1, rank=0, ls=True, tpot_ms=14.0, first_token_ms=NOW_MS - 10 * 0.96 * 14.0)
    fresh = waiting(2, rank=1, tokens=1500, ls=True, arrival_ms=NOW_MS)
    urgent = waiting(2, rank=1, tokens=1500, ls=True, arrival_ms=NOW_MS - 501.0)
    assert plan_step([tight, fresh], LIMITS, TIERS, MODEL, NOW_MS).quotas[2] == 512
    assert plan_step([tight, urgent], LIMITS, TIERS, MODEL, NOW_MS).quotas[2] == 1024


def test_the_be_share_keeps_one_seat_for_the_oldest_be_request() -> None:
    held = [decode(handle, rank=handle, ls=True) for handle in range(1, 6)]
    held += [decode(8, rank=0, arrival_ms=5000.0), decode(7, rank=9, arrival_ms=4000.0)]
    shared = plan_step(held, LIMITS, replace(TIERS, be_share=0.05), MODEL, NOW_MS)
    assert 7 in shared.quotas
    assert len(shared.quotas) == 4
    assert not {7, 8} & set(plan_step(held, LIMITS, TIERS, MODEL, NOW_MS).quotas)


def test_an_urgent_ls_request_evicts_the_worst_be_only_when_no_block_is_free() -> None:
    held = [decode(handle, rank=handle, blocks=10) for handle in range(1, 5)]
    urgent = waiting(9, rank=99, tokens=60, ls=True, ttft_ms=1.0)
    assert plan_step([*held, urgent], LIMITS, TIERS, MODEL, NOW_MS).evict == []
    full = plan_step([*held, urgent], replace(LIMITS, free_blocks=0), TIERS, MODEL, NOW_MS)
    assert full.evict == [4]
    assert full.quotas[9] == 60


def test_no_eviction_for_an_ls_request_that_can_wait_longer_than_the_recompute_takes() -> None:
    held = [decode(handle, rank=handle, blocks=10) for handle in range(1, 5)]
    patient = waiting(9, rank=99, tokens=60, ls=True, arrival_ms=NOW_MS, ttft_ms=5000.0)
    plan = plan_step([*held, patient], replace(LIMITS, free_blocks=0), TIERS, MODEL, NOW_MS)
    assert plan.evict == []
    assert 9 not in plan.quotas


def test_no_victim_is_lost_where_even_all_of_them_would_not_make_room() -> None:
    held = [decode(1, rank=1)]
    plan = plan_step(
        [*held, waiting(9, rank=9, tokens=600, ls=True, ttft_ms=1.0)],
        replace(LIMITS, free_blocks=0),
        TIERS,
        MODEL,
        NOW_MS,
    )
    assert plan.evict == []
    assert plan.quotas == {1: 1}


def test_a_growing_sequence_takes_blocks_from_the_worst_ranked() -> None:
    grows = decode(1, rank=0, context_tokens=112, blocks=7)
    plan = plan_step([grows, decode(2, rank=1)], replace(LIMITS, free_blocks=0), StepRules(), MODEL, NOW_MS)
    assert plan.quotas == {1: 1}
    assert plan.evict == [2]


def test_a_smaller_prompt_enters_where_the_first_does_not_fit() -> None:
    held = [waiting(1, rank=0, tokens=160), waiting(2, rank=1, tokens=40)]
    plan = plan_step(held, replace(LIMITS, free_blocks=4), StepRules(), MODEL, NOW_MS)
    assert plan.admit == [2]


def test_slots_bound_what_is_resident() -> None:
    held = [decode(handle, rank=handle) for handle in range(1, 9)] + [waiting(9, rank=0, tokens=10)]
    plan = plan_step(held, replace(LIMITS, seats=9), StepRules(displace=True), MODEL, NOW_MS)
    assert 9 not in plan.quotas


def test_without_chunked_prefill_a_prompt_enters_whole_or_not() -> None:
    limits = replace(LIMITS, token_budget=100, chunked_prefill=False)
    plan = plan_step(
        [waiting(1, rank=0, tokens=101), waiting(2, rank=1, tokens=99)], limits, StepRules(), MODEL, NOW_MS
    )
    assert plan.quotas == {2: 99}


def test_among_ls_decodes_ahead_a_running_one_keeps_its_seat_until_another_is_four_tpots_behind_it() -> None:
    limits, rules = replace(LIMITS, seats=1), replace(TIERS, yield_when_ahead=True)
    on_pace_ms = NOW_MS - 10 * 0.96 * 50.0
    running = decode(1, rank=0, ls=True, first_token_ms=on_pace_ms + 500.0)
    near = decode(2, rank=1, ls=True, seated=False, unseated_ms=NOW_MS, first_token_ms=on_pace_ms + 500.0 - 199.0)
    far = replace(near, first_token_ms=on_pace_ms + 500.0 - 201.0)
    assert set(plan_step([running, near], limits, rules, MODEL, NOW_MS).quotas) == {1}
    assert set(plan_step([running, far], limits, rules, MODEL, NOW_MS).quotas) == {2}


def test_an_ls_decode_far_ahead_is_not_paused_for_longer_than_the_longest_step() -> None:
    limits, rules = replace(LIMITS, seats=1), replace(TIERS, yield_when_ahead=True, max_itl_factor=4.0)
    far_ahead_ms = NOW_MS + 60_000.0
    paused = decode(1, rank=0, ls=True, seated=False, unseated_ms=NOW_MS - 199.0, first_token_ms=far_ahead_ms)
    fresh = waiting(2, rank=1, tokens=50, ls=True)
    assert set(plan_step([paused, fresh], limits, rules, MODEL, NOW_MS).quotas) == {2}
    stalled = replace(paused, unseated_ms=NOW_MS - 200.0)
    assert set(plan_step([stalled, fresh], limits, rules, MODEL, NOW_MS).quotas) == {1}


def test_an_ls_decode_a_whole_tpot_ahead_yields_its_seat_to_an_ls_prefill() -> None:
    ahead = decode(1, rank=0, ls=True, first_token_ms=NOW_MS - 10 * 0.96 * 50.0 + 51.0)
    on_pace = decode(2, rank=1, ls=True)
    fresh = waiting(9, rank=9, tokens=50, ls=True)
    limits = replace(LIMITS, seats=2)
    assert set(plan_step([ahead, on_pace, fresh], limits, TIERS, MODEL, NOW_MS).quotas) == {1, 2}
    rules = replace(TIERS, yield_when_ahead=True)
    assert set(plan_step([ahead, on_pace, fresh], limits, rules, MODEL, NOW_MS).quotas) == {9, 2}


def test_a_late_ls_prefill_keeps_its_place_where_relegation_is_off() -> None:
    missed = waiting(1, rank=0, tokens=50, ls=True, arrival_ms=NOW_MS - 2000.0)
    fresh = waiting(2, rank=1, tokens=50, ls=True, arrival_ms=NOW_MS - 1.0)
    rules = replace(TIERS, relegate_late=False)
    assert plan_step([missed, fresh], replace(LIMITS, seats=1), rules, MODEL, NOW_MS).quotas == {1: 50}


def test_be_decodes_run_past_the_budget_where_they_are_not_held_back() -> None:
    # Half of TPOT is 7 ms: 6 + 0.6 for the LS decode leave 0.4 ms, a BE decode of 0.6 ms does not fit.
    slow = replace(MODEL, c2_ms_per_decode=0.6)
    held = [decode(1, rank=0, ls=True, tpot_ms=14.0, first_token_ms=NOW_MS - 10 * 0.96 * 14.0), decode(2, rank=1)]
    assert set(plan_step(held, LIMITS, TIERS, slow, NOW_MS).quotas) == {1}
    assert set(plan_step(held, LIMITS, replace(TIERS, hold_be_decodes=False), slow, NOW_MS).quotas) == {1, 2}


def test_the_least_chunk_can_be_set_and_doubles_when_half_the_target_is_used() -> None:
    tight = decode(1, rank=0, ls=True, tpot_ms=12.0, first_token_ms=NOW_MS - 10 * 0.96 * 12.0)
    fresh = waiting(2, rank=1, tokens=1500, ls=True, arrival_ms=NOW_MS)
    rules = replace(TIERS, min_chunk_tokens=64)
    assert plan_step([tight, fresh], LIMITS, rules, MODEL, NOW_MS).quotas[2] == 64
    urgent = replace(fresh, arrival_ms=NOW_MS - 501.0)
    assert plan_step([tight, urgent], LIMITS, rules, MODEL, NOW_MS).quotas[2] == 128
    assert 2 not in plan_step([tight, fresh], LIMITS, replace(rules, min_chunk_tokens=0), MODEL, NOW_MS).quotas


def test_slack_sizes_chunks_by_the_least_slack_though_the_policy_knows_no_classes() -> None:
    # Slack 0, so the step may last half of TPOT = 25 ms; two decodes leave 25 - 6.1 ms: 420 tokens, not 1000.
    held = [waiting(9, rank=0, tokens=1000), decode(1, rank=1, ls=True), decode(2, rank=2)]
    by_rank = StepRules(displace=True, min_chunk_tokens=100)
    assert plan_step(held, LIMITS, by_rank, MODEL, NOW_MS).quotas == {9: 1000, 1: 1, 2: 1}
    plan = plan_step(held, LIMITS, replace(by_rank, chunking="slack"), MODEL, NOW_MS)
    assert plan.quotas == {1: 1, 2: 1, 9: 420}
    ahead = [held[0], replace(held[1], first_token_ms=NOW_MS - 10 * 0.96 * 50.0 + 40.0), held[2]]
    more = plan_step(ahead, LIMITS, replace(by_rank, chunking="slack"), MODEL, NOW_MS)
    assert more.quotas[9] == int((40.0 - 6.1) / 0.045), "40 ms of slack: the step may use them"


def test_slack_leaves_the_first_prefill_its_least_chunk_and_the_others_nothing() -> None:
    tight = decode(1, rank=0, ls=True, tpot_ms=12.0, first_token_ms=NOW_MS - 10 * 0.96 * 12.0)
    held = [tight, waiting(2, rank=1, tokens=500), waiting(3, rank=2, tokens=500)]
    rules = StepRules(chunking="slack", min_chunk_tokens=64)
    assert plan_step(held, LIMITS, rules, MODEL, NOW_MS).quotas == {1: 1, 2: 64}


def test_fixed_chunks_are_shared_by_all_prefill_of_a_step_whatever_its_time() -> None:
    held = [decode(1, rank=0, ls=True), waiting(2, rank=1, tokens=700, ls=True), waiting(3, rank=2, tokens=700)]
    limits = replace(LIMITS, free_blocks=1000)
    rules = replace(TIERS, chunking="fixed", chunk_tokens=800)
    assert plan_step(held, limits, rules, MODEL, NOW_MS).quotas == {1: 1, 2: 700, 3: 100}
    whole = replace(TIERS, chunking="fixed")
    assert plan_step(held, limits, whole, MODEL, NOW_MS).quotas == {1: 1, 2: 700, 3: 700}


def test_credits_let_loose_targets_take_part_in_proportion() -> None:
    # Targets of 20, 40 and 60 ms: credits of 1, 1/2 and 1/3 a step, so 6, 3 and 2 of six steps.
    held = [decode(1, rank=0, ls=True, tpot_ms=20.0), decode(2, rank=1, ls=True, tpot_ms=40.0)]
    held.append(decode(3, rank=2, ls=True, tpot_ms=60.0))
    rules = replace(TIERS, credit_batching=True)
    took_part: list[list[int]] = []
    for _ in range(6):
        plan = plan_step(held, LIMITS, rules, MODEL, NOW_MS)
        took_part.append(sorted(plan.quotas))
        held = [replace(each, credit=plan.credits[each.handle]) for each in held]
    assert took_part == [[1], [1, 2], [1, 3], [1, 2], [1], [1, 2, 3]]


def test_a_seat_that_nobody_with_a_credit_can_use_is_not_left_empty() -> None:
    stuck = decode(1, rank=0, ls=True, tpot_ms=20.0, admissible=False)
    loose = decode(2, rank=1, ls=True, tpot_ms=40.0)
    plan = plan_step([stuck, loose], LIMITS, replace(TIERS, credit_batching=True), MODEL, NOW_MS)
    assert plan.quotas == {2: 1}
    assert plan.credits == {1: 1.0, 2: 0.0}
