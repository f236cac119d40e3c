"""What fairlead's hook costs inside vLLM's EngineCore: `python -m bench.engine_hook`.

One engine without services, 64 sequences that decode: vLLM's own order against ours under two policies, then with new
orders coming in and with sequences that are paused and resumed. CPU time of the EngineCore process is what counts: the
wall time of a step depends on who else uses the machine.
"""

from __future__ import annotations

import asyncio
import json as json_module
import os
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from bench.overhead.cpu import cpu_s
from bench.overhead.models import DEMO, write_llama
from bench.overhead.report import machine
from fairlead.cli.cores import plan_cpus
from fairlead.cli.problems import wide_console
from fairlead.config import WorkerConfig
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.types import PolicySettings
from worker_svc.engines.base import ChangeKind, EngineInfo, EngineRequest, Sampling
from worker_svc.engines.vllm_engine import VllmEngine

SEQUENCES = 64
SETTLE_S = 1.0
WITHIN_S = 60.0


@dataclass(frozen=True)
class Scenario:
    """What is done to a full engine.

    Attributes:
        policy: whose rules; None: vLLM's own scheduler.
        orders_per_s: new orders of all sequences; the order itself changes where `seats` are short.
        seats: in a step; fewer than sequences: each new order pauses some and resumes others.
        swapped: sequences that change places with each new order.
    """

    name: str
    policy: str | None
    orders_per_s: float = 0.0
    seats: int = SEQUENCES
    swapped: int = 0


SCENARIOS = (
    Scenario("vLLM's own scheduler", None),
    Scenario("ours, fcfs", "fcfs"),
    Scenario("ours, slo", "slo"),
    Scenario("ours, slo, 20 orders/s", "slo", 20),
    Scenario("ours, slo, 70 orders/s", "slo", 70),
    Scenario("ours, slo, 300 orders/s", "slo", 300),
    Scenario("ours, isrtf, 48 seats", "isrtf", 0, 48),
    Scenario("ours, isrtf, 48 seats, 40 orders/s, 1 pause each", "isrtf", 40, 48, 1),
    Scenario("ours, isrtf, 48 seats, 40 orders/s, 8 pauses each", "isrtf", 40, 48, 8),
)


@dataclass(frozen=True)
class Found:
    """Of one scenario; medians over repetitions.

    Attributes:
        step_ms: wall time between steps; core_cpu_ms: CPU time of EngineCore a step.
        plan_ms, hook_ms: of it in `plan_step`, and in the rest of our hook before vLLM's `schedule`.
        tokens_per_step, pauses_per_s, orders_per_s: as it was.
    """

    name: str
    step_ms: float
    core_cpu_ms: float
    core_cpu_ms_per_64_tokens: float
    plan_ms: float
    hook_ms: float
    tokens_per_step: float
    pauses_per_s: float
    orders_per_s: float


class Watch:
    """Reads an engine's batches and counts."""

    def __init__(self, engine: VllmEngine) -> None:
        self.steps = self.tokens = self.pauses = 0
        self.next_handle = 1
        self.live: set[int] = set()
        self._engine = engine
        self._news = asyncio.Event()
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for batch in self._engine.batches():
            self.steps = max(self.steps, batch.step_count)
            self.tokens += sum(map(len, batch.tokens.values()))
            self.pauses += Counter(kind for _, kind in batch.changes)[ChangeKind.PAUSED]
            self.live.difference_update(end.handle for end in batch.ends)
            self._news.set()

    async def until(self, done: Callable[[], bool]) -> None:
        """Waits until `done`, looked at after each batch."""
        async with asyncio.timeout(WITHIN_S):
            while not done():
                self._news.clear()
                await self._news.wait()


def hook(
    model: Annotated[str, typer.Option(help="`demo` or `large`.")] = "demo",
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement, s.")] = 3.0,
    repetitions: Annotated[int, typer.Option(min=1)] = 3,
    build: Annotated[Path, typer.Option(help="Folder for the larger model.")] = Path("build/overhead"),
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Measure what our order at each step costs in EngineCore, and what new orders and pauses cost."""
    folder = DEMO if model == "demo" else write_llama(build / "llama")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = asyncio.run(_run(str(folder.resolve()), seconds, repetitions))
    print_table(wide_console(), model, found)
    if json is not None:
        told = {"about": machine(), "model": model, "figures": [asdict(each) for each in found]}
        json.write_text(json_module.dumps(told, indent=1), encoding="utf-8")


async def _run(model: str, seconds: float, repetitions: int) -> list[Found]:
    found: list[Found] = []
    for scheduling in ("vllm-fcfs", "fairlead"):
        chosen = [each for each in SCENARIOS if (each.policy is None) == (scheduling == "vllm-fcfs")]
        async with started(model, scheduling) as (engine, info):
            watch = Watch(engine)
            runs: dict[str, list[Found]] = {}
            for _ in range(repetitions):
                for scenario in chosen:
                    runs.setdefault(scenario.name, []).append(await one(engine, info, watch, scenario, seconds))
            found += [of_all(runs[scenario.name]) for scenario in chosen]
    return found


@asynccontextmanager
async def started(
    model: str, scheduling: Literal["fairlead", "vllm-fcfs"]
) -> AsyncGenerator[tuple[VllmEngine, EngineInfo]]:
    """An engine with a CPU to itself where there are two."""
    cpus = plan_cpus("vllm", 1)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - set(cpus[0] if cpus else ()))
    engine = VllmEngine(
        WorkerConfig(
            model=model, scheduling=scheduling, slots=SEQUENCES, step_seats=SEQUENCES, kv_blocks=2100,
            engine_cpus=cpus[0] if cpus else None,
        )
    )  # fmt: skip
    try:
        yield engine, await engine.start()
    finally:
        await engine.stop()
        os.sched_setaffinity(0, before)


async def one(engine: VllmEngine, info: EngineInfo, watch: Watch, scenario: Scenario, seconds: float) -> Found:
    """One measurement, on an engine that is empty before and after."""
    handles = list(range(watch.next_handle, watch.next_handle + SEQUENCES))
    watch.next_handle += SEQUENCES
    await fill(engine, info, watch, scenario, handles)
    core = int((await engine.inspect())["pid"])
    tokens = watch.tokens
    await watch.until(lambda: watch.tokens >= tokens + 2 * SEQUENCES)
    await asyncio.sleep(SETTLE_S)
    before = await engine.inspect()
    begun = (time.perf_counter(), cpu_s(core), watch.steps, watch.tokens, watch.pauses)
    orders = await reorder(engine, scenario, handles, seconds)
    ended = (time.perf_counter(), cpu_s(core), watch.steps, watch.tokens, watch.pauses)
    after = await engine.inspect()
    await engine.cancel(handles)
    await watch.until(lambda: not watch.live)
    took_s, core_s, steps, tokens, pauses = (now - then for now, then in zip(ended, begun, strict=True))
    plan_ms, hook_ms = (mean_between(before, after, name) for name in ("plan_ms", "hook_ms"))
    return Found(
        name=scenario.name,
        step_ms=took_s / steps * 1e3,
        core_cpu_ms=core_s / steps * 1e3,
        core_cpu_ms_per_64_tokens=core_s / tokens * SEQUENCES * 1e3,
        plan_ms=plan_ms,
        hook_ms=hook_ms,
        tokens_per_step=tokens / steps,
        pauses_per_s=pauses / took_s,
        orders_per_s=orders / took_s,
    )


def mean_between(before: dict[str, float], after: dict[str, float], name: str) -> float:
    """A mean that `inspect` tells since the start, over what lies between two of them; 0 without our hook."""
    plans = after.get("plans", 0) - before.get("plans", 0)
    return (after[name] * after["plans"] - before[name] * before["plans"]) / plans if plans else 0.0


async def fill(engine: VllmEngine, info: EngineInfo, watch: Watch, scenario: Scenario, handles: list[int]) -> None:
    """As many sequences as the engine has slots, half of them LS, which decode for longer than is measured."""
    rng = random.Random(1)
    prompt_tokens = 32
    for place, handle in enumerate(handles):
        watch.live.add(handle)
        await engine.admit(
            EngineRequest(
                handle=handle,
                token_ids=[rng.randrange(64, 1600) for _ in range(prompt_tokens)],
                forced_tokens=0,
                sampling=Sampling(max_tokens=info.max_context_tokens - prompt_tokens - 1, ignore_eos=True),
                latency_sensitive=place % 2 == 0,
                arrival_ms=time.monotonic() * 1e3,
                ttft_ms=1000.0,
                tpot_ms=500.0,
                rank=place,
                cache_salt="",
            )
        )
    if scenario.policy is not None:
        rules = BUILT_IN[scenario.policy](PolicySettings(step_seats=scenario.seats)).rules()
        await engine.set_ranks(handles, rules)


async def reorder(engine: VllmEngine, scenario: Scenario, handles: list[int], seconds: float) -> int:
    """Sends orders at the scenario's pace for so long; returns how many."""
    begun_s, sent, order = time.perf_counter(), 0, list(handles)
    if not scenario.orders_per_s:
        await asyncio.sleep(seconds)
        return 0
    while (now_s := time.perf_counter() - begun_s) < seconds:
        if now_s * scenario.orders_per_s > sent:
            sent += 1
            # The last of the seated and the first of the others change places.
            for place in range(scenario.swapped):
                inside, outside = scenario.seats - 1 - place, (scenario.seats + sent + place) % len(order)
                outside = max(outside, scenario.seats + place % (len(order) - scenario.seats))
                order[inside], order[outside] = order[outside], order[inside]
            await engine.set_ranks(order, None)
        await asyncio.sleep(max(0.0, sent / scenario.orders_per_s - (time.perf_counter() - begun_s)))
    return sent


def of_all(runs: list[Found]) -> Found:
    """The median of each figure."""
    fields = [name for name in asdict(runs[0]) if name != "name"]
    return Found(runs[0].name, *(median(getattr(run, name) for run in runs) for name in fields))


def print_table(console: Console, model: str, found: list[Found]) -> None:
    """All scenarios."""
    table = Table(title=f"{model}: EngineCore with {SEQUENCES} sequences", title_justify="left")
    for head in ("", "step, ms", "CPU ms a step", "CPU ms per 64 tokens", "plan, ms", "hook, ms", "tokens a step",
                 "pauses/s", "orders/s"):  # fmt: skip
        table.add_column(head, justify="right" if head else "left")
    for each in found:
        table.add_row(
            each.name, f"{each.step_ms:.2f}", f"{each.core_cpu_ms:.2f}", f"{each.core_cpu_ms_per_64_tokens:.2f}",
            f"{each.plan_ms:.3f}", f"{each.hook_ms:.3f}", f"{each.tokens_per_step:.1f}", f"{each.pauses_per_s:.0f}",
            f"{each.orders_per_s:.0f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    typer.run(hook)
