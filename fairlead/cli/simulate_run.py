"""What `fairlead simulate` does: a study with progress, then a table, rows as JSON, and pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fairlead.cli.problems import EXIT_INTERRUPTED, EXIT_USAGE, fail, wide_console
from fairlead.load.traces import TraceError
from scheduler_svc.core.policies import PolicyError
from simulator.figures import Row
from simulator.policies import parse_choice, read_tau, split_choices
from simulator.predictor import PredictorMood
from simulator.run import Faults, Run, Setup, simulate, workload_of
from simulator.study import Study, Watch, capacities, goodputs, sweep
from simulator.worker import Network
from simulator.workload import SYNTHETIC, Targets
from worker_svc.ordering import StepModel

_COLUMNS = ("TTFT ms\np50/p99", "TPOT\np99 ms", "in SLO\n%", "JCT s\nmean/p99", "slow-\ndown", "tokens\n/s")
_COUNTS = ("pre-\nempted", "recom-\nputed", "re-\njected", "gap\ns")


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of the command, as they were given."""

    traces: tuple[str, ...]
    policies: str
    loads: tuple[float, ...]
    ls_fraction: float
    requests: int
    workers: int
    seats: int
    slots: int | None
    kv_tokens: int
    block_tokens: int
    token_budget: int
    step_ms: tuple[float, ...]
    ttft_ms: float
    tpot_ms: float
    tau: str
    fresh_evidence: bool
    mood: str
    lose_worker_s: float | None
    worker_back_s: float
    network_ms: tuple[float, ...]
    max_queued: int
    seed: int


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go beside the table; None: nowhere."""

    json_file: Path | None
    plots: Path | None
    decisions: Path | None


def run_simulate(wish: Wish, *, goodput: bool, jobs: int | None, outputs: Outputs) -> None:
    """Does the study; ends the command where it can't be done or was interrupted."""
    console = wide_console()
    try:
        study = make_study(wish)
        if outputs.decisions is not None and len(study.sources) * len(study.choices) * len(study.loads) != 1:
            fail("--decisions: needs exactly one trace, one policy and one load", EXIT_USAGE)
        rows: list[Row] = []
        with _progress() as watch:
            for source in study.sources:  # a trace that can't be read is told before anything runs
                workload_of(source, study.setup.requests, study.setup.seed)
            capacity = capacities(study, jobs or os.cpu_count() or 1, watch)
            if outputs.decisions is not None:
                _write_decisions(study, capacity, outputs.decisions)
            for more in (goodputs if goodput else sweep)(study, capacity, jobs or os.cpu_count() or 1, watch):
                rows += more
    except (TraceError, PolicyError, ValueError) as error:
        fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        fail("interrupted; nothing was written", EXIT_INTERRUPTED)
    for source, per_s in capacity.items():
        console.print(f"{Path(source).name}: FCFS capacity {per_s:.3f} requests/s = load 1")
    print_tables(console, rows, goodput=goodput)
    console.print("Outer 5 % of arrivals left out at each end; tokens/s are of the whole run.", style="dim")
    if outputs.json_file is not None:
        outputs.json_file.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
        console.print(f"rows: {outputs.json_file}")
    if outputs.plots is not None:
        from fairlead.cli.simulate_plots import write_plots  # noqa: PLC0415 - matplotlib: only when asked for

        for path in write_plots(rows, outputs.plots):
            console.print(f"picture: {path}")


def make_study(wish: Wish) -> Study:
    """The study that the options ask for. Raises PolicyError or ValueError, naming what is wrong."""
    choices = tuple(parse_choice(text) for text in split_choices(wish.policies))
    if not choices:
        raise ValueError("--policy: name at least one policy")
    if wish.network_ms[0] > wish.network_ms[1]:
        raise ValueError("--network-ms: the least delay is above the most")
    if any(choice.ls_alone for choice in choices) and wish.ls_fraction == 0:
        raise ValueError("--policy ls_alone needs latency-sensitive requests: set --ls-fraction above 0")
    setup = Setup(
        requests=wish.requests,
        workers=wish.workers,
        seats=wish.seats,
        slots=wish.slots,
        kv_tokens=wish.kv_tokens,
        block_tokens=wish.block_tokens,
        token_budget=wish.token_budget,
        step_model=StepModel(*wish.step_ms),
        ls_fraction=wish.ls_fraction,
        targets=Targets(wish.ttft_ms, wish.tpot_ms),
        tau=read_tau(wish.tau),
        fresh_evidence=wish.fresh_evidence,
        network=Network(*wish.network_ms),
        max_queued=wish.max_queued,
        faults=Faults(PredictorMood(wish.mood), wish.lose_worker_s, wish.worker_back_s),
        seed=wish.seed,
    )
    return Study(wish.traces or (SYNTHETIC,), choices, wish.loads, setup)


def print_tables(console: Console, rows: list[Row], *, goodput: bool) -> None:
    """One table a trace: each run once, one line a class."""
    for trace in dict.fromkeys(row.trace for row in rows):
        table = Table(
            title=f"{trace}, load by goodput" if goodput else trace, title_justify="left", box=box.SIMPLE_HEAD,
            pad_edge=False, collapse_padding=True,
        )  # fmt: skip
        table.add_column("policy", overflow="fold", min_width=16)  # the one that gives way where all is too wide
        for name in ("load", "class", "n"):
            table.add_column(name, justify="left" if name == "class" else "right", no_wrap=True)
        for name in _COLUMNS + _COUNTS:
            table.add_column(name, justify="right", no_wrap=True)
        shown = None
        for row in (each for each in rows if each.trace == trace):
            policy = row.policy.replace("@", "\n@").replace(",", "\n ")  # what tells two apart is never cut off
            run = (policy, f"{row.load if row.goodput is None else row.goodput:.2f}")
            table.add_row(
                *(run if run != shown else ("", "")),
                row.class_,
                str(row.requests),
                *_cells(row),
                end_section=row.class_ == "all",
            )
            shown = run
        console.print(table)


def _cells(row: Row) -> list[str]:
    return [
        f"{_figure(row.ttft_p50_ms, '.0f')}/{_figure(row.ttft_p99_ms, '.0f')}",
        _figure(row.tpot_p99_ms, ".1f"),
        _figure(None if row.attainment is None else 100 * row.attainment, ".2f"),
        f"{_figure(row.jct_mean_s, '.2f')}/{_figure(row.jct_p99_s, '.1f')}",
        _figure(row.slowdown_mean, ".2f"),
        _figure(row.tokens_per_s, ".0f"),
        str(row.preemptions),
        str(row.recomputed_tokens),
        str(row.rejected),
        _figure(row.gap_max_s, ".2f"),
    ]


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _write_decisions(study: Study, capacity: dict[str, float], path: Path) -> None:
    source, choice, load = study.sources[0], study.choices[0], study.loads[0]
    try:
        with path.open("w") as log:
            simulate(Run(source, choice, load, load * capacity[source]), study.setup, log=log)
    except OSError as error:
        fail(f"--decisions: {path} can't be written ({error})", EXIT_USAGE)


@contextmanager
def _progress() -> Generator[Watch]:
    """A bar for each part of the study, on standard error."""
    columns = (TextColumn("{task.description:>9}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = wide_console()
    console.stderr = True
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console, transient=True) as progress:

        def watch(what: str, share: float) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=1.0)
            progress.update(bars[what], completed=share)

        yield watch
