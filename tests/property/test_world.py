"""20,000 random steps of the real core and the real ordering in virtual time, with faults: I1-I5, I9 and I10."""

from __future__ import annotations

import pytest

from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.types import Outcome
from tests.property.world import PredictorMood, World

STEPS = 20_000


@pytest.mark.parametrize("mood", list(PredictorMood))
def test_invariants_hold_over_random_steps_however_the_predictor_behaves(mood: PredictorMood) -> None:
    world = World(seed=7, mood=mood)
    world.run(until_steps=STEPS)
    outcomes = {client.outcome for client in world.clients.values()}
    expected = {Outcome.STOP, Outcome.CANCELLED_BY_CLIENT, Outcome.EXPIRED, Outcome.FAILED_WORKER_LOST}
    assert expected <= outcomes, "the run did not go through every kind of end"


@pytest.mark.parametrize("seed", range(12))
def test_many_seeds(seed: int) -> None:
    World(seed, policy=("fcfs", "isrtf", "slo")[seed % 3], workers=1 + seed % 3).run(until_steps=1000)


@pytest.mark.parametrize("seed", range(40, 46))
def test_workers_that_leap_decide_as_those_that_step(seed: int) -> None:
    """The same world twice, under faults, changes of policy and cancellations: one decision log, one set of results."""
    worlds = [
        World(seed, policy=sorted(BUILT_IN)[seed % len(BUILT_IN)], workers=1 + seed % 3, leaps=leaps)
        for leaps in (True, False)
    ]
    for world in worlds:
        world.run_for(2_500.0)
    leapt, stepped = worlds
    assert leapt.log == stepped.log, f"seed {seed}"
    assert leapt.requests == stepped.requests, f"seed {seed}"


def test_one_seed_gives_one_decision_log_byte_for_byte() -> None:
    logs: list[str] = []
    for _ in range(2):
        world = World(seed=11)
        world.run(until_steps=4000)
        logs.append("\n".join(world.log))
    assert logs[0] == logs[1], "seed 11: two runs differ (I9)"
    assert len(logs[0]) > 100_000
