"""What TLS costs: `python -m bench.tls_cost`.

Three suites with simulated engines run side by side in real processes: in plain text, with TLS (mutual between the
services, clients show no certificate), and with client certificates too. The same best-effort load goes to each in
turn, in blocks whose order is turned round each time, in one run; the figures are ratios against the plain suite of the
same round: tokens per second, and CPU time per token of scheduler, worker and clients. Two paces: `engine`, where a
step takes as long as on a larger model, and `flat out`, where the processes themselves are what limits.
"""

from __future__ import annotations

import asyncio
import json as json_module
import os
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.overhead.cpu import CpuMeter
from bench.overhead.report import machine
from bench.scheduler_capacity import RAMP_S, Clients, Settings
from bench.telemetry_cost import STEP_MS, suite_config
from fairlead.certs import CertStore
from fairlead.certs.issuing import utc_now
from fairlead.cli.problems import SuiteError, fail, wide_console
from fairlead.cli.suite import Suite, SuiteOptions, change
from fairlead.rpc import Tls

SIDES = ("plain", "tls", "mutual")
PROCESSES = ("scheduler", "worker", "clients")


@dataclass(frozen=True)
class Block:
    """One stretch of load on one suite.

    Attributes:
        side: one of SIDES.
        cpu_s_per_1000_tokens: by process: scheduler, worker, clients.
    """

    pace: str
    side: str
    tokens_per_s: float
    cpu_s_per_1000_tokens: dict[str, float]


def cost(
    concurrent: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 64,
    answer_tokens: Annotated[int, typer.Option(min=2)] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Blocks of each side, for each pace.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a block, s.")] = 6.0,
    service_class: Annotated[str, typer.Option(help="be or ls.")] = "be",
    json: Annotated[Path | None, typer.Option(help="File for all figures.")] = None,
) -> None:
    """Measure tokens per second and CPU time per token with TLS and without, interleaved."""
    blocks: list[Block] = []
    try:
        for pace, step_ms in STEP_MS.items():
            settings = Settings(concurrent, 1000 / step_ms, seconds, answer_tokens, 1, "slo")
            blocks += asyncio.run(measure(pace, settings, rounds, service_class))
    except SuiteError as error:
        fail(str(error))
    print_table(blocks)
    if json is not None:
        about = machine() | {
            "concurrent": concurrent, "answer_tokens": answer_tokens, "seconds": seconds, "class": service_class,
        }  # fmt: skip
        told = {"about": about, "ratios": ratios(blocks), "blocks": [asdict(block) for block in blocks]}
        json.write_text(json_module.dumps(told, indent=1), encoding="utf-8")


async def measure(pace: str, settings: Settings, rounds: int, service_class: str) -> list[Block]:
    """Each side once a round, the order turned by one each time."""
    blocks: list[Block] = []
    with tempfile.TemporaryDirectory() as folder:
        store = make_certificates(Path(folder))
        async with AsyncExitStack() as stack:
            suites = {side: await stack.enter_async_context(suite_of(side, settings, store)) for side in SIDES}
            for number in range(rounds):
                turn = number % len(SIDES)
                for side in (*SIDES[turn:], *SIDES[:turn]):
                    blocks.append(await block(pace, side, suites[side], settings, service_class, store))
    return blocks


def make_certificates(folder: Path) -> CertStore:
    """For all services, and one for the clients."""
    store, now, lifetime = CertStore(folder), utc_now(), timedelta(days=2)
    store.make_authority(lifetime, now)
    for service in ("scheduler", "predictor", "worker"):
        store.issue_service(service, [], lifetime, now)
    store.issue_client("load", lifetime, now)
    return store


def suite_of(side: str, settings: Settings, store: CertStore) -> Suite:
    """Not started."""
    config = suite_config(settings)
    if side != "plain":
        client_ca = store.folder / "ca" / "ca.crt" if side == "mutual" else None
        config = change(config, "security", folder=str(store.folder), client_ca=client_ca and str(client_ca))
    return Suite(config, SuiteOptions(free_ports=True), tls=tls_of(side, store))


def tls_of(side: str, store: CertStore) -> Tls | None:
    """How clients reach it."""
    own = store.folder / "clients" / "load"
    certificate = {"certificate": own / "tls.crt", "key": own / "tls.key"} if side == "mutual" else {}
    return None if side == "plain" else Tls(own / "ca.crt", **certificate)


async def block(pace: str, side: str, suite: Suite, settings: Settings, service_class: str, store: CertStore) -> Block:
    """One stretch of load."""
    assert suite.scheduler is not None
    clients = Clients(suite.address, suite.keys["batch"], settings, service_class, tls_of(side, store))
    running = asyncio.create_task(clients.run())
    await asyncio.sleep(1.5 * RAMP_S)
    meter = CpuMeter({"scheduler": suite.scheduler.pid, "worker": suite.workers[0].pid, "clients": os.getpid()})
    before, begun_s = clients.tokens, time.perf_counter()
    await asyncio.sleep(settings.seconds)
    took_s, used = time.perf_counter() - begun_s, meter.used()
    tokens = clients.tokens - before
    clients.stop()
    await running
    return Block(pace, side, tokens / took_s, {name: 1e3 * used_s / tokens for name, used_s in used.items()})


def ratios(blocks: list[Block]) -> dict[str, dict[str, dict[str, float]]]:
    """By pace and side, against the plain suite of the same round: tokens per second, CPU time per token."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for pace in STEP_MS:
        plain = [each for each in blocks if (each.pace, each.side) == (pace, "plain")]
        for side in SIDES[1:]:
            mine = [each for each in blocks if (each.pace, each.side) == (pace, side)]
            speed = [one.tokens_per_s / other.tokens_per_s for one, other in zip(mine, plain, strict=True)]
            row = {"tokens_per_s": statistics.median(speed), "least": min(speed), "greatest": max(speed)}
            for name in PROCESSES:
                row[f"cpu_{name}"] = statistics.median(
                    one.cpu_s_per_1000_tokens[name] / other.cpu_s_per_1000_tokens[name]
                    for one, other in zip(mine, plain, strict=True)
                )
            found.setdefault(pace, {})[side] = row
    return found


def print_table(blocks: list[Block]) -> None:
    """Medians of each side, and its ratios against plain text."""
    table = Table(
        "pace", "side", "tokens/s", "against plain (rounds)", *(f"CPU of {name}, ms per 1000 (x)" for name in PROCESSES)
    )
    against = ratios(blocks)
    for pace in STEP_MS:
        for side in SIDES:
            mine = [each for each in blocks if (each.pace, each.side) == (pace, side)]
            row = against[pace].get(side, {})
            cpu = [
                f"{1e3 * statistics.median(each.cpu_s_per_1000_tokens[name] for each in mine):.1f}"
                + (f" ({row[f'cpu_{name}']:.2f}x)" if row else "")
                for name in PROCESSES
            ]
            speed = f"{row['tokens_per_s']:.3f}x ({row['least']:.3f} to {row['greatest']:.3f})" if row else ""
            table.add_row(pace, side, f"{statistics.median(each.tokens_per_s for each in mine):,.0f}", speed, *cpu)
    wide_console().print(table)


if __name__ == "__main__":
    typer.run(cost)
