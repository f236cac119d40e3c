"""Overload in virtual time: what LS, BE, queues and refusals come to at three times what the machine can serve.

Each run offers a trace (or the built-in mix) at a multiple of the measured FCFS capacity for ten minutes, then 0.3 of
it for another two: what comes 10 s after the load's end or later should find things as at load 1, BE still waiting or
not. The policy is `slo` with the choices given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scheduler_svc.core.admission import AdmissionRefusal, Limits
from scheduler_svc.core.scheduler import SchedulerCore
from simulator.figures import finished, met, ttft_ms
from simulator.policies import Choice, find_placements, find_policies, parse_choice
from simulator.run import Setup, machine_of, measure_capacity, predictor_of, run_to_the_end, workload_of
from simulator.workload import Workload, deal
from simulator.world import Request, World

OVERLOAD = 3.0
LOWER_LOADS = (0.7, 1.0, 1.5, 2.0, 2.5)
AFTER_LOAD, AFTER_S, RECOVERED_AFTER_S = 0.3, 120.0, 10.0
LOOK_EVERY_MS = 500.0
BEST_RATE_SHARE, LEAST_ATTAINMENT = 0.9, 0.99
LIMITS = Limits(10_000, 8_000, max_queued_per_class=8_000)
"""As the service has them by default."""


@dataclass(frozen=True, slots=True)
class Run:
    """One load for a while, then little.

    Attributes:
        source: the trace.
        policy: with its choices, as in `fairlead simulate`.
        load: multiple of the capacity.
        minutes: of that load.
    """

    source: str
    policy: str
    load: float
    minutes: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run came to. Rates are per second of the load.

    Attributes:
        ls_offered_per_s, ls_met_per_s: LS requests that came, and that met both targets.
        admitted_attainment: of the LS requests taken as LS, those that met both.
        ls_refused, ls_relegated: parts of the LS requests that came.
        be_refused: part of the BE requests that came.
        refused_without_delay: refusals that said no time to come back.
        reasons: of refusals.
        be_tokens_share: of the output tokens while the load lasted.
        be_wait_max_s: longest time to a BE first token.
        be_beyond_bound: BE requests that waited longer than was stated when they came (I6).
        queue_ls_max, queue_be_max: most that waited.
        ls_ttft_p50_ms: median of the LS requests that came in the load and were served.
        after_ttft_p50_ms: likewise of those that came 10 s after the load's end or later.
        after_met: part of these that met their targets.
    """

    load: float
    ls_offered_per_s: float
    ls_met_per_s: float
    admitted_attainment: float
    ls_refused: float
    ls_relegated: float
    be_refused: float
    refused_without_delay: int
    reasons: dict[str, int]
    be_tokens_share: float
    be_wait_max_s: float
    be_beyond_bound: int
    queue_ls_max: int
    queue_be_max: int
    ls_ttft_p50_ms: float
    after_ttft_p50_ms: float
    after_met: float


class Watched(World):
    """A world that notes refusals, queues and the bounds on waiting that were stated."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # pyright: ignore[reportArgumentType]
        self.refusals: list[AdmissionRefusal] = []
        self.bounds_ms: dict[int, float] = {}
        self.queue_max = {True: 0, False: 0}
        self.tokens_until: tuple[int, int] = (0, 0)

    def submit(self, request: Request) -> None:
        """A request comes; what it is refused for, or promised, is noted."""
        spec = request.spec
        refusal = self.core.refusal_for(spec.tenant, self.now_ms, spec)
        if refusal is not None:
            self.refusals.append(refusal)
        super().submit(request)
        if not spec.latency_sensitive and not request.refused:
            bound_ms = self.core.wait_bound_ms(spec.job_id)
            if bound_ms is not None:
                self.bounds_ms[spec.job_id] = bound_ms

    def watch(self, until_ms: float) -> None:
        """Looks at the queues now and then until the load ends."""
        for latency_sensitive in (True, False):
            waiting = self.core.ledger.waiting_in_class(latency_sensitive)
            self.queue_max[latency_sensitive] = max(self.queue_max[latency_sensitive], waiting)
        if self.now_ms < until_ms:
            self.at(self.now_ms + LOOK_EVERY_MS, self.watch, until_ms)
            return
        accounts = self.core.ledger.accounts.items()
        sums = Counter[bool]()
        for (_, latency_sensitive), account in accounts:
            sums[latency_sensitive] += account.output_tokens
        self.tokens_until = (sums[False], sums[True] + sums[False])


def offered(run: Run, capacity: float, setup: Setup) -> tuple[list[Request], list[Request]]:
    """Requests of the load, and those that come after it."""
    count = int(run.load * capacity * 60.0 * run.minutes)
    after_count = int(AFTER_LOAD * capacity * AFTER_S)
    whole = workload_of(run.source, count + after_count, setup.seed)
    if len(whole.rows) < count + after_count:
        raise ValueError(
            f"{run.source} has {len(whole.rows)} requests, {count + after_count} are needed: fewer --minutes"
        )

    def dealt(rows: Workload, rate: float, seed: int) -> list[Request]:
        return deal(rows, rate_per_s=rate, ls_fraction=setup.ls_fraction, targets=setup.targets, seed=seed)

    load = dealt(Workload(whole.name, whole.rows[:count]), run.load * capacity, setup.seed)
    after = dealt(Workload(whole.name, whole.rows[count:]), AFTER_LOAD * capacity, setup.seed + 1)
    most = max(load[0].spec.max_tokens, after[0].spec.max_tokens)
    end_ms = load[-1].arrival_ms
    for request in load:
        request.spec = replace(request.spec, max_tokens=most)
    for request in after:
        request.arrival_ms += end_ms
        request.spec = replace(request.spec, job_id=request.spec.job_id + count, max_tokens=most)
    return load, after


def world_for(choice: Choice, setup: Setup, source: str, requests: int) -> Watched:
    """A world as `fairlead simulate` has it, with the service's own bounds."""
    core = SchedulerCore(choice.name, choice.settings, LIMITS, policies=find_policies(), placements=find_placements())
    predictor = predictor_of(source, choice, setup, workload_of(source, requests, setup.seed))
    world = Watched(core, predictor, network=setup.network, seed=setup.seed)
    for _ in range(setup.workers):
        world.add_worker(machine_of(choice, setup))
    return world


def measured(run: Run, capacity: float, setup: Setup) -> Figures:
    """Does a run."""
    choice = parse_choice(run.policy)
    load, after = offered(run, capacity, setup)
    end_ms = load[-1].arrival_ms
    world = world_for(choice, setup, run.source, len(load) + len(after))
    world.at(0.0, world.watch, end_ms)
    run_to_the_end(world, [*load, *after], None)
    late = [each for each in after if each.arrival_ms >= end_ms + 1000.0 * RECOVERED_AFTER_S]
    return _figures(run, world, load, late, end_ms / 1000.0)


def _figures(run: Run, world: Watched, load: Sequence[Request], late: Sequence[Request], span_s: float) -> Figures:
    ls = [each for each in load if each.spec.latency_sensitive]
    be = [each for each in load if not each.spec.latency_sensitive]
    admitted = [each for each in ls if not each.refused and not each.relegated]
    good = sum(met(each) for each in admitted)
    waits = {each.spec.job_id: wait for each in be if (wait := ttft_ms(each)) is not None}
    beyond = sum(wait > world.bounds_ms.get(job_id, float("inf")) for job_id, wait in waits.items())
    reasons = Counter(refusal.reason.value for refusal in world.refusals)
    late_ls = [each for each in late if each.spec.latency_sensitive]
    be_tokens, tokens = world.tokens_until
    return Figures(
        load=run.load,
        ls_offered_per_s=len(ls) / span_s,
        ls_met_per_s=good / span_s,
        admitted_attainment=good / max(1, len(admitted)),
        ls_refused=sum(each.refused for each in ls) / max(1, len(ls)),
        ls_relegated=sum(each.relegated for each in ls) / max(1, len(ls)),
        be_refused=sum(each.refused for each in be) / max(1, len(be)),
        refused_without_delay=sum(refusal.retry_after_ms is None for refusal in world.refusals),
        reasons=dict(sorted(reasons.items())),
        be_tokens_share=be_tokens / max(1, tokens),
        be_wait_max_s=max(waits.values(), default=0.0) / 1000.0,
        be_beyond_bound=beyond,
        queue_ls_max=world.queue_max[True],
        queue_be_max=world.queue_max[False],
        ls_ttft_p50_ms=_median_ttft(load),
        after_ttft_p50_ms=_median_ttft(late),
        after_met=sum(met(each) and finished(each) for each in late_ls) / max(1, len(late_ls)),
    )


def _median_ttft(requests: Sequence[Request]) -> float:
    found = sorted(wait for each in requests if each.spec.latency_sensitive and (wait := ttft_ms(each)) is not None)
    return found[len(found) // 2] if found else 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of what is to be shown."""

    what: str
    value: str
    passed: bool


def verdicts(lower: Sequence[Figures], over: Figures) -> list[Verdict]:
    """Issue by issue, whether the overload was borne."""
    best = max(each.ls_met_per_s for each in lower)
    usual = min(lower, key=lambda each: abs(each.load - 1.0))
    waiting = max(over.queue_ls_max, over.queue_be_max)
    return [
        Verdict(
            f"LS meeting their SLO per second, over the best at lower loads: at least {BEST_RATE_SHARE}",
            f"{over.ls_met_per_s / best:.3f}", over.ls_met_per_s >= BEST_RATE_SHARE * best,
        ),
        Verdict(
            f"attainment of the admitted: at least {LEAST_ATTAINMENT}",
            f"{over.admitted_attainment:.4f}", over.admitted_attainment >= LEAST_ATTAINMENT,
        ),
        Verdict("refusals without a delay: none", str(over.refused_without_delay), not over.refused_without_delay),
        Verdict("waiting at most, of 8,000 a class", str(waiting), waiting <= 8_000),
        Verdict("BE beyond the stated bound on its wait: none", str(over.be_beyond_bound), not over.be_beyond_bound),
        Verdict(
            f"median LS TTFT from 10 s after the load on, ms: at most {usual.ls_ttft_p50_ms:.0f}, as at {usual.load:g}",
            f"{over.after_ttft_p50_ms:.0f}", over.after_ttft_p50_ms <= usual.ls_ttft_p50_ms,
        ),
        Verdict("attainment from then on: at least 0.99", f"{over.after_met:.3f}", over.after_met >= LEAST_ATTAINMENT),
    ]  # fmt: skip


def main() -> None:
    """Measures, prints and judges; exit code 1 where a line is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--source", default="synthetic", help="a trace's file or name; the built-in mix by default")
    parser.add_argument("--policy", default="slo@overload=reject")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each load, virtual time")
    parser.add_argument("--loads", type=float, nargs="+", default=list(LOWER_LOADS), help="lower loads to compare with")
    parser.add_argument("--overload", type=float, default=OVERLOAD, help="multiple of the capacity")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seats", type=int, default=64, help="of a worker's step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    given = parser.parse_args()
    setup = Setup(seed=given.seed, workers=given.workers, seats=given.seats)
    capacity = measure_capacity(given.source, replace(setup, requests=3000))
    console = Console()
    console.print(f"{given.source}: FCFS serves {capacity:.2f} requests a second; {given.policy}, seed {given.seed}")
    found: list[Figures] = []
    for load in [*given.loads, given.overload]:
        found.append(measured(Run(given.source, given.policy, load, given.minutes), capacity, setup))
        console.print(_line(found[-1]))
    judged = verdicts(found[:-1], found[-1])
    console.print(_table(judged, given.overload))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        value = {"source": given.source, "policy": given.policy, "seed": given.seed, "capacity_per_s": capacity}
        rows = [asdict(each) for each in found]
        given.json.write_text(json.dumps(value | {"rows": rows}, indent=1) + "\n")
    sys.exit(0 if all(each.passed for each in judged) else 1)


def _line(row: Figures) -> str:
    return (
        f"load {row.load:4.2f}: LS {row.ls_offered_per_s:.2f}/s offered, {row.ls_met_per_s:.2f}/s met; admitted "
        f"{row.admitted_attainment:.2%}; refused {row.ls_refused:.1%} LS, {row.be_refused:.1%} BE {row.reasons}; "
        f"relegated {row.ls_relegated:.1%}; BE {row.be_tokens_share:.1%} of tokens, waits {row.be_wait_max_s:.0f} s at "
        f"most; queued {row.queue_ls_max} LS, {row.queue_be_max} BE"
    )


def _table(judged: Sequence[Verdict], overload: float) -> Table:
    table = Table("at the overload", "measured", "", title=f"{overload:g} times the capacity")
    for each in judged:
        table.add_row(each.what, each.value, "met" if each.passed else "MISSED")
    return table


if __name__ == "__main__":
    main()
