"""A step that is known without an order is the very step that the order would give."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.test_plan_step import BLOCK_TOKENS, NOW_MS, models, rules
from worker_svc.be_share import ShareCredit
from worker_svc.ordering import Held, StepLimits, StepModel, StepRules, plan_step
from worker_svc.step_filler import TPOT_PACE
from worker_svc.whole_steps import Decodes, all_take_part, share_after_whole_step

shares = st.builds(ShareCredit, st.sampled_from([0.0, 0.5, 1.0, 20.0, 50.0]), st.booleans())
limits = st.builds(
    StepLimits,
    token_budget=st.sampled_from([8, 2048]),
    seats=st.sampled_from([6, 16]),
    slots=st.sampled_from([6, 16]),
    free_blocks=st.sampled_from([4, 500]),
    block_tokens=st.just(BLOCK_TOKENS),
)


@st.composite
def decodes(draw: st.DrawFn) -> list[Held]:
    """Resident decodes, late and early, of both classes; their targets are near each other, or all would be tight."""
    tpots_ms = draw(st.sampled_from([(1.0, 2.0), (50.0, 70.0), (5_000.0, 9_000.0)]))
    return [_decode(draw, handle, tpots_ms) for handle in range(draw(st.integers(1, 12)))]


def _decode(draw: st.DrawFn, handle: int, tpots_ms: tuple[float, float]) -> Held:
    context = draw(st.integers(1, 200))
    tpot_ms, output_tokens = draw(st.sampled_from(tpots_ms)), draw(st.integers(1, 100))
    slack_ms = draw(st.sampled_from([-600.0, -10.0, 0.0, 30.0, 10_000.0]))
    return Held(
        handle=handle,
        rank=draw(st.integers(0, 3)),
        latency_sensitive=draw(st.booleans()),
        resident=True,
        seated=draw(st.booleans()),
        left_tokens=1,
        context_tokens=context,
        output_tokens=output_tokens,
        decoding=True,
        arrival_ms=NOW_MS - draw(st.sampled_from([0.0, 5_000.0])),
        first_token_ms=NOW_MS + slack_ms - output_tokens * TPOT_PACE * tpot_ms,
        ttft_ms=1_000.0,
        tpot_ms=tpot_ms,
        blocks=-(-context // BLOCK_TOKENS),
    )


@given(decodes(), limits, rules, models, shares)
@settings(max_examples=500, deadline=None)
def test_whoever_is_said_to_take_part_does_under_the_order_too(
    sequences: list[Held], limits: StepLimits, rules: StepRules, model: StepModel, share: ShareCredit
) -> None:
    held = told(sequences)
    if not all_take_part(held, limits, rules, model):
        return
    plan = plan_step(sequences, limits, rules, model, NOW_MS, share)
    assert plan.quotas == dict.fromkeys((one.handle for one in sequences), 1)
    assert not plan.evict
    assert plan.share == share_after_whole_step(held, share, limits, rules)


def test_an_engine_with_room_is_such_and_one_without_a_seat_is_not() -> None:
    limits = StepLimits(token_budget=2048, seats=64, slots=64, free_blocks=100, block_tokens=16)
    slo = StepRules(class_tiers=True, step_budget=True, displace=True, be_share=0.05)
    held = Decodes(latency_sensitive=40, best_effort=24, context_tokens=6_000, least_tpot_ms=50.0)
    model = StepModel(c0_ms=2.0, c2_ms_per_decode=0.2, c3_ms_per_context_token=0.0)
    assert all_take_part(held, limits, slo, model)
    assert not all_take_part(Decodes(41, 24, 6_000, 50.0), limits, slo, model)
    # 14.8 ms are more than half of a TPOT target of 20 ms: then it depends on slack whether BE takes part.
    assert not all_take_part(Decodes(40, 24, 6_000, 20.0), limits, slo, model)
    assert all_take_part(Decodes(64, 0, 6_000, 20.0), limits, slo, model)


def told(sequences: list[Held]) -> Decodes:
    sensitive = [held.tpot_ms for held in sequences if held.latency_sensitive]
    context = sum(held.context_tokens for held in sequences)
    return Decodes(len(sensitive), len(sequences) - len(sensitive), context, min(sensitive, default=float("inf")))
