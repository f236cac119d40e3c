"""What durable jobs cost: `python -m bench.journal_cost`.

The same best-effort requests of a fixed answer length go, in blocks whose order alternates in one run, to three
suites with simulated engines in real processes: as streams of a client (`streams`: no journal), as a job whose
journal is in memory (`memory`) and as a job on disk (`disk`: SQLite with its fsyncs, or `--journal
postgresql://...`). Figures are ratios of tokens per second, pair by pair. Two paces: `engine`, where a step takes as
long as on a larger model, and `flat out`, where the processes themselves are what limits. The journal lies in
`--folder`: give one on the disk that you mean.
"""

from __future__ import annotations

import asyncio
import json as json_module
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Table

from bench.overhead.cpu import CpuMeter
from bench.overhead.report import machine
from fairlead.cli.problems import SuiteError, fail, wide_console
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.client import AsyncClient
from fairlead.config import Config

STEP_MS = {"engine": 15.0, "flat out": 0.5}
ARMS = ("streams", "memory", "disk")
TENANT = "batch"


@dataclass(frozen=True)
class Block:
    """One load on one suite, from its submission to the last line's end. CPU is the scheduler's."""

    pace: str
    arm: str
    pair: int
    tokens_per_s: float
    cpu_ms_per_1000_tokens: float


@dataclass(frozen=True)
class Load:
    """How much at once: `lines` requests of `answer_tokens`, `seats` of them in a step."""

    lines: int
    answer_tokens: int
    seats: int

    @property
    def in_flight(self) -> int:
        """Requests that the scheduler has at once."""
        return 2 * self.seats


def cost(
    lines: Annotated[int, typer.Option(min=1, help="Requests of a block.")] = 256,
    answer_tokens: Annotated[int, typer.Option(min=2)] = 200,
    seats: Annotated[int, typer.Option(min=1, help="Sequences in a step.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, help="Blocks of each kind, for each pace.")] = 3,
    journal: Annotated[str | None, typer.Option(help="Of the arm `disk`: null is SQLite in --folder.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the journals lie; else a temporary one.")] = None,
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Measure tokens per second with the journal on against off, interleaved."""
    load = Load(lines, answer_tokens, seats)
    blocks: list[Block] = []
    try:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            for pace, step_ms in STEP_MS.items():
                blocks += asyncio.run(measure(pace, step_ms, load, pairs, journal, Path(own) / pace.replace(" ", "-")))
    except SuiteError as error:
        fail(str(error))
    print_table(blocks)
    if json is not None:
        told = {"about": machine() | asdict(load), "ratios": ratios(blocks), "blocks": [asdict(one) for one in blocks]}
        json.write_text(json_module.dumps(told, indent=1), encoding="utf-8")


async def measure(pace: str, step_ms: float, load: Load, pairs: int, journal: str | None, folder: Path) -> list[Block]:
    """Blocks of the three kinds at one pace; every other round goes backwards."""
    blocks: list[Block] = []
    async with AsyncExitStack() as stack:
        suites: dict[str, Suite] = {}
        for arm in ARMS:
            config = suite_config(load, step_ms, folder / arm, {"memory": "memory", "disk": journal}.get(arm))
            suites[arm] = await stack.enter_async_context(Suite(config, SuiteOptions(free_ports=True)))
        for arm in ARMS:
            await block(pace, arm, -1, suites[arm], load)  # warm
        for pair in range(pairs):
            for arm in ARMS if pair % 2 == 0 else reversed(ARMS):
                blocks.append(await block(pace, arm, pair, suites[arm], load))
    return blocks


async def block(pace: str, arm: str, pair: int, suite: Suite, load: Load) -> Block:
    """One load from its first request to its last answer."""
    assert suite.scheduler is not None
    meter = CpuMeter({"scheduler": suite.scheduler.pid})
    async with AsyncClient(suite.address, suite.keys[TENANT]) as client:
        begun_s = time.perf_counter()
        tokens = await (as_streams if arm == "streams" else as_job)(client, pair, load)
        took_s = time.perf_counter() - begun_s
    return Block(pace, arm, pair, tokens / took_s, 1e6 * meter.used()["scheduler"] / tokens)


async def as_streams(client: AsyncClient, pair: int, load: Load) -> int:
    """Each request a stream of its own, so many at once; returns the tokens that came."""
    places = asyncio.Semaphore(load.in_flight)

    async def one(number: int) -> int:
        async with places:
            told = await client.complete(
                prompt(pair, number), service_class="be", max_tokens=load.answer_tokens, ignore_eos=True
            )
        return told.usage.output_tokens

    return sum(await asyncio.gather(*(one(number) for number in range(load.lines))))


async def as_job(client: AsyncClient, pair: int, load: Load) -> int:
    """All of them one job; returns its tokens when its end is on disk."""
    file = [{"prompt": prompt(pair, number), "ignore_eos": True} for number in range(load.lines)]
    job = await client.jobs.submit(file, max_tokens=load.answer_tokens)
    async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
        job = seen
    if job.failed_lines:
        fail(f"lines failed: {dict(job.outcomes)}")
    return job.usage.output_tokens


def prompt(pair: int, number: int) -> str:
    """The same for each kind."""
    return f"pair {pair} request {number} " + "of some words " * 8


def suite_config(load: Load, step_ms: float, state_dir: Path, journal: str | None) -> Config:
    """A simulated engine of fixed steps."""
    held = 3 * load.seats
    config: Any = change(
        with_demo_tenants(Config()), "worker", engine="simulated", slots=load.seats + 8, step_seats=load.seats,
        max_held=held, kv_blocks=100_000, step_token_budget=8192, simulated_step_ms=(step_ms, 0.0, 0.0, 0.0),
    )  # fmt: skip
    jobs = config.scheduler.jobs.model_copy(
        update={"lines_in_flight": load.in_flight, "lines_in_flight_per_tenant": load.in_flight, "min_free_mb": 0}
    )
    secret = SecretStr(journal) if journal is not None else None
    config = change(config, "scheduler", state_dir=state_dir, journal=secret, jobs=jobs, policy="fcfs")
    return change(config, "predictor", predictor="history")


def ratios(blocks: list[Block]) -> dict[str, dict[str, dict[str, float]]]:
    """Tokens per second of `disk` over each of the others, by pace: median of the pairs, least and greatest."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for pace in STEP_MS:
        by = {arm: {one.pair: one.tokens_per_s for one in blocks if (one.pace, one.arm) == (pace, arm)} for arm in ARMS}
        for other in ("streams", "memory"):
            each = [by["disk"][pair] / by[other][pair] for pair in sorted(by["disk"])]
            told = {"median": statistics.median(each), "least": min(each), "greatest": max(each)}
            found.setdefault(pace, {})[f"disk/{other}"] = told
    return found


def print_table(blocks: list[Block]) -> None:
    """Medians of each kind, and the ratios."""
    table = Table("pace", "kind", "tokens/s", "scheduler CPU ms per 1000 tokens")
    for pace in STEP_MS:
        for arm in ARMS:
            mine = [one for one in blocks if (one.pace, one.arm) == (pace, arm)]
            table.add_row(
                pace, arm, f"{statistics.median(one.tokens_per_s for one in mine):,.0f}",
                f"{statistics.median(one.cpu_ms_per_1000_tokens for one in mine):.1f}",
            )  # fmt: skip
    console = wide_console()
    console.print(table)
    for pace, pairs in ratios(blocks).items():
        for name, ratio in pairs.items():
            span = f"{ratio['least']:.3f} to {ratio['greatest']:.3f}"
            console.print(f"{pace}: {name} {ratio['median']:.3f}x tokens/s (pairs: {span})")


if __name__ == "__main__":
    typer.run(cost)
