"""The plug-ins of examples/, found as installed ones: what docs/writing-a-policy.md and -predictor.md walk through."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from fairlead.config import PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.predictors.base import Observed, Predictor, Question, open_predictor
from scheduler_svc.core.policies.base import Policy
from scheduler_svc.core.types import OptionValue, PolicySettings
from scheduler_svc.plugins import find_policies
from simulator.policies import find_policies as find_simulated
from simulator.policies import parse_choice
from tests.unit.policy_cases import arrive, assigned, core_of, job_of, last_order, order_of

EXAMPLES = Path(__file__).parents[2] / "examples"


def install(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an example on the path with the entry points of its pyproject.toml, as `pip install` would."""
    project: dict[str, Any] = tomllib.loads((EXAMPLES / folder / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(EXAMPLES / folder))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def express_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Policy]:
    install("policy", tmp_path, monkeypatch)
    return find_policies()["express_lane"]


def made(policy: type[Policy], **options: OptionValue) -> Policy:
    return policy(PolicySettings(options=tuple(options.items())))


def test_the_short_pass_the_long_and_patience_ends(express_lane: type[Policy]) -> None:
    jobs = [job_of(1, 900, arrival_ms=0), job_of(2, 50, arrival_ms=10_000), job_of(3, 60, arrival_ms=5_000)]
    policy = made(express_lane)
    assert order_of(policy, jobs, now_ms=20_000) == [3, 2, 1]
    assert order_of(policy, jobs, now_ms=30_000) == [1, 3, 2], "after 30 s the long one is in the lane, by arrival"
    assert order_of(made(express_lane, short_tokens=40), jobs, now_ms=20_000) == [1, 3, 2]


def test_a_long_answer_loses_its_seat_to_a_short_one_and_gets_it_back(express_lane: type[Policy]) -> None:
    core = core_of("express_lane", seats=1, policies={"express_lane": express_lane})
    arrive(core, 1, 900.0)
    assert assigned(core.tick(0.0)) == [1]
    arrive(core, 2, 20.0, 100.0)
    decisions = core.tick(100.0)
    assert assigned(decisions) == [2]
    assert last_order(decisions) == (2, 1)


def test_the_simulator_takes_it_by_name_with_its_options(express_lane: type[Policy]) -> None:
    find_simulated.cache_clear()
    try:
        choice = parse_choice("express_lane@short_tokens=40")
        assert (choice.name, choice.settings.options) == ("express_lane", (("short_tokens", "40"),))
        assert find_simulated()["express_lane"].name == express_lane.name
    finally:
        find_simulated.cache_clear()


@pytest.fixture
def asked_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    install("predictor", tmp_path, monkeypatch)
    assert "asked_length" in entry_points(group="fairlead.predictors").names
    return open_predictor(PredictorConfig(predictor="asked_length"))


def median_of(predictor: Predictor, prompt: str, *, model: str = "demo", max_tokens: int = 4096) -> float:
    (answer,) = predictor.predict([Question(model, "acme", True, 10, max_tokens, prompt)])
    assert isinstance(answer, LengthDistribution)
    return answer.quantile(0.5)


def test_a_length_that_is_asked_for_is_believed(asked_length: Predictor) -> None:
    assert median_of(asked_length, "Describe the sea in 50 words.") == pytest.approx(70, rel=0.05)
    assert median_of(asked_length, "Not 3 lines: a 10-sentence summary, please.") == pytest.approx(250, rel=0.05)
    assert median_of(asked_length, "Write 9000 words.", max_tokens=100) <= 100


def test_otherwise_it_says_what_the_models_answers_came_to(asked_length: Predictor) -> None:
    before = median_of(asked_length, "Describe the sea.")
    lengths = [Observed("demo", "acme", True, 10, 400 + index, ended=True) for index in range(40)]
    assert asked_length.observe(lengths) == 40
    assert before == pytest.approx(150, rel=0.05)
    assert median_of(asked_length, "Describe the sea.") == pytest.approx(420, rel=0.05)
    assert median_of(asked_length, "Describe the sea.", model="other") == before
