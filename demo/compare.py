"""Sends the same load under one policy after another to a running suite."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace

from rich.console import Console

from demo.plan import BASELINE, Run, Settings
from fairlead.cli.suite import Suite
from fairlead.client import Admin, AsyncClient, ChatMessage, Delta, Event, Finished, Retry, ServiceClass
from fairlead.load.measure import Capacity, Idle, measure_capacity, measure_idle, sustained
from fairlead.load.plan import Mixture, Planned, arrivals, plan_mix
from fairlead.load.run import Load, Record

CALIBRATION_SEED = 1_000_003
IDLE_SEED = 1_000_033
BURST_REQUESTS = 4_000
CLOSED_SHARE = 0.4
"""Of the time of calibration: a closed loop that guesses the rate at which the open one overloads the engine."""
RAMP_SHARE = 0.25
"""Of the open loop, left out of its figures: the seats fill."""
TOLD_EVERY_S = 15.0
IDLE_WAIT_S = 60.0


class NotIdle(Exception):
    """The suite still works on an earlier run."""


@dataclass(frozen=True)
class Bench:
    """A running suite with a client a tenant and an operator's client."""

    clients: Mapping[str, AsyncClient]
    admin: Admin
    settings: Settings
    console: Console

    async def calibrate(self) -> tuple[Idle, Capacity]:
        """Times on the idle engine, then what FCFS serves at the chosen seats while as much comes as in the runs."""
        settings = self.settings
        await self.set_policy(Run(BASELINE, "fcfs", settings.seats))
        idle_plan = plan_mix([0.0] * settings.idle_requests, Mixture(ls_fraction=1.0), IDLE_SEED)
        idle = await measure_idle(self.clients, [replace(each, max_tokens=64) for each in idle_plan])
        burst = plan_mix([0.0] * BURST_REQUESTS, Mixture(), CALIBRATION_SEED)
        guess_s = settings.calibrate_s * CLOSED_SHARE
        guess = await measure_capacity(self.clients, burst, in_flight=2 * settings.seats, submit_s=guess_s)
        until_s = settings.calibrate_s
        rate = settings.load * guess.requests_per_s
        overload = plan_mix(arrivals(rate, math.ceil(rate * until_s), CALIBRATION_SEED), Mixture(), CALIBRATION_SEED)
        await self.set_policy(Run(BASELINE, "fcfs", settings.seats))
        records = await Load(self.clients).run_open(overload, finish_s=settings.finish_s)
        return idle, sustained(records, from_s=until_s * RAMP_SHARE, until_s=until_s)

    async def set_policy(self, run: Run) -> None:
        """Sets the policy and its seats through the admin service, once nothing is left of the run before."""
        if not await asyncio.to_thread(self.admin.wait_idle, IDLE_WAIT_S):
            raise NotIdle(f"the suite was not idle {IDLE_WAIT_S:.0f} s after the run before {run.label}")
        await asyncio.to_thread(self.admin.set_policy, run.policy, step_seats=run.seats)

    async def run(self, run: Run, plan: list[Planned]) -> list[Record]:
        """One run; shows one LS answer from its middle as it comes."""
        await self.set_policy(run)
        self.console.print(f"[bold]{run.label}[/]: policy {run.policy}, {run.seats} seats, {len(plan)} requests")
        shown = Shown(plan)
        load = Load(self.clients, watch=shown.take)
        running = asyncio.create_task(load.run_open(plan, finish_s=self.settings.finish_s))
        start_s = time.monotonic()
        try:
            while not running.done():
                await asyncio.wait((running,), timeout=TOLD_EVERY_S)
                if not shown.writing and not running.done():
                    now = load.progress
                    self.console.print(
                        f"  {time.monotonic() - start_s:3.0f} s: sent {now.sent} of {now.planned}, ended {now.ended}, "
                        f"waiting or running {now.sent - now.ended}, tokens {now.tokens}"
                    )
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return running.result()


class Shown:
    """Writes one LS answer to the screen as it comes: the first one due in the second half of the arrivals."""

    def __init__(self, plan: list[Planned]) -> None:
        latency = [each for each in plan if each.service_class == ServiceClass.LATENCY_SENSITIVE]
        self._index = latency[len(latency) // 2].index if latency else -1
        self._sent_s = 0.0
        self._told_s: float | None = None
        self.writing = False

    def take(self, request: Planned, event: Event) -> None:
        """Called with every event of every request."""
        if request.index != self._index:
            return
        if isinstance(event, Delta):
            if self._told_s is None:
                self._begin(request)
            sys.stdout.write(event.text.replace("\n", "\n  > "))
        elif isinstance(event, Finished):
            sys.stdout.write(f"\n  ({event.usage.output_tokens} tokens, {event.outcome})\n")
            self.writing = False
        else:
            self._sent_s = time.monotonic()
        sys.stdout.flush()

    def _begin(self, request: Planned) -> None:
        self._told_s, self.writing = time.monotonic(), True
        turn = request.prompt[-1]
        asked = turn.content if isinstance(turn, ChatMessage) else request.prompt
        waited_ms = (self._told_s - self._sent_s) * 1000
        sys.stdout.write(
            f"  LS request {request.index}: {asked}\n  (first token {waited_ms:.0f} ms after acceptance)\n  > "
        )


def load_plan(settings: Settings, capacity: Capacity, idle: Idle, seed: int) -> list[Planned]:
    """The load of one seed, the same for every policy."""
    rate = settings.load * capacity.requests_per_s
    count = max(2, math.ceil(rate * settings.arrivals_s))
    mixture = Mixture(
        ls_fraction=0.5, ttft_ms=settings.ttft_multiple * idle.ttft_ms, tpot_ms=settings.tpot_multiple * idle.step_ms
    )
    times = arrivals(rate, count, seed)
    stretch = settings.arrivals_s / times[-1]
    return plan_mix([time_s * stretch for time_s in times], mixture, seed)


@contextlib.asynccontextmanager
async def bench(suite: Suite, settings: Settings, console: Console) -> AsyncGenerator[Bench]:
    """Clients of a started suite."""
    once = Retry(attempts=1)
    tenants = ("interactive", "batch")
    clients = {name: AsyncClient(suite.address, suite.keys[name], retry=once) for name in tenants}
    admin = Admin(suite.address, suite.keys["operator"])
    try:
        yield Bench(clients, admin, settings, console)
    finally:
        admin.close()
        await asyncio.gather(*(client.close() for client in clients.values()))
