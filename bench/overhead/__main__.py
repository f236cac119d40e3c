"""`python -m bench.overhead`: plain vLLM, vLLM's HTTP server and the suite, interleaved in one run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.overhead import stacks
from bench.overhead.cpu import CpuMeter
from bench.overhead.figures import Figures, figures, medians
from bench.overhead.models import DEMO, write_llama
from bench.overhead.report import BASE, HTTP, as_json, machine, plot, print_level, print_verdict
from demo.machine import OtherCpu
from fairlead.cli.cores import plan_cpus
from fairlead.cli.problems import SuiteError, fail, wide_console

VOCABULARY = 1600
SEED = 1
WARM_UP_S = 1.5
TRIES = 2
MOST_OTHERS_CPUS = 0.1
"""CPUs that other programs may use while something is measured."""


@dataclass(frozen=True)
class Way:
    """What is measured: a stack, and the policy where it is the suite."""

    name: str
    stack: str
    policy: str | None = None


WAYS = (
    Way(BASE, "direct"),
    Way(HTTP, "http"),
    Way("suite fcfs", "suite", "fcfs"),
    Way("suite slo", "suite", "slo"),
)


@dataclass(frozen=True)
class Settings:
    """What is run."""

    levels: tuple[int, ...]
    seconds: float
    repetitions: int
    service_class: str


def overhead(
    models: Annotated[str, typer.Option(help="`demo`, `large`, or both with a comma.")] = "demo,large",
    levels: Annotated[str, typer.Option(help="Requests in flight, with commas.")] = "1,8,64",
    seconds: Annotated[float, typer.Option(min=2, help="Length of one measurement, s.")] = 6.0,
    repetitions: Annotated[int, typer.Option(min=1, help="Of everything, the ways taking turns.")] = 3,
    service_class: Annotated[str, typer.Option(help="Of the suite's requests: `ls` (a delta a token) or `be`.")] = "ls",
    build: Annotated[Path, typer.Option(help="Folder for the larger model, logs, plot.")] = Path("build/overhead"),
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Compare plain vLLM, vLLM's HTTP server and the suite: tokens/s, TTFT, TPOT and CPU; medians of repetitions."""
    settings = Settings(tuple(int(level) for level in levels.split(",")), seconds, repetitions, service_class)
    console = wide_console()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ |= {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    try:
        found, about = asyncio.run(_run(console, models.split(","), settings, build))
    except (stacks.StackFailed, SuiteError) as error:
        fail(str(error))
    print_verdict(console, found)
    plot(found, build / "overhead.png")
    if json is not None:
        json.write_text(as_json(found, about), encoding="utf-8")
    console.print(f"plot: {build / 'overhead.png'}" + (f"; figures: {json}" if json else ""))


async def _run(
    console: Console, models: list[str], settings: Settings, build: Path
) -> tuple[dict[tuple[str, int], dict[str, Figures]], dict[str, Any]]:
    """Figures by model and number in flight, and what they were measured on and with."""
    cpus = plan_cpus("vllm", 1)
    engine_cpus = cpus[0] if cpus else ()
    # Before anything starts: servers and clients stay off the engines' CPU.
    os.sched_setaffinity(0, os.sched_getaffinity(0) - set(engine_cpus))
    found: dict[tuple[str, int], dict[str, Figures]] = {}
    for model in models:
        folder = DEMO if model == "demo" else write_llama(build / "llama")
        logs = build / "logs" / model
        logs.mkdir(parents=True, exist_ok=True)
        place = stacks.Place(str(folder.resolve()), engine_cpus, logs)
        for concurrency, level in (await measure(console, place, settings)).items():
            found[model, concurrency] = level
            print_level(console, model, concurrency, level)
    about = machine() | {
        "seconds": settings.seconds,
        "repetitions": settings.repetitions,
        "engine_cpus": engine_cpus,
        "service_class": settings.service_class,
        "seats": stacks.SEATS,
    }
    return found, about


async def measure(console: Console, place: stacks.Place, settings: Settings) -> dict[int, dict[str, Figures]]:
    """All ways at all levels on one model."""
    runs: dict[tuple[int, str], list[Figures]] = {}
    async with started(place, settings.service_class) as ready:
        for way in WAYS:
            await ready[way.stack].use(way.policy)
            await one(ready[way.stack], way, 64, WARM_UP_S, 0)
        for repetition in range(settings.repetitions):
            # The other way round each time, so that a drift of the machine falls on all alike.
            order = WAYS if repetition % 2 == 0 else WAYS[::-1]
            for concurrency in settings.levels:
                for way in order:
                    await ready[way.stack].use(way.policy)
                    seed = SEED + 1000 * repetition + concurrency
                    run = await one(ready[way.stack], way, concurrency, settings.seconds, seed)
                    runs.setdefault((concurrency, way.name), []).append(run)
                    console.print(f"  {concurrency:3d} in flight, {way.name}: {run.tokens_per_s:,.0f} tokens/s, "
                                  f"TTFT {run.ttft_ms_p50:.1f} ms, others {run.other_programs_cpus:.2f}")  # fmt: skip
    return {level: {way.name: medians(runs[level, way.name]) for way in WAYS} for level in settings.levels}


async def one(stack: stacks.Stack, way: Way, concurrency: int, seconds: float, seed: int) -> Figures:
    """One measurement, made again where others used the machine meanwhile; the one with the fewest of them counts."""
    runs: list[Figures] = []
    for attempt in range(TRIES):
        meter, others = CpuMeter(stack.roles), OtherCpu()
        answers = await stack.driver.ask(
            concurrency=concurrency, seconds=seconds, seed=seed + 10_000_000 * attempt, vocabulary=VOCABULARY,
            variant=WAYS.index(way),
        )  # fmt: skip
        runs.append(figures(answers, seconds, meter.used(), others.cpus() or 0.0))
        if runs[-1].other_programs_cpus <= MOST_OTHERS_CPUS:
            break
    return min(runs, key=lambda run: run.other_programs_cpus)


@asynccontextmanager
async def started(place: stacks.Place, service_class: str) -> AsyncGenerator[dict[str, stacks.Stack]]:
    """The three stacks, each idle while another is measured."""
    async with AsyncExitStack() as exits:
        ready: dict[str, stacks.Stack] = {}
        for make in (stacks.suite(place, service_class), stacks.direct(place), stacks.http(place)):
            stack = await exits.enter_async_context(make)
            ready[stack.name] = stack
        yield ready


if __name__ == "__main__":
    typer.run(overhead)
