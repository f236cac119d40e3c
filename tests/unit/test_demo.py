"""The demo's figures and its verdict, worked out by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from demo.compare import load_plan
from demo.plan import TARGETS, Settings, runs_of
from demo.report import (
    comparison_table,
    mean_over_seeds,
    policy_figures,
    print_verdict,
    ratio,
    summary,
    verdicts,
    write_summary,
)
from fairlead.client import ServiceClass
from fairlead.load.measure import Capacity, Idle
from fairlead.load.run import Record

LS, BE = ServiceClass.LATENCY_SENSITIVE, ServiceClass.BEST_EFFORT
IDLE, CAPACITY = Idle(4.0, 1.5, 15), Capacity(12.0, 1800.0, 150.0, 240)


def settings(out: Path = Path("unused"), seeds: int = 1) -> Settings:
    return Settings(engine="simulated", model="demo", seats=12, seeds=seeds, out=out)


def base(**changes: float) -> dict[str, float | int | None]:
    figures: dict[str, float | int | None] = {
        "ls_ttft_p99_ms": 1000.0, "all_jct_mean_ms": 2000.0, "tokens_per_s": 100.0, "requests": 10, "finished": 10,
    }  # fmt: skip
    return {**figures, **changes}


def test_load_is_the_stated_multiple_for_the_stated_time_and_half_ls() -> None:
    plan = load_plan(settings(), CAPACITY, IDLE, seed=1)
    assert len(plan) == 1.5 * 12 * 60 >= 1000
    assert plan[-1].arrival_s == pytest.approx(60)
    latency = [each for each in plan if each.service_class == LS]
    assert len(latency) == len(plan) // 2
    assert {(each.tenant, each.ttft_ms, each.tpot_ms) for each in latency} == {("interactive", 40.0, 7.5)}
    assert plan == load_plan(settings(), CAPACITY, IDLE, seed=1)


def test_every_policy_runs_at_the_same_seats_and_the_order_turns_with_the_seed() -> None:
    first, second = runs_of(settings(), 0), runs_of(settings(), 1)
    assert [run.label for run in first] == ["fcfs", "isrtf", "slo", "fcfs_default_seats"]
    assert {run.seats for run in first if run.label != "fcfs_default_seats"} == {12}
    assert second[0] == first[1]
    assert set(second) == set(first)


def test_figures_of_a_run() -> None:
    def record(index: int, service_class: ServiceClass, first_s: float, last_s: float) -> Record:
        return Record(index, "t", service_class, 0.0, 150.0, None, first_s=first_s, last_s=last_s, output_tokens=10,
                      outcome="STOP", accepted=True, scheduler_ttft_ms=90.0, pauses=2, evictions=1)  # fmt: skip

    found = policy_figures([record(0, LS, 0.1, 1.0), record(1, LS, 0.2, 2.0), record(2, BE, 1.0, 4.0)])
    assert found["ls_ttft_p50_ms"] == pytest.approx(150)
    assert found["ls_attainment"] == pytest.approx(0.5)
    assert found["ls_attainment_at_scheduler"] == pytest.approx(1.0)
    assert found["be_jct_mean_ms"] == pytest.approx(4000)
    assert found["all_jct_mean_ms"] == pytest.approx(7000 / 3)
    assert found["tokens_per_s"] == pytest.approx(30 / 4)
    assert (found["requests"], found["finished"], found["preemptions"]) == (3, 3, 9)


def test_seeds_are_averaged_and_ratios_taken_of_the_means() -> None:
    policies = mean_over_seeds({
        "fcfs": [base(), base(ls_ttft_p99_ms=3000.0)],
        "slo": [base(ls_ttft_p99_ms=100.0), base(ls_ttft_p99_ms=500.0, all_jct_mean_ms=1000.0)],
        "isrtf": [base(), base()],
    })  # fmt: skip
    assert policies["fcfs"]["ls_ttft_p99_ms"] == 2000
    assert ratio(policies, "slo", "ls_ttft_p99_ms") == pytest.approx(0.15)
    assert [each["met"] for each in verdicts(policies)] == [True, True, True, False]
    assert ratio(policies, "none", "tokens_per_s") is None


@pytest.mark.parametrize(
    ("slo", "word"),
    [
        (base(ls_ttft_p99_ms=150.0, all_jct_mean_ms=1500.0, tokens_per_s=98.0), "PASS"),
        (base(ls_ttft_p99_ms=250.0, all_jct_mean_ms=1500.0), "SHORT"),
        (base(ls_ttft_p99_ms=150.0, all_jct_mean_ms=1500.0, finished=9), "SHORT"),
        (base(ls_ttft_p99_ms=150.0, all_jct_mean_ms=1500.0, tokens_per_s=90.0), "SHORT"),
    ],
)
def test_verdict_passes_only_where_every_target_is_met_and_nothing_is_lost(slo: dict, word: str) -> None:
    console = Console(record=True, width=200, file=sys.stderr)
    policies = {"fcfs": base(), "isrtf": base(all_jct_mean_ms=1600.0), "slo": slo}
    console.print(comparison_table(policies))
    print_verdict(console, policies)
    assert word in console.export_text().splitlines()[-1]
    assert len(TARGETS) == 4


def test_summary_is_written_with_means_and_each_seed(tmp_path: Path) -> None:
    chosen = settings(tmp_path, seeds=2)
    per_seed = {"fcfs": [base(), base(tokens_per_s=200.0)], "isrtf": [base()] * 2, "slo": [base()] * 2}
    write_summary(chosen, summary(chosen, IDLE, CAPACITY, per_seed, {"wall_s": 1.0}))
    told = json.loads((tmp_path / "summary.json").read_text())
    assert (told["engine"], told["seeds"], told["seats"], told["slo"]["ttft_ms"]) == ("simulated", 2, 12, 40.0)
    assert told["policies"]["fcfs"]["tokens_per_s"] == 150
    assert [each["tokens_per_s"] for each in told["per_seed"]["fcfs"]] == [100, 200]
