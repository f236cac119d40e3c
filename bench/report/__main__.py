from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.report.about import About
from bench.report.pages import write_pages
from bench.report.plan import LOADS, Plan, default_policies, make_plan
from bench.report.plots import write_plots
from bench.report.store import Store
from bench.report.table import FIGURES, KEYS, TENANT_FIGURES, Table, tenants_of, write_csv
from bench.report.work import Told, all_runs, capacities, failures_of, rows_of
from fairlead.cli.problems import EXIT_INTERRUPTED, EXIT_USAGE, fail
from fairlead.load.traces import TraceError
from scheduler_svc.core.policies import PolicyError
from simulator.policies import read_tau, split_choices
from simulator.run import Setup

TOLD_EVERY_S = 15.0


def report(
    traces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TRACE]...",
            help="Files, names of traces in FAIRLEAD_DATA, or `synthetic`; default: that "
            "built-in mix and every trace in FAIRLEAD_DATA.",
        ),
    ] = None,
    requests: Annotated[int, typer.Option(min=60, help="Taken from each trace: the scale of the report.")] = 1000,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Figures are means over them.")] = 3,
    load: Annotated[str, typer.Option(help="Loads, by commas: multiples of the FCFS capacity.")] = ",".join(
        map(str, LOADS)
    ),
    policy: Annotated[
        str | None, typer.Option(help="Policies, by commas; default: all, tuned baselines, bounds.")
    ] = None,
    prediction_tau: Annotated[str, typer.Option(help="Kendall's tau of predictions, or none.")] = "0.5",
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("docs/report"),
    keep: Annotated[Path, typer.Option(help="Folder for finished runs, so that it can be taken up again.")] = Path(
        "build/report"
    ),
) -> None:
    """Simulate every policy on your traffic and write the report: pages, tables, pictures.

    Ctrl-C breaks it off; the same command goes on where it was. Runs are kept by settings, trace and code.

    Example: FAIRLEAD_DATA=traces python -m bench.report azure2023_conv my_traffic.csv --requests 2000
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        policies = tuple(split_choices(policy)) if policy is not None else default_policies()
        setup = Setup(requests=requests, tau=read_tau(prediction_tau))
        plan = make_plan(tuple(traces or ()), policies, _loads(load), seeds, setup)
        about, table = _made(plan, Store(keep), jobs or os.cpu_count() or 1, out, console, _command(traces))
    except (TraceError, PolicyError, ValueError) as error:
        fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        fail(f"broken off; finished runs are kept in {keep}, the same command goes on from there", EXIT_INTERRUPTED)
    console.print(f"{about.runs} runs of {len(table.policies)} policies; read {out / 'README.md'}")


def _made(plan: Plan, store: Store, jobs: int, out: Path, console: Console, command: str) -> tuple[About, Table]:
    with _progress(console) as told:
        capacity = capacities(plan, store, jobs, told)
        done = all_runs(plan, capacity, store, jobs, told)
    rows = rows_of(done)
    if not rows:
        raise ValueError("every run failed: " + "; ".join(failures_of(done)[:3]))
    table = Table(rows)
    about = About(plan, command, capacity, sum(each.entry["cpu_s"] for each in done), len(done))
    tenants = tenants_of(
        [
            tenant | {"trace": each.trace, "policy": each.run.choice.text, "load": each.run.load}
            for each in done
            for tenant in each.entry.get("tenants", ())
        ]
    )
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "rows.csv", KEYS, FIGURES, table.means)
    if tenants:
        write_csv(out / "tenants.csv", ("trace", "policy", "load", "tenant"), TENANT_FIGURES, tenants)
    (out / "about.json").write_text(json.dumps(about.to_json(), indent=1) + "\n")
    write_plots(table, out)
    write_pages(table, about, tenants, failures_of(done), out)
    return about, table


def _loads(text: str) -> tuple[float, ...]:
    try:
        loads = tuple(float(piece) for piece in text.split(","))
    except ValueError:
        loads = ()
    if not loads or not all(0 < load <= 100 for load in loads):
        raise ValueError(f"--load: {text!r} must be positive numbers, separated by commas")
    return loads


def _command(traces: list[str] | None) -> str:
    """As it was given, folders left out."""
    words: list[str] = []
    skip = False
    for word in sys.argv[1:]:
        if skip or word.partition("=")[0] in ("--out", "--keep", "--jobs"):
            skip = not skip and "=" not in word
            continue
        words.append(Path(word).name if traces and word in traces else word)
    return shlex.join(["python", "-m", "bench.report", *words])


@contextmanager
def _progress(console: Console) -> Generator[Told]:
    """A bar with the time left; where there is no terminal, a line now and then."""
    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars: dict[str, TaskID] = {}
    began_s = told_s = time.monotonic()
    first: dict[str, float] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def told(what: str, done: float, of: int) -> None:
            nonlocal told_s
            if what not in bars:
                bars[what] = progress.add_task(what, total=of)
                first[what] = done
            progress.update(bars[what], completed=done)
            now_s = time.monotonic()
            if not console.is_terminal and now_s - told_s >= TOLD_EVERY_S:
                told_s = now_s
                gained = done - first[what]
                left = f"{(of - done) / gained * (now_s - began_s):.0f} s left" if gained > 0 else ""
                console.print(f"{what}: {done:.1f} of {of}, {now_s - began_s:.0f} s gone, {left}")

        yield told


if __name__ == "__main__":
    typer.run(report)
