"""`plan_step` on any state that an engine can be in: within the limits, and nothing left out that fits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.step_checks import blocks_for, check_plan
from worker_svc.ordering import Held, StepLimits, StepModel, StepRules, plan_step

NOW_MS = 10_000.0
BLOCK_TOKENS = 16

rules = st.builds(
    StepRules,
    class_tiers=st.booleans(),
    step_budget=st.booleans(),
    displace=st.booleans(),
    evict=st.booleans(),
    be_share=st.sampled_from([0.0, 0.05, 0.99]),
    yield_when_ahead=st.booleans(),
    max_itl_factor=st.sampled_from([0.01, 4.0]),
    step_seats=st.none() | st.integers(1, 20),
    relegate_late=st.booleans(),
    hold_be_decodes=st.booleans(),
    min_chunk_tokens=st.sampled_from([0, 16, 512]),
    chunking=st.sampled_from(["auto", "fixed", "slack"]),
    chunk_tokens=st.none() | st.sampled_from([1, 100]),
    credit_batching=st.booleans(),
    borrow_tpots=st.sampled_from([0.0, 0.5, 3.0]),
)
models = st.builds(
    StepModel,
    st.floats(0.0, 50.0),
    st.sampled_from([0.0, 0.045]),
    st.sampled_from([0.0, 0.05, 20.0]),
    st.sampled_from([0.0, 0.00025]),
)


@st.composite
def held_sequences(draw: st.DrawFn) -> list[Held]:
    """Running, half prefilled, evicted and waiting ones, late and early, whose blocks match their context."""
    return [_held(draw, handle) for handle in range(draw(st.integers(0, 12)))]


def _held(draw: st.DrawFn, handle: int) -> Held:
    resident = draw(st.booleans())
    decoding = resident and draw(st.booleans())
    context = draw(st.integers(1, 200)) if resident else 0
    output = draw(st.integers(1, 100)) if decoding or draw(st.booleans()) else 0
    return Held(
        handle=handle,
        rank=draw(st.integers(0, 3)),
        latency_sensitive=draw(st.booleans()),
        resident=resident,
        seated=resident and draw(st.booleans()),
        left_tokens=1 if decoding else draw(st.integers(1, 300)),
        context_tokens=context,
        output_tokens=output,
        decoding=decoding,
        arrival_ms=NOW_MS - draw(st.sampled_from([0.0, 600.0, 5_000.0])),
        first_token_ms=NOW_MS - draw(st.floats(0.0, 9_000.0)) if output else None,
        ttft_ms=draw(st.sampled_from([1.0, 1_000.0])),
        tpot_ms=draw(st.sampled_from([1.0, 50.0])),
        blocks=blocks_for(context, BLOCK_TOKENS),
        admissible=resident or draw(st.integers(0, 9)) > 0,
        credit=draw(st.sampled_from([0.0, 0.4, 1.0])),
    )


@st.composite
def limits_for(draw: st.DrawFn, sequences: list[Held]) -> StepLimits:
    """Limits that the present residents keep."""
    residents = sum(held.resident for held in sequences)
    longest = max((blocks_for(held.context_tokens + held.left_tokens, BLOCK_TOKENS) for held in sequences), default=1)
    used = sum(held.blocks for held in sequences)
    return StepLimits(
        token_budget=draw(st.sampled_from([1, 3, 64, 511, 2048])),
        seats=draw(st.integers(1, 16)),
        slots=draw(st.integers(max(residents, 1), 16)),
        # Every sequence could run alone: the engine refuses longer ones at admission.
        free_blocks=draw(st.integers(max(0, longest - used), 60)),
        block_tokens=BLOCK_TOKENS,
        watermark_blocks=draw(st.sampled_from([0, 0, 2])),
    )


@settings(max_examples=600, deadline=None)
@given(st.data(), held_sequences(), rules, models)
def test_any_state(data: st.DataObject, sequences: list[Held], rules: StepRules, model: StepModel) -> None:
    limits = data.draw(limits_for(sequences))
    plan = plan_step(sequences, limits, rules, model, NOW_MS)
    check_plan(plan, sequences, limits, rules, model, NOW_MS)
    shuffled = data.draw(st.permutations(sequences))
    assert plan_step(shuffled, limits, rules, model, NOW_MS) == plan, "the order in which they are given means nothing"


@given(rules, models)
def test_nothing_held_nothing_planned(rules: StepRules, model: StepModel) -> None:
    plan = plan_step([], StepLimits(2048, 16, 16, 100, 16), rules, model, NOW_MS)
    assert (plan.quotas, plan.order, plan.admit, plan.evict) == ({}, [], [], [])
