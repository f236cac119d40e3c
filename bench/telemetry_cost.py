"""What telemetry costs: `python -m bench.telemetry_cost`.

Two suites with simulated engines run side by side in real processes, one with everything on (every request traced,
metrics by OTLP, pages that are scraped), one with all of it off. The same load goes to one and then to the other, in
blocks whose order alternates, in one run; the figure is the ratio of their tokens per second, pair by pair. Two paces:
`engine`, where a step takes as long as on a larger model, and `flat out`, where steps take next to no time and the
processes themselves are what limits. The receiver of the spans is a process on the same machine, so what it uses is
counted against telemetry.
"""

from __future__ import annotations

import asyncio
import json as json_module
import multiprocessing
import statistics
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.table import Table

from bench.overhead.cpu import CpuMeter
from bench.overhead.report import machine
from bench.scheduler_capacity import RAMP_S, Clients, Settings
from fairlead import event_loop
from fairlead.cli.problems import SuiteError, fail, wide_console
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.config import Config
from fairlead.rpc import free_port

SCRAPE_EVERY_S = 5.0
STEP_MS = {"engine": 15.0, "flat out": 0.5}
_METHODS = (
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
)


@dataclass(frozen=True)
class Block:
    """One stretch of load on one suite.

    Attributes:
        cpu_s_per_1000_tokens: by process: scheduler, worker.
    """

    pace: str
    telemetry: str
    tokens_per_s: float
    requests_per_s: float
    cpu_s_per_1000_tokens: dict[str, float]


def cost(
    concurrent: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 64,
    answer_tokens: Annotated[int, typer.Option(min=2)] = 128,
    pairs: Annotated[int, typer.Option(min=1, help="Blocks with and without, for each pace.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a block, s.")] = 6.0,
    sample_ratio: Annotated[float, typer.Option(min=0, max=1, help="Share of requests traced.")] = 1.0,
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Measure tokens per second with telemetry on against off, interleaved."""
    blocks: list[Block] = []
    try:
        for pace, step_ms in STEP_MS.items():
            settings = Settings(concurrent, 1000 / step_ms, seconds, answer_tokens, 1, "slo")
            blocks += event_loop.run(measure(pace, settings, pairs, sample_ratio))
    except SuiteError as error:
        fail(str(error))
    print_table(blocks)
    if json is not None:
        about = machine() | {
            "concurrent": concurrent, "answer_tokens": answer_tokens, "seconds": seconds, "sample_ratio": sample_ratio,
        }  # fmt: skip
        told = {"about": about, "ratios": ratios(blocks), "blocks": [asdict(block) for block in blocks]}
        json.write_text(json_module.dumps(told, indent=1), encoding="utf-8")


async def measure(pace: str, settings: Settings, pairs: int, sample_ratio: float) -> list[Block]:
    """Blocks off, on, on, off, off, on ... at one pace."""
    blocks: list[Block] = []
    with receiver() as endpoint:
        async with AsyncExitStack() as stack:
            suites: dict[str, Suite] = {}
            pages = [f"127.0.0.1:{free_port()}" for _ in range(3)]
            for telemetry in ("off", "on"):
                config = suite_config(settings)
                if telemetry == "on":
                    page = dict(zip(("scheduler", "predictor", "worker"), pages, strict=True))
                    config = change(
                        config, "telemetry", traces=True, metrics=True, endpoint=f"http://{endpoint}",
                        sample_ratio=sample_ratio, metrics_every_s=SCRAPE_EVERY_S, prometheus=page,
                    )  # fmt: skip
                suites[telemetry] = await stack.enter_async_context(Suite(config, SuiteOptions(free_ports=True)))
            scraping = asyncio.create_task(scrape(pages))
            for pair in range(pairs):
                for telemetry in ("off", "on") if pair % 2 == 0 else ("on", "off"):
                    blocks.append(await block(pace, telemetry, suites[telemetry], settings))
            scraping.cancel()
    return blocks


async def block(pace: str, telemetry: str, suite: Suite, settings: Settings) -> Block:
    """One stretch of load."""
    assert suite.scheduler is not None
    clients = Clients(suite.address, suite.keys["interactive"], settings, "ls")
    running = asyncio.create_task(clients.run())
    await asyncio.sleep(1.5 * RAMP_S)
    meter = CpuMeter({"scheduler": suite.scheduler.pid, "worker": suite.workers[0].pid})
    before, begun_s = (clients.tokens, clients.ended), time.perf_counter()
    await asyncio.sleep(settings.seconds)
    took_s, used = time.perf_counter() - begun_s, meter.used()
    tokens, ended = clients.tokens - before[0], clients.ended - before[1]
    clients.stop()
    await running
    return Block(
        pace, telemetry, tokens / took_s, ended / took_s, {name: 1e3 * s / tokens for name, s in used.items()}
    )  # fmt: skip


def suite_config(settings: Settings) -> Config:
    """A simulated engine of fixed steps, with a predictor, so that every span is made."""
    slots = settings.streams + 8
    config = change(
        with_demo_tenants(Config()), "worker", engine="simulated", slots=slots, step_seats=slots, max_held=2 * slots,
        kv_blocks=100_000, step_token_budget=8192, simulated_step_ms=(1000 / settings.tokens_per_s, 0.0, 0.0, 0.0),
    )  # fmt: skip
    return change(config, "predictor", predictor="history")


async def scrape(pages: list[str]) -> None:
    """As Prometheus does."""
    while True:
        await asyncio.sleep(SCRAPE_EVERY_S)
        for page in pages:
            await asyncio.to_thread(lambda url: urllib.request.urlopen(url).read(), f"http://{page}/metrics")


@contextmanager
def receiver() -> Iterator[str]:
    """A process that takes OTLP over gRPC and looks at nothing; its host:port."""
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{mine.recv()}"
    finally:
        process.terminate()
        process.join()


def _receive(told: Connection) -> None:
    def take(request: bytes, context: grpc.ServicerContext) -> bytes:
        del request, context
        return b""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            return grpc.unary_unary_rpc_method_handler(take) if handler_call_details.method in _METHODS else None

    server = grpc.server(ThreadPoolExecutor(4), handlers=(Handler(),))
    told.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def ratios(blocks: list[Block]) -> dict[str, dict[str, float]]:
    """Tokens per second with telemetry over without, for each pace: median of the pairs, the least and the greatest."""
    found: dict[str, dict[str, float]] = {}
    for pace in STEP_MS:
        on, off = (
            [each.tokens_per_s for each in blocks if (each.pace, each.telemetry) == (pace, side)]
            for side in ("on", "off")
        )
        each = [one / other for one, other in zip(on, off, strict=True)]
        found[pace] = {"median": statistics.median(each), "least": min(each), "greatest": max(each)}
    return found


def print_table(blocks: list[Block]) -> None:
    """Medians of each side, and the ratio."""
    table = Table("pace", "telemetry", "tokens/s", "requests/s", "scheduler CPU ms per 1000", "worker CPU ms per 1000")
    for pace in STEP_MS:
        for side in ("off", "on"):
            mine = [each for each in blocks if (each.pace, each.telemetry) == (pace, side)]
            cpu = {
                name: 1e3 * statistics.median(each.cpu_s_per_1000_tokens[name] for each in mine)
                for name in ("scheduler", "worker")
            }
            table.add_row(
                pace, side, f"{statistics.median(each.tokens_per_s for each in mine):,.0f}",
                f"{statistics.median(each.requests_per_s for each in mine):.1f}",
                f"{cpu['scheduler']:.1f}", f"{cpu['worker']:.1f}",
            )  # fmt: skip
    console = wide_console()
    console.print(table)
    for pace, ratio in ratios(blocks).items():
        span = f"{ratio['least']:.3f} to {ratio['greatest']:.3f}"
        console.print(f"{pace}: telemetry on against off {ratio['median']:.3f}x tokens/s (pairs: {span})")


if __name__ == "__main__":
    typer.run(cost)
