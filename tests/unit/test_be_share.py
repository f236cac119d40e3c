"""The BE share's credit: bursts, the bound that I6 promises, and no more than the share."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.policies import parse_choice
from simulator.run import Run, Setup, simulate
from simulator.world import Request
from tests.unit.test_ordering import MODEL, TIERS, decode
from worker_svc.be_share import FULL, MOST_TURNS, ShareCredit, share_after, share_after_steps, steps_alike
from worker_svc.ordering import StepLimits, StepRules, plan_step
from worker_svc.step_types import Held


def turns_of(seats: int, share: float, steps: int, *, begin: ShareCredit = FULL) -> list[bool]:
    """Whether the oldest BE request took part in each of so many steps whose seats LS would fill."""
    held = [decode(handle, rank=handle, ls=True, blocks=100) for handle in range(1, seats + 3)]
    held += [decode(98, rank=0, arrival_ms=8000.0), decode(99, rank=9, arrival_ms=4000.0)]
    rules = StepRules(class_tiers=True, step_budget=True, displace=True, be_share=share)
    limits = StepLimits(token_budget=2048, seats=seats, slots=200, free_blocks=100, block_tokens=16)
    credit, took = begin, list[bool]()
    for _ in range(steps):
        plan = plan_step(held, limits, rules, MODEL, 10_000.0, credit)
        assert len(plan.quotas) == seats
        assert 98 not in plan.quotas
        took.append(99 in plan.quotas)
        credit = plan.share
    return took


@pytest.mark.parametrize(("seats", "share"), [(4, 0.05), (12, 0.05), (12, 0.08), (16, 0.05), (3, 0.3), (6, 0.01)])
def test_the_oldest_be_request_gets_its_share_and_no_more(seats: int, share: float) -> None:
    for begin in (FULL, ShareCredit(0.0, spending=False)):
        took = turns_of(seats, share, 1200, begin=begin)
        for steps in range(1, 1201):
            due = share * seats * steps
            assert due - MOST_TURNS <= sum(took[:steps]) <= due + MOST_TURNS, f"I6 after {steps} steps"


def test_turns_are_spent_in_bursts() -> None:
    took = turns_of(12, 0.05, 1000)
    changes = sum(a is not b for a, b in itertools.pairwise(took))
    assert 4 <= changes <= 14, "a pause or resumption in a hundred steps or so, not at each"


@pytest.mark.parametrize("seats", [20, 64])
def test_where_a_step_brings_a_whole_turn_the_seat_is_kept(seats: int) -> None:
    assert all(turns_of(seats, 0.05, 200))


def test_turns_that_its_rank_gives_count_too() -> None:
    alone: list[Held] = [decode(1, rank=0, arrival_ms=4000.0)]
    limits = StepLimits(token_budget=2048, seats=4, slots=8, free_blocks=100, block_tokens=16)
    credit = FULL
    for _ in range(80):
        credit = plan_step(alone, limits, replace(TIERS, be_share=0.05), MODEL, 10_000.0, credit).share
    assert credit.turns < 1
    assert not credit.spending


@given(
    st.floats(0.01, 3.0), st.booleans(), st.integers(0, 300), st.floats(0.0, MOST_TURNS), st.booleans()
)  # fmt: skip
def test_many_steps_at_once_are_the_same_as_one_by_one(
    earned: float, took: bool, steps: int, turns: float, spending: bool
) -> None:
    begin = credit = ShareCredit(turns, spending)
    alike = 0
    for step in range(steps):
        if credit.spending is spending and alike == step:
            alike += 1
        credit = share_after(credit, earned, took)
    assert share_after_steps(begin, earned, took, steps) == credit
    assert steps_alike(begin, earned, took, steps) == alike


@pytest.mark.parametrize("policy", ["slo@seats=8", "slo@seats=6,be_share=0.1,evict=off"])
def test_a_simulated_engine_leaps_over_bursts_as_it_steps(policy: str) -> None:
    seen: list[tuple[str, list[Request]]] = []
    for leaps in (True, False):
        log = io.StringIO()
        setup = Setup(requests=60, kv_tokens=24_000, seed=3, leaps=leaps)
        result = simulate(Run("synthetic", parse_choice(policy), 1.0, 2.0), setup, log=log)
        seen.append((log.getvalue(), result.requests))
    assert seen[0] == seen[1], f"{policy}, seed 3"
    assert sum(request.pauses for request in seen[0][1]) > 20, "the share's bursts were not exercised"
