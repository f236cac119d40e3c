"""Runs what `fairlead replay` asked for; apart from its options, so that they load without NumPy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.cli.options import key_of
from fairlead.cli.problems import EXIT_FAILED, EXIT_USAGE, explain, fail, wide_console
from fairlead.cli.replay import MAX_REQUESTS
from fairlead.cli.session import Access
from fairlead.cli.tables import load_table
from fairlead.client import Admin, AsyncClient, FairleadError, Retry
from fairlead.load.measure import NotMeasured, measure_capacity
from fairlead.load.metrics import Figures, figures
from fairlead.load.plan import Mixture, Planned, arrivals, at_rate, plan_mix, plan_trace
from fairlead.load.run import Load, Record
from fairlead.load.traces import TraceError, TraceRow, read_trace, spread_ticks

CALIBRATION_SEED = 1_000_003
REFRESH_S = 0.5


@dataclass(frozen=True)
class Wish:
    """What the command line asked for; see the options of `replay`."""

    trace: Path | None
    tick_s: float | None
    rate: float | None
    load: float | None
    duration_s: float
    requests: int | None
    cv: float
    seed: int
    policy: str | None
    calibrate_s: float
    calibrate_in_flight: int
    finish_s: float
    mixture: Mixture


def run_replay(access: Access, wish: Wish, json_file: Path | None, plots: Path | None) -> None:
    """Sends the load, prints the table and writes what was asked for; a failure ends the command with a sentence."""
    try:
        plan, records, about = asyncio.run(_replay(access, wish))
    except FairleadError as error:
        fail(explain(error, access.address, access.tls))
    except (TraceError, NotMeasured) as error:
        fail(str(error))
    report(plan, records, about, json_file, plots)


async def _replay(access: Access, wish: Wish) -> tuple[list[Planned], list[Record], dict[str, Any]]:
    """Sets the policy, measures what `--load` needs, and sends."""
    rows = _read(wish) if wish.trace else None
    about: dict[str, Any] = {
        "seed": wish.seed,
        "policy": wish.policy,
        "trace": wish.trace.name if wish.trace else "mix",
    }
    async with _clients(access, wish.mixture) as clients:
        rate = wish.rate
        if wish.load is not None:
            rate = wish.load * await _capacity(access, clients, wish, about)
        if wish.policy is not None:
            await asyncio.to_thread(_set_policy, access, wish.policy)
        plan = await _plan(clients, wish, rows, rate, about)
        records = await watched(Load(clients), plan, wish.finish_s)
    return plan, records, about


def _read(wish: Wish) -> list[TraceRow]:
    assert wish.trace is not None
    rows = read_trace(wish.trace, wish.requests)
    return spread_ticks(rows, wish.tick_s) if wish.tick_s else rows


async def _capacity(access: Access, clients: Mapping[str, AsyncClient], wish: Wish, about: dict[str, Any]) -> float:
    before = await asyncio.to_thread(_set_policy, access, "fcfs")
    count = wish.calibrate_in_flight * 100
    plan = plan_mix([0.0] * count, wish.mixture, CALIBRATION_SEED)
    found = await measure_capacity(clients, plan, in_flight=wish.calibrate_in_flight, submit_s=wish.calibrate_s)
    await asyncio.to_thread(_set_policy, access, before)
    about["fcfs_capacity_requests_per_s"] = found.requests_per_s
    Console(stderr=True).print(
        f"FCFS capacity: {found.requests_per_s:.2f} requests/s ({found.tokens_per_s:.0f} tokens/s, "
        f"{found.mean_answer_tokens:.0f} tokens an answer)"
    )
    return found.requests_per_s


async def _plan(
    clients: Mapping[str, AsyncClient],
    wish: Wish,
    rows: list[TraceRow] | None,
    rate: float | None,
    about: dict[str, Any],
) -> list[Planned]:
    if rows is None:
        rate = rate or 1.0
        count = min(wish.requests or MAX_REQUESTS, math.ceil(rate * wish.duration_s))
        plan = plan_mix(arrivals(rate, count, wish.seed, wish.cv), wish.mixture, wish.seed)
    else:
        models = await next(iter(clients.values())).list_models()
        plan, cut = plan_trace(rows, wish.mixture, wish.seed, min(model.max_context_tokens for model in models))
        about["cut_to_context"] = cut
        plan = at_rate(plan, rate) if rate else plan
        plan = [each for each in plan if each.arrival_s <= wish.duration_s]
    about |= {"requests": len(plan), "rate_per_s": len(plan) / max(plan[-1].arrival_s, 1e-9)}
    return plan


def _set_policy(access: Access, policy: str) -> str:
    admin = Admin(access.address, key_of(access, None, operator=True), tls=access.tls)
    try:
        return admin.set_policy(policy)
    finally:
        admin.close()


@contextlib.asynccontextmanager
async def _clients(access: Access, mixture: Mixture) -> AsyncGenerator[dict[str, AsyncClient]]:
    """One client a tenant; refusals are not retried, they are counted."""
    once = Retry(attempts=1)
    names = {mixture.ls_tenant, mixture.be_tenant}
    clients = {name: AsyncClient(access.address, key_of(access, name), retry=once, tls=access.tls) for name in names}
    try:
        yield clients
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))


async def watched(load: Load, plan: list[Planned], finish_s: float, label: str = "replay") -> list[Record]:
    """Runs a load open-loop with a progress line on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        line = bar.add_task(label, total=len(plan), told="")
        running = asyncio.create_task(load.run_open(plan, finish_s=finish_s))
        try:
            while not running.done():
                await asyncio.wait((running,), timeout=REFRESH_S)
                now = load.progress
                told = f"sent {now.sent}, ended {now.ended} of {now.planned}, failed {now.failed}, tokens {now.tokens}"
                bar.update(line, completed=now.ended, told=told)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return running.result()


def report(
    plan: list[Planned], records: list[Record], about: dict[str, Any], json_file: Path | None, plots: Path | None
) -> None:
    """Prints the table, writes what was asked for, and fails where nothing finished."""
    found: Figures = figures(records)
    out = wide_console()
    out.print(load_table(found, f"{about['trace']}: {about['requests']} requests, {about['rate_per_s']:.2f}/s"))
    out.print(
        f"{found.tokens_per_s:.0f} tokens/s over {found.duration_s:.1f} s; {found.pauses} pauses, {found.evictions} "
        f"evictions; sent {found.send_lag_p99_ms:.1f} ms late at p99"
    )
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({"load": about, **asdict(found)}, indent=2) + "\n")
    if plots:
        _write_plots(plan, records, about["policy"] or about["trace"], plots)
    if found.all.finished == 0:
        outcomes = "; ".join(sorted({f"{each.outcome} {each.detail}".strip() for each in records})[:5])
        fail(f"no request finished: {outcomes}", EXIT_FAILED)


def _write_plots(plan: list[Planned], records: list[Record], label: str, folder: Path) -> None:
    try:
        from fairlead.load.plots import plot_all  # noqa: PLC0415 - matplotlib is an extra
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; install the extra: pip install 'fairlead[plots]'", EXIT_USAGE)
    target = next((each.ttft_ms for each in plan if each.ttft_ms is not None), None)
    written = plot_all({label: records}, folder, ttft_target_ms=target)
    wide_console().print("plots: " + ", ".join(str(path) for path in written))
