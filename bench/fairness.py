"""Fairness in virtual time: one tenant sends ten times what the other does.

Two questions. *Shares*: both always have requests waiting, in one class; is the weighted service of each minute within
the bound that `scheduler_svc/core/fairness.py` states (I7), and what is it without fair shares? *Isolation*: a tenant
that asks for less than its share of LS; how many of its requests meet their targets alone, and beside one that floods
with LS, or with BE?
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scheduler_svc.core.admission import Limits
from scheduler_svc.core.fairness import FairRules
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import TenantsChanged, TenantTerms
from simulator.figures import attainment
from simulator.policies import find_placements, find_policies, parse_choice
from simulator.run import Setup, machine_of, measure_capacity, predictor_of, run_to_the_end, workload_of
from simulator.workload import Workload, deal
from simulator.world import Request, World

FEW, MANY = "few", "many"
TIMES = 10
FLOODS = {f"{TIMES} times its LS": 1.0, f"{TIMES} times as much BE": 0.0}
"""What the other tenant sends: its LS part."""
BACKLOGGED = 1.2
"""What the smaller tenant asks for alone, over what the machine serves first come, first served."""
MINUTE_MS, LOOK_EVERY_MS = 60_000.0, 500.0
WARM_MINUTES = 1
MOST_POINTS = 0.02
LIMITS = Limits(200_000, 200_000)


@dataclass(frozen=True, slots=True)
class Shares:
    """Two backlogged tenants of one class.

    Attributes:
        apart_max: largest difference of their weighted service over a minute, over any one.
        apart_over_all: over all minutes together.
        bound: the stated one, from what was on the worker at a time.
        service_per_minute: mean of each tenant, weighted tokens over weight.
    """

    class_: str
    policy: str
    weights: tuple[float, float]
    apart_max: float
    apart_over_all: float
    bound: float
    service_per_minute: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Isolation:
    """LS attainment of the tenant within its share; what was refused counts as missed."""

    beside: str
    policy: str
    attainment: float
    alone: float


class Counted(World):
    """A world that notes each tenant's weighted service by the minute, and what it has on the workers."""

    def __init__(self, core: SchedulerCore, weights: dict[str, float], **settings: object) -> None:
        super().__init__(core, **settings)  # pyright: ignore[reportArgumentType]
        self.weights = weights
        settings_ = core.policy.settings
        self.rules = FairRules.of(settings_, fair=True, apart=core.policy.classes_apart)
        self.by_minute: list[dict[str, float]] = []
        self.most_placed = 0.0
        self._counted: dict[int, float] = {}
        self._sums = dict.fromkeys(weights, 0.0)

    def look(self, until_ms: float) -> None:
        """Adds up what was served since the last look."""
        placed = dict.fromkeys(self.weights, 0.0)
        weight = self.rules.output_weight
        for job in self.core.live_jobs().values():
            if job.worker is not None:
                whole = job.spec.prompt_tokens + weight * self.requests[job.job_id].answer_tokens
                placed[job.spec.tenant] += max(whole, job.charged) / self.weights[job.spec.tenant]
        self.most_placed = max(self.most_placed, *placed.values())
        if self.now_ms >= MINUTE_MS * (len(self.by_minute) + 1):
            self.by_minute.append(self._served())
        if self.now_ms < until_ms:
            self.at(self.now_ms + LOOK_EVERY_MS, self.look, until_ms)

    def _served(self) -> dict[str, float]:
        for job_id, request in self.requests.items():
            tenant = request.spec.tenant
            prompt = request.spec.prompt_tokens if request.received else 0
            served = (prompt + self.rules.output_weight * request.received) / self.weights[tenant]
            self._sums[tenant] += served - self._counted.get(job_id, 0.0)
            self._counted[job_id] = served
        return dict(self._sums)


def arrivals(
    source: str, setup: Setup, rates: dict[str, tuple[float, float]], minutes: float
) -> tuple[list[Request], Workload]:
    """Requests of tenants: (requests a second, part of them LS) each, from one trace, in order of arrival."""
    counts = {name: max(1, int(rate * 60.0 * minutes)) for name, (rate, _) in rates.items()}
    whole = workload_of(source, sum(counts.values()), setup.seed)
    made: list[Request] = []
    first = 0
    for name, (rate, ls_fraction) in rates.items():
        rows = tuple(whole.rows[index % len(whole.rows)] for index in range(first, first + counts[name]))
        start_s = rows[0].arrival_s
        rows = tuple(replace(row, session=name, arrival_s=start_s + at) for at, row in enumerate(rows))
        made += deal(
            Workload(name, rows), rate_per_s=rate, ls_fraction=ls_fraction, targets=setup.targets, seed=setup.seed
        )
        first += counts[name]
    made.sort(key=lambda request: request.arrival_ms)
    for job_id, request in enumerate(made):
        request.spec = replace(request.spec, job_id=job_id, max_tokens=whole.max_tokens)
    return made, whole


def world_for(policy: str, setup: Setup, source: str, workload: Workload, weights: dict[str, float]) -> Counted:
    """A world with these tenants."""
    choice = parse_choice(policy)
    core = SchedulerCore(choice.name, choice.settings, LIMITS, policies=find_policies(), placements=find_placements())
    core.handle(TenantsChanged(tuple(TenantTerms(name, weight) for name, weight in weights.items())), 0.0)
    predictor = predictor_of(source, choice, setup, workload)
    world = Counted(core, weights, predictor=predictor, network=setup.network, seed=setup.seed)
    for _ in range(setup.workers):
        world.add_worker(machine_of(choice, setup))
    return world


def shares(
    policy: str, *, latency_sensitive: bool, weights: tuple[float, float], source: str, setup: Setup, minutes: float
) -> Shares:
    """Both tenants backlogged from the first second on: the smaller one alone asks for more than the machine has."""
    capacity = measure_capacity(source, replace(setup, requests=2000))
    part = 1.0 if latency_sensitive else 0.0
    few = BACKLOGGED * capacity
    requests, workload = arrivals(source, setup, {FEW: (few, part), MANY: (TIMES * few, part)}, minutes)
    by_tenant = {FEW: weights[0], MANY: weights[1]}
    world = world_for(policy, setup, source, workload, by_tenant)
    until_ms = 60_000.0 * minutes
    world.at(0.0, world.look, until_ms)
    for request in requests:
        world.at(request.arrival_ms, world.submit, request)
    while world.now_ms < until_ms and world.advance():
        pass
    totals = world.by_minute[WARM_MINUTES - 1 :]
    gaps = [(after[FEW] - before[FEW]) - (after[MANY] - before[MANY]) for before, after in pairwise(totals)]
    spans = max(1, len(totals) - 1)
    mean = tuple((totals[-1][name] - totals[0][name]) / spans for name in (FEW, MANY))
    bound = 5.0 * world.rules.bound + 5.0 * world.most_placed
    return Shares(
        "ls" if latency_sensitive else "be", policy, weights, max(abs(gap) for gap in gaps), abs(sum(gaps)), bound,
        (mean[0], mean[1]),
    )  # fmt: skip


def isolation(
    policy: str, source: str, setup: Setup, minutes: float, floods: Mapping[str, float] = FLOODS
) -> list[Isolation]:
    """A tenant that asks for 0.4 of the machine in LS: alone, then beside each flood."""
    capacity = measure_capacity(source, replace(setup, requests=2000))
    few = 0.4 * capacity
    found: list[Isolation] = []
    for beside, ls_part in (("nobody", None), *floods.items()):
        rates = {FEW: (few, 1.0)} | ({} if ls_part is None else {MANY: (TIMES * few, ls_part)})
        requests, workload = arrivals(source, setup, rates, minutes)
        world = world_for(policy, setup, source, workload, dict.fromkeys((FEW, MANY), 1.0))
        run_to_the_end(world, requests, None)
        mine = attainment([request for request in requests if request.spec.tenant == FEW]) or 0.0
        found.append(Isolation(beside, policy, mine, found[0].attainment if found else mine))
    return found


def main() -> None:
    """Measures, prints and judges; exit code 1 where a line is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--source", default="synthetic", help="a trace's file or name; the built-in mix by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="virtual time")
    parser.add_argument("--weight", type=float, default=2.0, help="of the tenant that sends more, in a run of its own")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    setup = Setup(seed=given.seed, workers=given.workers)
    console = Console()
    rows: list[Shares] = []
    for policy, weights in (("slo", (1.0, 1.0)), ("slo", (1.0, given.weight)), ("slo@fair_shares=off", (1.0, 1.0))):
        for ls in (False, True):
            console.print(f"shares: {policy}, {'LS' if ls else 'BE'}, weights {weights}")
            row = shares(
                policy, latency_sensitive=ls, weights=weights, source=given.source, setup=setup, minutes=given.minutes
            )
            rows.append(row)
    console.print(_shares_table(rows))
    isolated = isolation("slo@overload=reject", given.source, setup, given.minutes)
    isolated += isolation("slo@overload=reject,fair_shares=off", given.source, setup, given.minutes)
    console.print(_isolation_table(isolated))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        value = {"shares": [asdict(row) for row in rows], "isolation": [asdict(row) for row in isolated]}
        given.json.write_text(json.dumps(value, indent=1) + "\n")
    fair = all(row.apart_max <= row.bound for row in rows if row.policy == "slo")
    kept = all(row.alone - row.attainment <= MOST_POINTS for row in isolated if "off" not in row.policy)
    sys.exit(0 if fair and kept else 1)


def _shares_table(rows: Sequence[Shares]) -> Table:
    table = Table(
        "class", "policy", "weights", "few / min", "many / min", "apart in a minute", "over all", "bound",
        title="weighted tokens over weight, both tenants backlogged, one sending ten times the other",
    )  # fmt: skip
    for row in rows:
        few, many = row.service_per_minute
        figures = (few, many, row.apart_max, row.apart_over_all, row.bound)
        table.add_row(row.class_, row.policy, str(row.weights), *(f"{figure:,.0f}" for figure in figures))
    return table


def _isolation_table(rows: Sequence[Isolation]) -> Table:
    table = Table("beside", "policy", "LS attainment", "alone", title="a tenant that asks for 0.4 of the machine in LS")
    for row in rows:
        table.add_row(row.beside, row.policy, f"{row.attainment:.2%}", f"{row.alone:.2%}")
    return table


if __name__ == "__main__":
    main()
