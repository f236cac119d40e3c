"""How many tokens and streams a second one scheduler process carries on one core: `python -m bench.scheduler_capacity`.

The scheduler has a CPU to itself; workers and clients share the others. The workers are lean ones (`lean_worker.py`),
which speak the contract and make tokens at a pace for next to nothing, so that the scheduler is what is used up;
`--engine simulated` takes real worker processes with simulated engines. Where workers and clients are used up first the
table says so, and the scheduler's own limit follows from its CPU seconds per token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json as json_module
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from grpc import aio
from rich.console import Console
from rich.table import Table

from bench.lean_suite import Loaded, lean_suite
from bench.overhead.cpu import CpuMeter
from bench.overhead.report import machine
from fairlead import event_loop
from fairlead.cli.problems import SuiteError, fail, wide_console
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.config import Config
from fairlead.rpc import Tls, make_channel
from fairlead.v1 import inference_pb2, types_pb2

GENERATE = "/fairlead.v1.InferenceService/Generate"
RAMP_S = 2.0
PROFILE_ROWS = 25
_CLASSES = {"ls": types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE, "be": types_pb2.SERVICE_CLASS_BEST_EFFORT}


@dataclass(frozen=True)
class Settings:
    """What is run: `streams` at once, each at `tokens_per_s`, for `seconds`."""

    streams: int
    tokens_per_s: float
    seconds: float
    answer_tokens: int
    workers: int
    policy: str
    engine: str = "lean"


@dataclass(frozen=True)
class Found:
    """What came of one run.

    Attributes:
        tokens_per_s: through the scheduler.
        deltas_per_s: messages to clients.
        requests_per_s: that ended.
        scheduler_cpu: share of its core that was used; others_cpu: CPUs that workers and clients used.
        scheduler_cpu_s_per_1000_tokens: and the limit of one core that follows from it, tokens/s.
    """

    service_class: str
    streams: int
    offered_tokens_per_s: float
    tokens_per_s: float
    deltas_per_s: float
    requests_per_s: float
    scheduler_cpu: float
    others_cpu: float
    scheduler_cpu_s_per_1000_tokens: float
    limit_tokens_per_s: float


class Clients:
    """Closed loop of lean gRPC clients, which count deltas and their tokens and look at nothing else."""

    def __init__(self, address: str, key: str, settings: Settings, service_class: str, tls: Tls | None = None) -> None:
        self.deltas = self.tokens = self.ended = 0
        self._settings = settings
        self._stop = False
        self._channels = [make_channel(address, tls) for _ in range(4)]
        self._metadata = (("authorization", f"Bearer {key}"),)
        request = inference_pb2.GenerateRequest(service_class=_CLASSES[service_class])
        request.token_ids.ids.extend(range(1, 33))
        request.sampling.max_tokens = settings.answer_tokens
        request.sampling.ignore_eos = True
        self._request = request.SerializeToString()

    async def run(self) -> None:
        """Until `stop`."""
        await asyncio.gather(*(self._sender(index) for index in range(self._settings.streams)))
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def stop(self) -> None:
        """No more requests; the streams in flight are left."""
        self._stop = True

    async def _sender(self, index: int) -> None:
        channel = self._channels[index % len(self._channels)]
        generate, parse = channel.unary_stream(GENERATE), inference_pb2.GenerateResponse.FromString
        # Not all at once: a step of nothing but first tokens would be no steady load.
        await asyncio.sleep(RAMP_S * index / self._settings.streams)
        while not self._stop:
            call: Any = generate(self._request, metadata=self._metadata)
            event = inference_pb2.GenerateResponse()
            while (message := await call.read()) is not aio.EOF:
                event = parse(message)
                self.deltas += 1
                self.tokens += event.delta.token_count
                if self._stop:
                    call.cancel()
                    return
            finished = event.finished
            if finished.outcome != types_pb2.OUTCOME_LENGTH:
                raise SuiteError(f"a request ended {types_pb2.Outcome.Name(finished.outcome)}: {finished.detail}")
            self.ended += 1


def capacity(
    streams: Annotated[str, typer.Option(help="Streams at once, with commas.")] = "100,250,500",
    tokens_per_s: Annotated[float, typer.Option(min=1, help="Of each stream.")] = 125.0,
    classes: Annotated[str, typer.Option(help="`be` (tokens in groups), `ls` (a delta a token), or both.")] = "be,ls",
    seconds: Annotated[float, typer.Option(min=1, help="Length of one measurement, s.")] = 8.0,
    answer_tokens: Annotated[int, typer.Option(min=2)] = 500,
    workers: Annotated[int, typer.Option(min=1, help="Processes with a simulated engine each.")] = 1,
    policy: Annotated[str, typer.Option(help="The scheduler's.")] = "fcfs",
    engine: Annotated[str, typer.Option(help="`lean` workers, or `simulated` engines in real ones.")] = "lean",
    profile: Annotated[
        bool, typer.Option("--profile", help="Where the scheduler's time goes, by py-spy (it costs some itself).")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Measure how many tokens and streams a second one scheduler process carries on one CPU core."""
    console = wide_console()
    found: list[Found] = []
    try:
        for service_class in classes.split(","):
            for count in (int(each) for each in streams.split(",")):
                settings = Settings(count, tokens_per_s, seconds, answer_tokens, workers, policy, engine)
                run, rows = event_loop.run(measure(settings, service_class, profile))
                found.append(run)
                if rows:
                    print_profile(console, run, rows)
    except SuiteError as error:
        fail(str(error))
    print_table(console, found)
    if json is not None:
        about = machine() | {"workers": workers, "policy": policy, "answer_tokens": answer_tokens}
        told = {"about": about, "figures": [asdict(each) for each in found]}
        json.write_text(json_module.dumps(told, indent=1), encoding="utf-8")


async def measure(settings: Settings, service_class: str, profile: bool) -> tuple[Found, list[tuple[str, float]]]:
    """One run, and the profile of it if asked for."""
    cpus = sorted(os.sched_getaffinity(0))
    async with loaded(settings) as suite:
        with pinned(suite.scheduler, cpus):
            clients = Clients(suite.address, suite.key, settings, service_class)
            running = asyncio.create_task(clients.run())
            await asyncio.sleep(2 * RAMP_S)
            meter = CpuMeter({"scheduler": suite.scheduler, "clients": os.getpid(), **suite.workers})
            before, begun_s = (clients.tokens, clients.deltas, clients.ended), time.perf_counter()
            spy = Spy(suite.scheduler, settings.seconds) if profile else None
            await asyncio.sleep(settings.seconds)
            took_s, used = time.perf_counter() - begun_s, meter.used()
            tokens, deltas, ended = (
                now - then for now, then in zip((clients.tokens, clients.deltas, clients.ended), before, strict=True)
            )
            rows = await spy.rows() if spy else []
            clients.stop()
            await running
    scheduler_s = used.pop("scheduler")
    found = Found(
        service_class=service_class,
        streams=settings.streams,
        offered_tokens_per_s=settings.streams * settings.tokens_per_s,
        tokens_per_s=tokens / took_s,
        deltas_per_s=deltas / took_s,
        requests_per_s=ended / took_s,
        scheduler_cpu=scheduler_s / took_s,
        others_cpu=sum(used.values()) / took_s,
        scheduler_cpu_s_per_1000_tokens=scheduler_s / tokens * 1e3,
        limit_tokens_per_s=tokens / scheduler_s,
    )
    return found, rows


@contextlib.asynccontextmanager
async def loaded(settings: Settings) -> AsyncGenerator[Loaded]:
    """A scheduler and its workers."""
    if settings.engine == "lean":
        async with lean_suite(settings.streams, settings.tokens_per_s, settings.workers, settings.policy) as suite:
            yield suite
        return
    async with Suite(suite_config(settings), SuiteOptions(workers=settings.workers, free_ports=True)) as suite:
        assert suite.scheduler is not None
        workers = {f"worker {index}": worker.pid for index, worker in enumerate(suite.workers)}
        yield Loaded(suite.address, suite.keys["interactive"], suite.scheduler.pid, workers)


def suite_config(settings: Settings) -> Config:
    """Simulated engines whose steps take as long as the wanted pace, however many take part; no predictor."""
    slots = -(-settings.streams // settings.workers)
    config = change(
        Config(), "worker", engine="simulated", slots=slots, step_seats=slots, max_held=2 * slots, kv_blocks=100_000,
        step_token_budget=max(2048, 64 * slots), simulated_step_ms=(1000 / settings.tokens_per_s, 0.0, 0.0, 0.0),
    )  # fmt: skip
    config = change(config, "scheduler", policy=settings.policy, look_ahead=0)
    config = config.model_copy(update={"scheduler": config.scheduler.model_copy(update={"predictor": None})})
    return with_demo_tenants(change(config, "log", level="warning"))


@contextlib.contextmanager
def pinned(scheduler: int, cpus: list[int]) -> Generator[None]:
    """The scheduler on the first CPU, and everything else (this process; workers inherit) on the rest."""
    if len(cpus) < 2:
        yield
        return
    for folder in Path(f"/proc/{scheduler}/task").iterdir():
        os.sched_setaffinity(int(folder.name), cpus[:1])
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Spy:
    """py-spy on a process: samples of its Python stacks.

    Raises:
        SuiteError: py-spy is not installed.
    """

    def __init__(self, pid: int, seconds: float) -> None:
        command = Path(sys.executable).parent / "py-spy"
        self._folder = tempfile.TemporaryDirectory(prefix="fairlead-")
        self._samples = Path(self._folder.name) / "samples"
        if not command.exists():
            raise SuiteError("--profile needs py-spy: pip install 'fairlead[bench]'")
        self._process = subprocess.Popen(
            [command, "record", "--pid", str(pid), "--duration", str(max(1, int(seconds))), "--rate", "200",
             "--format", "raw", "--nonblocking", "--output", self._samples],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    async def rows(self) -> list[tuple[str, float]]:
        """Share of samples in which a function was the innermost one of ours or of a library, most first."""
        await asyncio.to_thread(self._process.wait)
        own: Counter[str] = Counter()
        for line in self._samples.read_text(encoding="utf-8").splitlines():
            stack, _, count = line.rpartition(" ")
            own[stack.rpartition(";")[2].rpartition(":")[0]] += int(count)
        total = max(1, own.total())
        return [(name, count / total) for name, count in own.most_common(PROFILE_ROWS)]


def print_profile(console: Console, run: Found, rows: list[tuple[str, float]]) -> None:
    """Where the time goes."""
    console.print(f"scheduler, {run.service_class}, {run.streams} streams: share of samples by innermost function")
    for name, share in rows:
        console.print(f"  {share:6.1%} {name}")


def print_table(console: Console, found: list[Found]) -> None:
    """All runs."""
    table = Table(title="one scheduler process on one core", title_justify="left")
    for head in ("class", "streams", "offered tokens/s", "tokens/s", "deltas/s", "requests/s", "scheduler's core",
                 "others, CPUs", "CPU s per 1000 tokens", "limit tokens/s", "used up first"):  # fmt: skip
        table.add_column(head, justify="left" if head in ("class", "used up first") else "right")
    for run in found:
        table.add_row(
            run.service_class, str(run.streams), f"{run.offered_tokens_per_s:,.0f}", f"{run.tokens_per_s:,.0f}",
            f"{run.deltas_per_s:,.0f}", f"{run.requests_per_s:.0f}", f"{run.scheduler_cpu:.0%}",
            f"{run.others_cpu:.2f}", f"{run.scheduler_cpu_s_per_1000_tokens:.4f}", f"{run.limit_tokens_per_s:,.0f}",
            used_up(run),
        )  # fmt: skip
    console.print(table)


def used_up(run: Found) -> str:
    """What was the bottleneck of a run."""
    if run.tokens_per_s >= 0.97 * run.offered_tokens_per_s:
        return "nothing"
    others = max(1, (os.cpu_count() or 2) - 1)
    return "scheduler" if run.scheduler_cpu > run.others_cpu / others else "workers and clients"


if __name__ == "__main__":
    typer.run(capacity)
