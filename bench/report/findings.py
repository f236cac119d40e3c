"""What the figures say: where order is worth nothing, how far a policy carries, and which one is best at what."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from bench.report.plan import BASELINE, BOUNDS, WITHOUT_PREDICTOR
from bench.report.table import Table

ENOUGH = 0.99
"""LS attainment that counts as kept (design: scheduling, "SLO goodput")."""
NO_GAIN_JCT, NO_GAIN_ATTAINMENT = 0.02, 0.005
"""Below these differences to `fcfs` in mean JCT (relative) and attainment (absolute) an order is worth nothing."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What somebody may want.

    Attributes:
        words: for a reader.
        class_, figure: what is looked at; the least is best, the largest where `most`.
        kept: only policies that keep `ENOUGH` of LS within SLO, as long as there are any.
        without_predictor: only policies that need no predictions.
    """

    words: str
    class_: str
    figure: str
    most: bool = False
    kept: bool = False
    without_predictor: bool = False


GOALS = (
    Goal("most LS requests within SLO", "ls", "attainment", most=True),
    Goal("99 % of LS within SLO, and BE done soonest", "be", "jct_mean_s", kept=True),
    Goal("least mean completion time of all", "all", "jct_mean_s"),
    Goal("... without a predictor", "all", "jct_mean_s", without_predictor=True),
    Goal("least p99 completion time of all (nobody starves)", "all", "jct_p99_s"),
    Goal("most tokens a second", "all", "tokens_per_s", most=True),
)


def choosable(table: Table) -> list[str]:
    """Policies without the bounds."""
    return [policy for policy in table.policies if policy not in BOUNDS]


def to_baseline(table: Table, trace: str, policy: str, load: float, class_: str, figure: str) -> float | None:
    """A figure over the same figure of `fcfs`."""
    value, base = (table.value(trace, each, load, class_, figure) for each in (policy, BASELINE))
    return value / base if value is not None and base else None


def candidates(table: Table, trace: str, load: float, goal: Goal) -> list[tuple[str, float]]:
    """Policies and their figures, best first; (empty where the trace has no such class)."""
    names = [name for name in choosable(table) if not goal.without_predictor or name in WITHOUT_PREDICTOR]
    if goal.kept:
        kept = [name for name in names if (table.value(trace, name, load, "ls", "attainment") or 0.0) >= ENOUGH]
        if not kept:
            return []
        names = kept
    found = [
        (name, value)
        for name in names
        if (value := table.value(trace, name, load, goal.class_, goal.figure)) is not None
    ]
    return sorted(found, key=lambda each: each[1], reverse=goal.most)


def no_gain_until(table: Table, trace: str, gain: Callable[[Table, str, float], bool]) -> float | None:
    """The highest load up to which nothing is gained at any load; None where the lowest gains already."""
    highest = None
    for load in table.loads:
        if gain(table, trace, load):
            break
        highest = load
    return highest


def gains_jct(table: Table, trace: str, load: float) -> bool:
    """Whether some policy is noticeably below `fcfs` in mean JCT of all."""
    ratios = [to_baseline(table, trace, name, load, "all", "jct_mean_s") for name in choosable(table)]
    return min((ratio for ratio in ratios if ratio is not None), default=1.0) < 1 - NO_GAIN_JCT


def gains_attainment(table: Table, trace: str, load: float) -> bool:
    """Whether some policy keeps noticeably more LS requests within SLO than `fcfs`."""
    base = table.value(trace, BASELINE, load, "ls", "attainment")
    values = [table.value(trace, name, load, "ls", "attainment") for name in choosable(table)]
    return (
        base is not None
        and max((value for value in values if value is not None), default=0.0) > base + NO_GAIN_ATTAINMENT
    )


def slo_goodput(table: Table, trace: str, policy: str) -> tuple[float, str]:
    """(the highest load that keeps `ENOUGH` of LS within SLO, how it is written).

    Between the last load that does and the first that does not it is interpolated linearly in attainment.
    """
    before: tuple[float, float] | None = None
    for load in table.loads:
        value = table.value(trace, policy, load, "ls", "attainment")
        if value is None:
            return 0.0, "-"
        if value < ENOUGH:
            if before is None:
                return 0.0, f"< {load:g}"
            share = (before[1] - ENOUGH) / (before[1] - value)
            found = before[0] + share * (load - before[0])
            return found, f"{found:.2f}"
        before = (load, value)
    most = table.loads[-1]
    return math.inf, f">= {most:g}"


def score(table: Table, load: float, goal: Goal) -> list[tuple[str, float]]:
    """Policies by how much worse than the best they are, the geometric mean over traces; best first.

    1 is the best of every trace. A policy counts only where it has a figure on every trace.
    """
    by_policy: dict[str, list[float]] = {}
    traces = 0
    for trace in table.traces:
        found = candidates(table, trace, load, goal)
        if not found:
            continue
        traces += 1
        best = found[0][1]
        for name, value in found:
            worse = (best / value if goal.most else value / best) if value and best else 1.0
            by_policy.setdefault(name, []).append(worse)
    means = [(name, math.exp(fmean(map(math.log, each)))) for name, each in by_policy.items() if len(each) == traces]
    return sorted(means, key=lambda each: each[1])
