"""The simulation against what was recorded: figures side by side, their errors, and which aims they meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.fidelity.recorded import Seen

AIM_MEDIAN, AIM_P99 = 0.10, 0.20
"""Largest errors that are aimed at; throughput is held to that of the median. There is none for p90."""
LEVELS = (50, 90, 99)
CLASSES = ("all", "ls", "be")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one class under one policy.

    Attributes:
        figure: "ttft_p50_ms" and so on, or "tokens_per_s".
        live, simulated: its values; `own_pace`: simulated with the step-time model of that very run.
        aim: largest error aimed at; None: none.
    """

    policy: str
    class_: str
    figure: str
    live: float
    simulated: float
    own_pace: float
    aim: float | None

    @property
    def error(self) -> float:
        """(simulated - live) / live."""
        return (self.simulated - self.live) / self.live

    @property
    def own_pace_error(self) -> float:
        """The same with that run's own step times: what is left is not the pace of the machine."""
        return (self.own_pace - self.live) / self.live

    @property
    def within(self) -> bool | None:
        """Whether the aim is met; None where there is none."""
        return None if self.aim is None else abs(self.error) <= self.aim

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return {
            "policy": self.policy,
            "class": self.class_,
            "figure": self.figure,
            "live": self.live,
            "simulated": self.simulated,
            "error": self.error,
            "simulated_own_pace": self.own_pace,
            "error_own_pace": self.own_pace_error,
            "aim": self.aim,
            "within": self.within,
        }


def compare(policy: str, live: Sequence[Seen], simulated: Sequence[Seen], own_pace: Sequence[Seen]) -> list[Compared]:
    """Every figure of every class that has requests."""
    found: list[Compared] = []
    for name in CLASSES:
        sides = [figures([each for each in side if _is(each, name)]) for side in (live, simulated, own_pace)]
        for figure in sides[0]:
            values = [side[figure] for side in sides]
            if values[0] > 0:
                found.append(Compared(policy, name, figure, values[0], values[1], values[2], _aim(figure)))
    return found


def figures(requests: Sequence[Seen]) -> dict[str, float]:
    """TTFT and JCT percentiles at the scheduler, ms, and output tokens a second from first arrival to last token."""
    ttfts = [each.first_ms - each.arrival_ms for each in requests if each.first_ms is not None]
    jcts = [each.last_ms - each.arrival_ms for each in requests if each.last_ms is not None]
    if not ttfts or not jcts:
        return {}
    found = {f"ttft_p{level}_ms": float(np.percentile(ttfts, level)) for level in LEVELS}
    found |= {f"jct_p{level}_ms": float(np.percentile(jcts, level)) for level in LEVELS}
    span_ms = max(each.last_ms or 0.0 for each in requests) - min(each.arrival_ms for each in requests)
    found["tokens_per_s"] = 1000.0 * sum(each.tokens for each in requests) / span_ms if span_ms > 0 else 0.0
    return found


def _is(seen: Seen, name: str) -> bool:
    return name == "all" or seen.spec.latency_sensitive == (name == "ls")


def _aim(figure: str) -> float | None:
    if "_p99_" in figure:
        return AIM_P99
    return None if "_p90_" in figure else AIM_MEDIAN
