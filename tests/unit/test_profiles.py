"""Machine profiles: by name, from a file, and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead.cli import simulate_run
from fairlead.cli.main import app
from simulator.profiles import PROFILES, Profile, ProfileError, find_profile, read_profile, write_profile
from worker_svc.ordering import StepModel


def test_every_profile_has_a_source_and_the_default_is_the_simulators() -> None:
    assert all(profile.source and profile.summary and profile.name == name for name, profile in PROFILES.items())
    design = find_profile("design")
    assert (design.step_model, design.seats, design.kv_tokens) == (StepModel(6.0, 0.045, 0.05, 0.00025), 64, 120_000)


SPLITWISE_H100X8 = {
    (512, 0, 0): 53.39, (1024, 0, 0): 77.91, (2048, 0, 0): 136.8,
    (0, 1, 576): 29.76, (0, 1, 4160): 30.56, (0, 1, 8256): 31.42, (0, 2, 1152): 30.26, (0, 4, 2304): 31.79,
    (0, 8, 4608): 32.50, (0, 16, 9216): 34.17, (0, 32, 18_432): 38.62, (0, 64, 36_864): 50.16,
}  # fmt: skip
"""(prefill, decodes, context) to the median time in ms of Splitwise's data/perf_model.csv: llama2-70b, h100-80gb,
tensor_parallel 8. The context of a decode is the prompt and half of the 128 tokens that were made."""


def test_the_profile_of_public_figures_is_near_them() -> None:
    model = find_profile("h100x8-llama2-70b").step_model
    for work, measured_ms in SPLITWISE_H100X8.items():
        assert model.step_ms(*work) == pytest.approx(measured_ms, rel=0.05), work


def test_a_profile_is_written_and_read_again(tmp_path: Path) -> None:
    profile = Profile("mine", "a machine", "measured", StepModel(1.5, 0.02, 0.1, 0.0), 8, 4096, 512, 32)
    path = tmp_path / "mine.json"
    write_profile(profile, path, {"note": "for a reader"})
    assert find_profile(str(path)) == profile


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "object"),
        ("{}", "step_ms"),
        ('{"step_ms": [1, 2, 3]}', "step_ms"),
        ('{"step_ms": [0, 1, 1, 1]}', "empty step"),
        ('{"step_ms": [1, -1, 1, 1]}', "-1"),
        ('{"step_ms": [1, 1, 1, NaN]}', "nan"),
        ('{"step_ms": [1, 1, 1, 1], "seats": 0}', "seats"),
        ('{"step_ms": [1, 1, 1, 1], "kv_tokens": "many"}', "kv_tokens"),
    ],
)
def test_a_file_that_is_none_names_the_field(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ProfileError, match=said):
        read_profile(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="design-256"):
        find_profile("nonsense")
    said = CliRunner().invoke(app, ["simulate", "--profile", "nonsense"])
    assert said.exit_code == 2
    assert "--profile" in said.output


def test_the_command_takes_sizes_from_the_profile_and_options_override_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wishes: list[simulate_run.Wish] = []
    monkeypatch.setattr(simulate_run, "run_simulate", lambda wish, **_: wishes.append(wish))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"step_ms": [1, 0.5, 0.25, 0], "seats": 8, "token_budget": 256, "block_tokens": 32}))
    for options in (["--profile", str(path)], ["--profile", str(path), "--seats", "4", "--step-ms", "2,0,0,0"], []):
        assert CliRunner().invoke(app, ["simulate", *options]).exit_code == 0
    given, changed, default = wishes
    assert (given.seats, given.token_budget, given.block_tokens, given.step_ms) == (8, 256, 32, (1.0, 0.5, 0.25, 0.0))
    assert (changed.seats, changed.token_budget, changed.step_ms) == (4, 256, (2.0, 0.0, 0.0, 0.0))
    assert (default.seats, default.kv_tokens, default.step_ms) == (64, 120_000, (6.0, 0.045, 0.05, 0.00025))


def test_the_list_names_the_sources() -> None:
    said = CliRunner().invoke(app, ["simulate", "--list-profiles"])
    assert said.exit_code == 0
    assert all(name in said.output for name in PROFILES)
