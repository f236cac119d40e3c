"""The table of targets and what the simulator measures beside each: `python -m bench.reach` (needs the trace).

`--ablation` switches each ingredient of `slo` off, one at a time. `--quick` takes fewer requests and one seed: good to
see a change, not to quote.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bench.reach_measure import GOODPUTS, NEAR, TARGETS, Bench, Point, figures, goodput_figures
from simulator.run import Setup
from simulator.study import Pool

INGREDIENTS = (
    "step_budget=off", "borrow_tpots=0", "hold_be_decodes=off", "min_chunk_tokens=0", "yield_when_ahead=off",
    "relegate_late=off", "displace=off", "evict=off", "kv_admission=none", "be_order=mean", "be_order=fcfs",
    "running_factor=1", "ageing_ms=300000", "be_share=0", "repredict=never", "tau=none",
)  # fmt: skip
"""Each is `slo` with one ingredient off, or on (ageing), or replaced by the simplest other."""

console = Console(soft_wrap=True)


def main(
    trace: Annotated[str, typer.Option(help="A trace by name or file.")] = "azure2023_conv",
    policy: Annotated[str, typer.Option(help="What stands in place of slo, with its settings.")] = "slo",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N - 1.")] = 3,
    requests: Annotated[int | None, typer.Option(min=100, help="Requests; default 10,000, 3,000 with --quick.")] = None,
    goodput: Annotated[bool, typer.Option(help="Look for the highest loads with 99 % attainment too.")] = True,
    ablation: Annotated[bool, typer.Option("--ablation", help="slo with each ingredient off instead.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="3,000 requests, one seed, goodput to 0.02.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Seeds done at once; default: one a core.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Prints each target beside its figure, seed by seed, and whether the mean over the seeds reaches it."""
    count = requests or (3000 if quick else 10_000)
    step = (0.02 if quick else 0.01) if goodput else None
    setups = [Setup(requests=count, seed=seed) for seed in range(1 if quick else seeds)]
    tasks = [
        (ablated, (trace, setup, policy)) if ablation else (measured, (trace, setup, policy, step)) for setup in setups
    ]
    done: dict[int, dict[str, float]] = {}
    for seed, values in Pool(jobs or os.cpu_count() or 1).map(tasks, lambda _: None):
        done[seed] = values
        if json_file is not None:
            json_file.write_text(json.dumps({"trace": trace, "requests": count, "seeds": done}, indent=1) + "\n")
    found = dict(sorted(done.items()))
    console.print(ablation_table(found, policy) if ablation else target_table(found))
    console.print(f"{trace}, first {count} requests, half of them LS; seeds {', '.join(map(str, found))}")


def measured(trace: str, setup: Setup, policy: str, goodput_step: float | None) -> dict[str, float]:
    """Every figure of one seed; the goodputs too where it is said how exactly."""
    bench = Bench(trace, setup, _say)
    found = figures(bench, policy)
    return found if goodput_step is None else found | goodput_figures(bench, dict(NEAR), policy, goodput_step)


def ablated(trace: str, setup: Setup, policy: str) -> dict[str, float]:
    """The figures of one seed with each ingredient off."""
    return ablate(Bench(trace, setup, _say), policy)


def _say(text: str) -> None:
    console.print(text, style="dim")


def target_table(found: dict[int, dict[str, float]]) -> Table:
    """Target, best seen, each seed, the worst and the mean of them; met where both are."""
    table = Table("figure", "reach", "best seen", *(f"seed {seed}" for seed in found), "worst", "mean", "met")
    for name, target in TARGETS.items():
        if name in GOODPUTS and not all(name in each for each in found.values()):
            continue
        values = [each[name] for each in found.values()]
        worst, mean = (max if target.at_most else min)(values), float(np.mean(values))
        cells = [f"{value:.3f}" for value in (*values, worst, mean)]
        met = "yes" if target.met(worst) else "in the mean" if target.met(mean) else "no"
        table.add_row(target.text, target.reach, target.seen, *cells, met)
    others = dict.fromkeys(name for each in found.values() for name in each if name not in TARGETS)
    for name in others:
        values = [each[name] for each in found.values()]
        table.add_row(name, "", "", *(f"{value:.3f}" for value in values), "", f"{np.mean(values):.3f}", "")
    return table


ABLATED = ("attainment", "ttft_p99_ms", "tpot_p99_ms", "be_jct_mean_s", "jct_mean_s")


def ablate(bench: Bench, policy: str) -> dict[str, float]:
    """The figures of `policy` and of it with each ingredient off, at loads 0.95 and 1.1."""
    names = [policy, *(f"{policy}{',' if '@' in policy else '@'}{ingredient}" for ingredient in INGREDIENTS)]
    return {
        f"{name} {load:g} {figure}": value
        for name in names
        for load in (0.95, 1.1)
        for figure, value in zip(ABLATED, _ablated(bench.at(name, load)), strict=True)
    }


def _ablated(point: Point) -> tuple[float, ...]:
    assert point.ls is not None
    assert point.be is not None
    ls = point.ls
    values = (ls.attainment, ls.ttft_p99_ms, ls.tpot_p99_ms, point.be.jct_mean_s, point.all.jct_mean_s)
    return tuple(float("nan") if value is None else value for value in values)


def ablation_table(found: dict[int, dict[str, float]], policy: str) -> Table:
    """Means over the seeds; times of BE and all relative to `policy` whole."""
    means = {name: float(np.mean([each[name] for each in found.values()])) for name in next(iter(found.values()))}
    table = Table("off", *(f"{load} {figure}" for load in ("0.95", "1.1") for figure in ABLATED))
    for name in dict.fromkeys(key.rsplit(" ", 2)[0] for key in means):
        cells: list[str] = []
        for load in ("0.95", "1.1"):
            for figure in ABLATED:
                value = means[f"{name} {load} {figure}"]
                if figure.endswith("_s"):
                    cells.append(f"x{value / means[f'{policy} {load} {figure}']:.3f}")
                else:
                    cells.append(f"{value:.4f}" if figure == "attainment" else f"{value:.0f}")
        table.add_row(name.removeprefix(policy).lstrip("@,") or "nothing", *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
