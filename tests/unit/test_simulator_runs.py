"""Whole runs: one seed one log, leaping as stepping, faults, policies as the command line names them, the command."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead.cli.main import app
from scheduler_svc.core.policies import PolicyError
from scheduler_svc.core.types import Outcome, PolicySettings
from simulator.figures import ttft_ms
from simulator.policies import find_policies, follows_progress, parse_choice, split_choices
from simulator.predictor import PredictorMood
from simulator.run import Faults, Run, Setup, measure_capacity, simulate
from simulator.study import Study, find_goodput, keeps_slo, rows_for, sweep
from simulator.worker import Network
from simulator.workload import SYNTHETIC

SETUP = Setup(requests=100, seats=16, kv_tokens=24_000, seed=3)
RATE = 3.0

PROGRAM = """
import hashlib, io
from simulator.policies import parse_choice
from simulator.run import Faults, Run, Setup, simulate
log = io.StringIO()
setup = Setup(requests=60, seats=16, kv_tokens=24_000, workers=2, faults=Faults(lose_every_s=20.0, back_after_s=3.0))
simulate(Run("synthetic", parse_choice("slo"), 1.0, 6.0), setup, log=log)
print(len(log.getvalue()), hashlib.sha256(log.getvalue().encode()).hexdigest())
"""


def run(policy: str, *, rate: float = RATE, load: float = 1.0) -> Run:
    return Run(SYNTHETIC, parse_choice(policy), load, rate)


def test_one_seed_gives_one_decision_log_whatever_the_hash_seed() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(said) == 1, f"I9: {said}"
    assert int(said.pop().split()[0]) > 5_000


@pytest.mark.parametrize(
    ("policy", "kv_tokens"),
    [
        ("fcfs", 24_000), ("slo", 24_000), ("isrtf", 24_000), ("priority", 24_000),
        ("slo@be_share=0,step_seats=8,max_itl_factor=1", 24_000), ("fcfs", 6_000), ("slo", 6_000),
    ],
)  # fmt: skip
def test_leaping_gives_what_stepping_gives(policy: str, kv_tokens: int) -> None:
    results = []
    for leaps in (True, False):
        log = io.StringIO()
        setup = replace(SETUP, requests=60, kv_tokens=kv_tokens, leaps=leaps)
        result = simulate(run(policy), setup, log=log)
        results.append((hashlib.sha256(log.getvalue().encode()).hexdigest(), result.requests, result.steps))
    assert results[0] == results[1], f"{policy}, seed {SETUP.seed}"


def test_leaping_saves_plans() -> None:
    """Few would be planned here, were the leaps not made: the tests above would hold for nothing."""
    from simulator import engine

    planned = 0
    original = engine.LeapingCore.step

    def counted(self: engine.LeapingCore, now_ms: float) -> object:
        nonlocal planned
        planned += 1
        return original(self, now_ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.LeapingCore, "step", counted)
        result = simulate(run("fcfs", rate=1.0), SETUP)
    assert planned < 0.25 * result.steps


def test_answers_come_whole_over_lost_workers() -> None:
    setup = replace(SETUP, workers=2, faults=Faults(lose_every_s=8.0, back_after_s=2.0))
    result = simulate(run("slo"), setup)
    assert {request.outcome for request in result.requests} == {Outcome.STOP}
    assert all(request.received == request.answer_tokens for request in result.requests), "I2"


@pytest.mark.parametrize("mood", [PredictorMood.SLOW, PredictorMood.LYING, PredictorMood.DEAD])
def test_everything_ends_however_the_predictor_behaves(mood: PredictorMood) -> None:
    result = simulate(run("slo"), replace(SETUP, faults=Faults(mood)))
    assert {request.outcome for request in result.requests} == {Outcome.STOP}, "I10"


def test_a_request_that_no_worker_can_hold_is_told() -> None:
    result = simulate(run("fcfs"), replace(SETUP, kv_tokens=1_600))
    for request in result.requests:
        too_long = request.spec.prompt_tokens + request.answer_tokens > 1_600
        assert (request.outcome is not Outcome.STOP) == too_long
        assert request.refused or request.outcome in (Outcome.STOP, Outcome.FAILED_ENGINE)
    assert {request.outcome for request in result.requests} >= {Outcome.STOP, Outcome.FAILED_ENGINE}


def test_a_full_queue_refuses() -> None:
    rows = rows_for(run("fcfs", rate=100.0), replace(SETUP, max_queued=20))
    assert rows[-1].class_ == "all"
    assert rows[-1].rejected > 30


def test_an_idle_worker_takes_the_time_that_the_model_says() -> None:
    """One request: prefill 6 + 0.045 per token in one step, and the first token is on its way for a network delay."""
    result = simulate(run("fcfs", rate=0.001), replace(SETUP, requests=20))
    for request in result.requests:
        if request.spec.prompt_tokens > 2048:
            continue
        computed_ms = 6 + 0.045 * request.spec.prompt_tokens
        assert computed_ms + 1.0 <= (ttft_ms(request) or 0.0) <= computed_ms + 3.0


def test_capacity_is_what_keeps_the_queue_from_growing() -> None:
    capacity = measure_capacity(SYNTHETIC, SETUP)
    waits = [
        rows_for(Run(SYNTHETIC, parse_choice("fcfs"), load, load * capacity), SETUP)[-1].ttft_p50_ms or 0.0
        for load in (0.6, 1.6)
    ]
    assert waits[0] < 500 < waits[1]


def test_goodput_is_the_last_load_that_keeps_the_slo() -> None:
    capacity = measure_capacity(SYNTHETIC, SETUP)
    found = find_goodput(SYNTHETIC, parse_choice("fcfs"), SETUP, capacity)
    load = found[0].goodput
    assert load is not None
    assert keeps_slo(found)
    beyond = rows_for(Run(SYNTHETIC, parse_choice("fcfs"), load + 0.01, (load + 0.01) * capacity), SETUP)
    assert not keeps_slo(beyond)


def test_a_sweep_comes_in_order_and_alike_in_several_processes() -> None:
    setup = replace(SETUP, requests=60)
    study = Study((SYNTHETIC,), (parse_choice("fcfs"), parse_choice("ls_alone")), (0.5, 1.0), setup)
    seen: list[float] = []
    alone = [row for rows in sweep(study, {SYNTHETIC: 2.0}, 1, lambda _, share: seen.append(share)) for row in rows]
    assert [(row.load, row.policy) for row in alone if row.class_ == "ls"] == [
        (0.5, "fcfs"), (0.5, "ls_alone"), (1.0, "fcfs"), (1.0, "ls_alone"),
    ]  # fmt: skip
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    together = [row for rows in sweep(study, {SYNTHETIC: 2.0}, 2, lambda *_: None) for row in rows]
    assert together == alone


def test_policies_are_split_where_settings_have_commas() -> None:
    assert split_choices("fcfs, priority@budget=512,seats=48,slo@tau=1,srpt") == [
        "fcfs",
        "priority@budget=512,seats=48",
        "slo@tau=1",
        "srpt",
    ]


def test_a_choice_has_sizes_settings_and_options() -> None:
    choice = parse_choice("slo@budget=512,seats=48,be_share=0,window_tokens=20,tau=none,ageing_ms=1000")
    assert (choice.token_budget, choice.seats, choice.tau) == (512, 48, 0.0)
    assert (choice.settings.be_share, choice.settings.window_tokens) == (0.0, 20)
    assert choice.settings.options == (("ageing_ms", "1000"),)
    assert parse_choice("slo@overload=relegate,min_chunk_tokens=256,relegate_late=off").settings == PolicySettings(
        overload="relegate", min_chunk_tokens=256, relegate_late=False
    )
    assert parse_choice("srpt").tau == 1.0
    assert parse_choice("ls_alone").ls_alone


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "unknown policy 'nonsense'"),
        ("fcfs@colour=red", "colour"),
        ("fcfs@seats=0", "seats"),
        ("fcfs@budget=many", "budget"),
        ("fcfs@tau=2", "tau"),
        ("fcfs@seats", "not key=value"),
        ("fcfs@be_share=much", "be_share"),
        ("slo@ageing_ms=-1", "ageing_ms"),
        ("slo@overload=explode", "overload"),
        ("slo@placement=nowhere", "placement"),
        ("slo@relegate_late=maybe", "relegate_late"),
    ],
)
def test_a_bad_choice_names_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        parse_choice(text)


def test_the_command_writes_rows_and_pictures(tmp_path: Path) -> None:
    rows_file, log = tmp_path / "rows.json", tmp_path / "log"
    said = CliRunner().invoke(
        app,
        ["simulate", "--requests", "60", "--policy", "fcfs", "--load", "0.5", "--jobs", "1", "--json", str(rows_file),
         "--plots", str(tmp_path), "--decisions", str(log)],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    rows = json.loads(rows_file.read_text())
    assert [row["class"] for row in rows] == ["ls", "be", "all"]
    assert set(rows[0]) == {
        "trace", "policy", "load", "class", "requests", "ttft_p50_ms", "ttft_p99_ms", "tpot_p99_ms", "attainment",
        "jct_mean_s", "jct_p99_s", "slowdown_mean", "tokens_per_s", "preemptions", "recomputed_tokens", "rejected",
        "relegated", "gap_max_s", "jain",
    }  # fmt: skip
    assert (tmp_path / "simulate_synthetic.png").stat().st_size > 5_000
    assert log.read_text().count("Assign(") == 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "fcfs@x=1"], "x"),
        (["--load", "0"], "--load"),
        (["--step-ms", "1,2"], "--step-ms"),
        (["nowhere.csv"], "nowhere.csv"),
        (["--goodput", "--ls-fraction", "0"], "--ls-fraction"),
        (["--prediction-tau", "3"], "tau"),
        (["--slots", "8"], "--slots"),
    ],
)
def test_the_command_refuses_and_names_the_option(options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *options])
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize("policy", ["fcfs", "edf", "priority"])
def test_reports_that_decide_nothing_may_be_left_out(policy: str) -> None:
    """Under these policies a report between first and last token changes nothing: the results are the same without."""
    network = Network(1.0, 1.0)  # every message draws its delay, so that fewer would change the others' delays
    setup = replace(SETUP, network=network, kv_tokens=6_000)
    choice = parse_choice(policy)
    assert not follows_progress(find_policies()[choice.name](choice.settings))
    sparse = simulate(run(policy), setup)
    told = simulate(run(f"{policy}@repredict=always"), setup)
    assert follows_progress(find_policies()[choice.name](parse_choice(f"{policy}@repredict=always").settings))
    assert [(each.first_ms, each.last_ms, each.evictions) for each in sparse.requests] == [
        (each.first_ms, each.last_ms, each.evictions) for each in told.requests
    ]


@pytest.mark.parametrize("policy", ["slo", "isrtf", "fcfs@kv_admission=peak", "fcfs@fair_shares=on"])
def test_where_progress_decides_it_is_told(policy: str) -> None:
    choice = parse_choice(policy)
    assert follows_progress(find_policies()[choice.name](choice.settings))
