"""The invariants I1-I5 and I9 under random arrivals and faults, with each choice on, alone and with others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler_svc.core.checks import BadChoice, check_settings
from scheduler_svc.core.placements import BUILT_IN_PLACEMENTS
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.types import Outcome, PolicySettings
from tests.property.world import PredictorMood, World

CHOICES: list[dict[str, object]] = [
    {"kv_admission": "peak"},
    {"kv_admission": "none"},
    {"admission": "guards"},
    {"admission": "dp_soft"},
    {"chunking": "slack"},
    {"chunking": "fixed", "chunk_tokens": 16},
    {"batching": "credit"},
    {"overload": "reject"},
    {"overload": "relegate"},
    *({"placement": name} for name in sorted(BUILT_IN_PLACEMENTS)),
    {"predict": "skip", "predict_tokens": 30},
    {"predict": "delay", "predict_tokens": 30},
    {"relegate_late": False, "hold_be_decodes": False, "min_chunk_tokens": 0},
    {"kv_admission": "peak", "overload": "relegate", "batching": "credit", "placement": "waiting_time"},
]


class ChosenWorld(World):
    """A world whose every policy has the same choices; one that does not go with them takes the default's place."""

    def __init__(self, seed: int, choices: dict[str, object], **given: object) -> None:
        self._choices = choices
        super().__init__(seed, leaps=False, **given)  # pyright: ignore[reportArgumentType]

    def _settings(self) -> PolicySettings:
        return replace(super()._settings(), **self._choices)

    def _check_pool(self) -> None:
        """I5 for the pool; a choice that keeps somebody out on purpose leaves this to an idle worker."""
        settings = self.core.policy.settings
        if settings.kv_admission != "peak" and settings.admission != "guards":
            super()._check_pool()
            return
        waiting = any(job.worker is None for job in self.core.live_jobs().values())
        idle = [worker for worker in self.core.workers.values() if not worker.jobs and not worker.leaving]
        assert not (waiting and idle), self._broken("I5: requests wait while a worker is idle")


def _fits(policy: str, choices: dict[str, object]) -> bool:
    settings = replace(PolicySettings(), **choices)
    try:
        check_settings(settings, BUILT_IN[policy](settings), BUILT_IN_PLACEMENTS)
    except BadChoice:
        return False
    return True


@pytest.fixture(autouse=True)
def _only_what_fits(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Policies that the choices exclude are not changed to."""
    choices = request.node.callspec.params["choices"]
    kept = {name: policy for name, policy in BUILT_IN.items() if _fits(name, choices)}
    monkeypatch.setattr("tests.property.world.BUILT_IN", kept)


@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: " ".join(f"{k}={v}" for k, v in choices.items()))
def test_the_invariants_hold_with_each_choice(choices: dict[str, object]) -> None:
    for seed, mood in ((21, PredictorMood.GOOD), (22, PredictorMood.LYING), (23, PredictorMood.DEAD)):
        world = ChosenWorld(seed, choices, mood=mood)
        world.run(until_steps=400)
        assert any(client.outcome is Outcome.STOP for client in world.clients.values())


@pytest.mark.parametrize("choices", [CHOICES[-1], {"admission": "dp_soft", "placement": "round_robin"}])
def test_one_seed_gives_one_decision_log_byte_for_byte(choices: dict[str, object]) -> None:
    logs: list[list[str]] = []
    for _ in range(2):
        world = ChosenWorld(31, choices)
        world.run(until_steps=600)
        logs.append(world.log)
    assert logs[0] == logs[1], "seed 31: two runs differ (I9)"
