"""The live part: the whole suite on one machine, warmed up, then the same load under each policy, all of it "
"recorded."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from demo.machine import OtherCpu
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.client import Admin, AsyncClient, Retry
from fairlead.config import Config
from fairlead.load.measure import measure_capacity, measure_idle
from fairlead.load.plan import Mixture, Planned, arrivals, plan_mix
from fairlead.load.run import Load

IDLE_SEED, BURST_SEED, WARM_SEED, LOAD_SEED = 1_000_033, 1_000_003, 1_000_081, 1
IDLE_WAIT_S = 60.0


@dataclass(frozen=True)
class Live:
    """How the live part runs.

    Attributes:
        load: offered, a multiple of the FCFS capacity measured first.
        arrivals_s, warm_s, burst_s: length of each policy's arrivals, of the warm-up at the same load, and of the
            burst that capacity is measured with.
        ttft_multiple, tpot_multiple: LS targets, in idle TTFTs and idle steps.
        seats, slots, token_budget: of the worker.
        finish_s: longest wait after the last arrival.
    """

    engine: str
    policies: tuple[str, ...]
    load: float
    out: Path
    seats: int = 12
    slots: int = 48
    token_budget: int = 2048
    arrivals_s: float = 30.0
    warm_s: float = 10.0
    burst_s: float = 8.0
    idle_requests: int = 12
    ttft_multiple: float = 10.0
    tpot_multiple: float = 5.0
    finish_s: float = 60.0
    predictor: str | None = None
    seed: int = LOAD_SEED


class NotIdle(Exception):
    """The suite still worked on the run before."""


@dataclass(frozen=True)
class Told:
    """What the live part says of itself beside its recording."""

    requests_per_s: float
    capacity_requests_per_s: float
    idle_ttft_ms: float
    idle_step_ms: float
    requests: int
    finished: dict[str, int]
    other_programs_cpus: float | None


async def run_live(live: Live, console: Console) -> Told:
    """Runs everything and leaves the recording in `live.out / "decisions"`.

    Raises:
        SuiteError, NotMeasured, NotIdle, FairleadError: with what is wrong.
    """
    config = change(Config(), "worker", engine=live.engine, slots=live.slots, step_seats=live.seats,
                    step_token_budget=live.token_budget)  # fmt: skip
    config = change(config, "scheduler", policy="fcfs", decision_log=str(live.out / "decisions"),
                    decision_log_tenant_names=True)  # fmt: skip
    config = change(config, "predictor", predictor=live.predictor)
    config = with_demo_tenants(change(config, "log", level="warning"))
    options = SuiteOptions(free_ports=True, logs=live.out / "logs", drain_s=10.0)
    async with Suite(config, options) as suite:
        once = Retry(attempts=1)
        clients = {name: AsyncClient(suite.address, suite.keys[name], retry=once) for name in ("interactive", "batch")}
        admin = Admin(suite.address, suite.keys["operator"])
        try:
            return await _all(live, clients, admin, console)
        finally:
            admin.close()
            await asyncio.gather(*(client.close() for client in clients.values()))


async def _all(live: Live, clients: dict[str, AsyncClient], admin: Admin, console: Console) -> Told:
    others = OtherCpu()
    idle_plan = plan_mix([0.0] * live.idle_requests, Mixture(ls_fraction=1.0), IDLE_SEED)
    idle = await measure_idle(clients, [replace(each, max_tokens=64) for each in idle_plan], warm_up=2)
    burst = plan_mix([0.0] * 4000, Mixture(), BURST_SEED)
    capacity = await measure_capacity(clients, burst, in_flight=2 * live.seats, submit_s=live.burst_s)
    rate = live.load * capacity.requests_per_s
    mixture = Mixture(ttft_ms=live.ttft_multiple * idle.ttft_ms, tpot_ms=live.tpot_multiple * idle.step_ms)
    console.print(
        f"capacity {capacity.requests_per_s:.1f} requests/s, idle TTFT {idle.ttft_ms:.1f} ms, step {idle.step_ms:.2f} "
        "ms; "
        f"load {live.load:g} = {rate:.1f} requests/s for {live.arrivals_s:g} s under each policy"
    )
    await _under("fcfs", live, admin)
    await Load(clients).run_open(_plan(rate, live.warm_s, mixture, WARM_SEED), finish_s=live.finish_s)
    plan = _plan(rate, live.arrivals_s, mixture, live.seed)
    finished: dict[str, int] = {}
    for policy in live.policies:
        await _under(policy, live, admin)
        records = await Load(clients).run_open(plan, finish_s=live.finish_s)
        finished[policy] = sum(record.finished for record in records)
        console.print(f"{policy}: {finished[policy]} of {len(plan)} finished")
    await asyncio.to_thread(admin.wait_idle, IDLE_WAIT_S)
    return Told(rate, capacity.requests_per_s, idle.ttft_ms, idle.step_ms, len(plan), finished, others.cpus())


async def _under(policy: str, live: Live, admin: Admin) -> None:
    """Sets a policy once nothing is left; in the recording a run begins here."""
    if not await asyncio.to_thread(admin.wait_idle, IDLE_WAIT_S):
        raise NotIdle(f"the suite was not idle {IDLE_WAIT_S:.0f} s after the run before {policy}; lower --load")
    await asyncio.to_thread(admin.set_policy, policy, step_seats=live.seats)


def _plan(rate: float, span_s: float, mixture: Mixture, seed: int) -> list[Planned]:
    count = max(2, math.ceil(rate * span_s))
    times = arrivals(rate, count, seed)
    return plan_mix([time_s * span_s / times[-1] for time_s in times], mixture, seed)
