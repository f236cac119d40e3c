"""Every policy in the random world: I1-I5 as it runs, I9 by running twice, I10 with each kind of predictor.

The world is that of `world.py`: the real core, the real ordering on simulated engines, a network with delays, random
arrivals, lengths, cancellations, deadlines, and workers that are lost and come back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.policies.options import describe
from scheduler_svc.core.types import Decision, Event, PolicyChanged, PolicyFault
from tests.property.world import PredictorMood, World

POLICIES = sorted(BUILT_IN)
STEPS = 150


class OnePolicy(World):
    """A world in which the policy stays; where another would come, this one comes anew with other settings."""

    def __init__(self, policy: str, seed: int, mood: PredictorMood, workers: int = 2) -> None:
        self.only = policy
        super().__init__(seed, policy=policy, mood=mood, workers=workers)

    def tell(self, event: Event) -> None:
        if isinstance(event, PolicyChanged):
            event = PolicyChanged(self.only, event.settings)
        super().tell(event)

    def _carry_out(self, decision: Decision) -> None:
        assert not isinstance(decision, PolicyFault), self._broken(f"{self.only}: {decision}")
        super()._carry_out(decision)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32), mood=st.sampled_from(PredictorMood), workers=st.integers(1, 3))
def test_invariants_hold_under_every_policy(policy: str, seed: int, mood: PredictorMood, workers: int) -> None:
    world = OnePolicy(policy, seed, mood, workers)
    world.run(until_steps=STEPS)
    assert world.steps >= STEPS, f"seed {seed}: the world stood still"


@pytest.mark.parametrize("policy", POLICIES)
def test_one_seed_gives_one_decision_log_under_every_policy(policy: str) -> None:
    logs: list[list[str]] = []
    for _ in range(2):
        world = OnePolicy(policy, seed=11, mood=PredictorMood.GOOD)
        world.run(until_steps=4 * STEPS)
        logs.append(world.log)
    assert logs[0] == logs[1], f"{policy}, seed 11: two runs differ (I9)"
    assert len(logs[0]) > 50, "too short a run to tell anything"


@pytest.mark.parametrize("policy", [name for name in POLICIES if describe(BUILT_IN[name].Options)])
def test_invariants_hold_at_the_ends_of_every_option(policy: str) -> None:
    """Options one by one at the ends of their ranges (choices: each of them)."""
    for field in dataclasses.fields(BUILT_IN[policy].Options):
        if type(field.default) is bool:
            ends: list[object] = [not field.default]
        elif type(field.default) is str:
            ends = [choice for choice in field.metadata["choices"] if choice != field.default]
        else:
            ends = [field.metadata["least"], field.metadata["most"]]
        if field.name == "iterations":
            ends = [0, 1000]
        for end in ends:
            world = OnePolicy(policy, seed=3, mood=PredictorMood.GOOD)
            with_option = replace(world.core.policy.settings, options=((field.name, end),))  # type: ignore[arg-type]
            world.tell(PolicyChanged(policy, with_option))
            world.run(until_steps=25)
