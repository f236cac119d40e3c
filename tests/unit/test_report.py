"""The report: what it concludes from figures made by hand, and a tiny one from end to end."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bench.report import work
from bench.report.__main__ import report
from bench.report.findings import GOALS, candidates, gains_jct, no_gain_until, score, slo_goodput
from bench.report.pages import which_policy
from bench.report.plan import make_plan
from bench.report.table import FIGURES, Table
from simulator.run import Setup

app = typer.Typer()
app.command()(report)

TINY = [
    "synthetic", "--requests", "80", "--seeds", "2", "--load", "0.7,1.1", "--policy", "fcfs,slo,ls_alone,srpt",
    "--jobs", "1",
]  # fmt: skip


def row(policy: str, load: float, class_: str, seed: int = 0, **figures: float | None) -> dict[str, object]:
    made: dict[str, object] = {"trace": "t", "policy": policy, "load": load, "class": class_, "seed": seed}
    return made | {name: figures.get(name, 1.0) for name in FIGURES}


def by_hand() -> Table:
    rows: list[dict[str, object]] = []
    for load, attainment, jct in ((0.5, 1.0, 10.0), (1.0, 0.995, 20.0), (1.5, 0.895, 40.0)):
        for policy, better in (("fcfs", 1.0), ("slo", {0.5: 0.99, 1.0: 0.9, 1.5: 0.5}[load])):
            rows += [
                row(policy, load, "ls", attainment=attainment, jct_mean_s=jct),
                row(policy, load, "be", attainment=None, jct_mean_s=jct * better),
                row(policy, load, "all", attainment=attainment, jct_mean_s=jct * better),
            ]
    return Table(rows)


def test_goodput_is_interpolated_between_the_loads_that_were_run() -> None:
    table = by_hand()
    # From 99.5 % at load 1 to 89.5 % at 1.5: 99 % at a twentieth of the way.
    assert slo_goodput(table, "t", "slo") == (pytest.approx(1.025), "1.03")
    always = Table([row("fcfs", load, "ls", attainment=1.0) for load in (0.5, 1.5)])
    assert slo_goodput(always, "t", "fcfs")[1] == ">= 1.5"
    never = Table([row("fcfs", load, "ls", attainment=0.5) for load in (0.5, 1.5)])
    assert slo_goodput(never, "t", "fcfs") == (0.0, "< 0.5")


def test_the_region_without_gain_ends_where_a_policy_is_more_than_two_percent_better() -> None:
    assert no_gain_until(by_hand(), "t", gains_jct) == 0.5


def test_only_policies_that_keep_the_slo_compete_for_best_effort() -> None:
    table, goal = by_hand(), GOALS[1]
    assert candidates(table, "t", 1.0, goal) == [("slo", 18.0), ("fcfs", 20.0)]
    assert candidates(table, "t", 1.5, goal) == []
    assert score(table, 1.0, goal) == [("slo", 1.0), ("fcfs", pytest.approx(20 / 18))]
    assert "| 99 % of LS within SLO, and BE done soonest | " in which_policy(table)


def test_figures_are_means_over_seeds_and_what_is_unknown_is_left_out() -> None:
    table = Table([row("fcfs", 1.0, "all", seed, jct_mean_s=value) for seed, value in enumerate((1.0, None, 4.0))])
    assert table.value("t", "fcfs", 1.0, "all", "jct_mean_s") == 2.5
    assert table.spread("all", "jct_mean_s") == pytest.approx(3.0 / 2.5)
    assert table.value("t", "fcfs", 1.0, "ls", "jct_mean_s") is None


def test_a_tiny_report_and_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, keep = tmp_path / "out", tmp_path / "keep"
    folders = ["--out", str(out), "--keep", str(keep)]
    said = CliRunner().invoke(app, [*TINY, *folders])
    assert said.exit_code == 0, said.output
    pages = {path.name for path in out.iterdir()}
    assert pages == {
        "README.md", "which_policy.md", "synthetic.md", "synthetic.png", "all_attainment.png", "all_jct.png",
        "rows.csv", "tenants.csv", "about.json",
    }  # fmt: skip
    assert all(path.stat().st_size < 100_000 for path in out.iterdir())
    with (out / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Three classes; under `ls_alone` there is no BE.
    assert len(rows) == 2 * (3 + 3 + 2 + 3)
    assert {row["policy"] for row in rows} == {"fcfs", "slo", "ls_alone", "srpt"}
    before = {path.name: path.read_bytes() for path in out.glob("*.csv")}

    def never(*_: object) -> dict[str, object]:
        raise AssertionError("it was done before")

    monkeypatch.setattr(work, "measured", never)
    monkeypatch.setattr(work, "measure_capacity", never)
    said = CliRunner().invoke(app, [*TINY, *folders])
    assert said.exit_code == 0, said.output
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == before


def test_without_traces_named_it_takes_those_of_the_data_folder_and_says_what_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.csv").write_text("arrival_s,input_tokens,output_tokens\n0.0,10,5\n")
    (tmp_path / "lengths.csv").write_text("output_tokens\n5\n")
    monkeypatch.setenv("FAIRLEAD_DATA", str(tmp_path))
    plan = make_plan((), ("fcfs",), (0.7,), 1, Setup())
    assert plan.sources == ("synthetic", "mine")
    assert [each.split(":")[0] for each in plan.left_out] == ["lengths"]
    assert "arrival_s" in plan.left_out[0]


def test_a_run_that_fails_is_told_by_name_and_the_others_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.report import measure

    real = measure.simulate

    def fails(run: object, setup: object, **more: object) -> object:
        if getattr(run, "choice").text == "slo":  # noqa: B009 - any object
            raise RuntimeError("it broke")
        return real(run, setup, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "simulate", fails)
    said = CliRunner().invoke(app, [*TINY, "--out", str(tmp_path / "out"), "--keep", str(tmp_path / "keep")])
    assert said.exit_code == 0, said.output
    page = (tmp_path / "out" / "README.md").read_text()
    assert "synthetic, slo, load 0.7, seed 0: RuntimeError: it broke" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["--load", "0"], "--load"),
        (["--policy", "slo"], "fcfs"),
        (["--policy", "fcfs,nonsense"], "nonsense"),
    ],
)
def test_wishes_that_cannot_be_met(options: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*options, "--out", str(tmp_path), "--keep", str(tmp_path / "keep")])
    assert result.exit_code == 2
    assert said in result.output
