"""Simulated figures of "What to reach", for one seed: the runs that they need, each done once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from simulator.figures import Row
from simulator.policies import parse_choice
from simulator.run import Run, Setup, measure_capacity
from simulator.study import GOODPUT_ATTAINMENT, rows_for
from worker_svc.ordering import StepModel

LS_FIRST = "slo@budget=512,seats=48,step_budget=off,yield_when_ahead=off,be_share=0,be_order=fcfs,relegate_late=off"
"""LS first, BE paused with its KV cache kept, nothing else of `slo`; seats and budget tuned by hand."""
ORACLE = "slo@tau=1,step_budget=off,be_share=0,ageing_ms=0,yield_when_ahead=off"
"""LS first; inside BE least work left by the true length; no step is cut short."""
PRIORITY_TUNED = "priority@budget=512"
LOADS = (0.7, 0.95, 1.1)

MANY_SEATS = {"seats": 256, "kv_tokens": 400_000, "step_model": StepModel(6.0, 0.035, 0.03, 0.00005)}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Point:
    """What one run came to, by class."""

    ls: Row | None
    be: Row | None
    all: Row


@dataclass
class Bench:
    """Runs of one trace on one setup; each is done once.

    Args:
        source: the trace.
        setup: machines, seed, number of requests.
        say: told what is being run.
    """

    source: str
    setup: Setup
    say: Say
    _points: dict[tuple[str, float], Point] = field(default_factory=dict[tuple[str, float], Point])
    _capacity: float | None = None

    @property
    def capacity(self) -> float:
        """Requests a second of FCFS."""
        if self._capacity is None:
            self._capacity = measure_capacity(self.source, self.setup)
        return self._capacity

    def at(self, policy: str, load: float) -> Point:
        """The figures of a policy at a load."""
        load = round(load, 4)
        found = self._points.get((policy, load))
        if found is None:
            self.say(f"seed {self.setup.seed} {self.source} {policy} at {load:g}")
            choice = parse_choice(policy)
            rows = {
                row.class_: row for row in rows_for(Run(self.source, choice, load, load * self.capacity), self.setup)
            }
            found = self._points[(policy, load)] = Point(rows.get("ls"), rows.get("be"), rows["all"])
        return found

    def goodput(self, policy: str, near: float, step: float = 0.01) -> float:
        """The highest load, in whole `step`s, with 99 % of LS within SLO, on the assumption that attainment falls.

        Args:
            policy: whose.
            near: where to begin to look; what is found does not depend on it where the assumption holds.
            step: how exactly.
        """

        def keeps(load: int) -> bool:
            point = self.at(policy, load * step)
            return point.ls is not None and (point.ls.attainment or 0.0) >= GOODPUT_ATTAINMENT

        low = high = max(1, round(near / step))
        stride = max(1, round(0.04 / step))
        if keeps(low):
            while keeps(high := low + stride):
                low, stride = high, 2 * stride
        else:
            while low > 1 and not keeps(low := max(1, high - stride)):
                high, stride = low, 2 * stride
            if low == 1 and not keeps(low):
                return 0.0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if keeps(middle) else (low, middle)
        return low * step


@dataclass(frozen=True, slots=True)
class Target:
    """One line of the table.

    Attributes:
        text: what is measured.
        reach: the target, in words.
        seen: the best of the simulation in the design, in words.
        limit: the target as a number.
        at_most: whether the figure should be at most, or at least, that.
    """

    text: str
    reach: str
    seen: str
    limit: float
    at_most: bool

    def met(self, value: float) -> bool:
        """Whether a figure reaches it; NaN does not."""
        return value <= self.limit if self.at_most else value >= self.limit


TARGETS = {
    "ttft": Target("LS p99 TTFT over LS alone, worst of loads 0.7, 0.95, 1.1", "<= 1.4", "1.3-1.6", 1.4, True),
    "tpot": Target("LS TPOT p99, ms, worst of these loads", "<= 50", "", 50.0, True),
    "attained": Target("LS attainment of slo, worse of loads 0.95, 1.1", ">= 0.99", "", 0.99, False),
    "over_priority": Target("SLO goodput over priority, default settings", ">= 1.5", "1.49", 1.5, False),
    "over_tuned": Target("SLO goodput over priority, budget 512", ">= 1.3", "1.32", 1.3, False),
    "over_ls_first": Target("SLO goodput over LS-first, 48 seats, budget 512", ">= 1.15", "1.13", 1.15, False),
    "many_seats": Target("SLO goodput over priority, 256 seats, 400,000 KV tokens", ">= 1.3", "1.22", 1.3, False),
    "be_095": Target("BE mean JCT over the LS-first oracle, load 0.95", "<= 1.20", "1.35", 1.20, True),
    "be_110": Target("BE mean JCT over the LS-first oracle, load 1.1", "<= 1.30", "1.41", 1.30, True),
    "be_priority": Target("BE mean JCT over priority, load 1.1", "<= 0.70", "0.76", 0.70, True),
    "gittins_095": Target("mean JCT of all over fcfs, gittins, load 0.95", "<= 0.90", "0.89", 0.90, True),
    "gittins_110": Target("mean JCT of all over fcfs, gittins, load 1.1", "<= 0.63", "0.63", 0.63, True),
    "throughput": Target("tokens/s over fcfs, worst of these loads", ">= 0.985", "0.986+", 0.985, False),
    "low_load": Target("mean JCT of all over fcfs, slo, load 0.7", "0.98-1.02", "1.01-1.03", 1.02, True),
}  # fmt: skip
GOODPUTS = ("over_priority", "over_tuned", "over_ls_first", "many_seats")
NEAR = {"slo": 1.15, "priority": 0.8, PRIORITY_TUNED: 0.9, LS_FIRST: 1.0, "many slo": 1.0, "many priority": 0.8}


def _jct(row: Row | None) -> float:
    return math.nan if row is None or row.jct_mean_s is None else row.jct_mean_s


def figures(bench: Bench, policy: str = "slo") -> dict[str, float]:
    """Every figure but the goodputs; those without a target say where the others come from, and the bound."""
    points = {load: bench.at(policy, load) for load in LOADS}
    alone = {load: bench.at("ls_alone", load) for load in LOADS}
    fcfs = {load: bench.at("fcfs", load) for load in LOADS}
    found: dict[str, float] = {}
    found["ttft"] = max(_ttft(points[load].ls) / _ttft(alone[load].ls) for load in LOADS)
    found["tpot"] = max(_tpot(points[load].ls) for load in LOADS)
    found["attained"] = min(_attainment(points[load].ls) for load in LOADS[1:])
    found["be_095"] = _jct(points[0.95].be) / _jct(bench.at(ORACLE, 0.95).be)
    found["be_110"] = _jct(points[1.1].be) / _jct(bench.at(ORACLE, 1.1).be)
    found["be_priority"] = _jct(points[1.1].be) / _jct(bench.at("priority", 1.1).be)
    for name, load in (("gittins_095", 0.95), ("gittins_110", 1.1)):
        found[name] = _jct(bench.at("gittins", load).all) / _jct(fcfs[load].all)
    found["throughput"] = min(points[load].all.tokens_per_s / fcfs[load].all.tokens_per_s for load in LOADS)
    found["low_load"] = _jct(points[0.7].all) / _jct(fcfs[0.7].all)
    for load in LOADS:
        found[f"LS p99 TTFT over LS alone, load {load:g}"] = _ttft(points[load].ls) / _ttft(alone[load].ls)
        found[f"LS attainment, load {load:g}"] = _attainment(points[load].ls)
    for load in LOADS[1:]:
        found[f"mean JCT of all over fcfs, srpt with true lengths, load {load:g}"] = _jct(
            bench.at("srpt", load).all
        ) / _jct(fcfs[load].all)
    return found


def goodput_figures(bench: Bench, near: dict[str, float], policy: str = "slo", step: float = 0.01) -> dict[str, float]:
    """The goodputs' ratios and the goodputs themselves; `near` is brought up to date for the next seed."""
    many = Bench(bench.source, replace(bench.setup, **MANY_SEATS), bench.say)  # type: ignore[arg-type]
    found: dict[str, float] = {}
    cases = [(bench, "", each) for each in (policy, "priority", PRIORITY_TUNED, LS_FIRST)]
    for where, prefix, each in [*cases, (many, "many ", policy), (many, "many ", "priority")]:
        name = prefix + ("slo" if each == policy else each)
        near[name] = found[f"goodput {name}"] = where.goodput(each, near[name], step)
    own = found["goodput slo"]
    found["over_priority"] = _ratio(own, found["goodput priority"])
    found["over_tuned"] = _ratio(own, found[f"goodput {PRIORITY_TUNED}"])
    found["over_ls_first"] = _ratio(own, found[f"goodput {LS_FIRST}"])
    found["many_seats"] = _ratio(found["goodput many slo"], found["goodput many priority"])
    return found


def _ratio(value: float, base: float) -> float:
    return value / base if base else math.nan


def _ttft(row: Row | None) -> float:
    return math.nan if row is None or row.ttft_p99_ms is None else row.ttft_p99_ms


def _tpot(row: Row | None) -> float:
    return math.nan if row is None or row.tpot_p99_ms is None else row.tpot_p99_ms


def _attainment(row: Row | None) -> float:
    return math.nan if row is None or row.attainment is None else row.attainment
