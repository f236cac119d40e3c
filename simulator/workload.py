"""Who asks what and when: traces, or a synthetic mix, dealt into classes and stretched to a rate."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fairlead.load.traces import TraceRow, spread_ticks
from scheduler_svc.core.types import Arrived
from simulator.trace_files import TraceSource, find_trace, read_any
from simulator.world import MODEL, Request

SYNTHETIC = "synthetic"
"""Name of the built-in mix."""

_MIX = ((0.55, 300, 0.9, 150, 0.8), (0.3, 1200, 0.7, 350, 0.6), (0.15, 2500, 0.5, 60, 0.7))
"""Chat, long answers, extraction from long prompts: (share, prompt median and log deviation, answer median and ...)."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What LS requests are promised, ms."""

    ttft_ms: float = 1000.0
    tpot_ms: float = 50.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order of arrival, and the name of where they are from."""

    name: str
    rows: tuple[TraceRow, ...]

    @property
    def lengths(self) -> list[int]:
        """Output tokens of each."""
        return [row.output_tokens for row in self.rows]

    @property
    def rate_per_s(self) -> float:
        """Requests per second as they came."""
        span_s = self.rows[-1].arrival_s - self.rows[0].arrival_s
        return (len(self.rows) - 1) / span_s if span_s > 0 else math.inf

    @property
    def max_tokens(self) -> int:
        """What every request allows: the longest answer of all, rounded up to a power of two."""
        return 1 << (max(self.lengths) - 1).bit_length() if max(self.lengths) > 1 else 2


def load_workload(source: str, requests: int, seed: int) -> Workload:
    """The first `requests` of a trace, or so many of the built-in mix.

    Args:
        source: a file, the name of a trace in the data folder, or `synthetic`.
        requests: at most so many.
        seed: of the built-in mix.

    Raises:
        TraceError: there is no such trace, or it can't be read; names file and row.
    """
    if source == SYNTHETIC:
        return Workload(SYNTHETIC, tuple(synthetic_rows(requests, seed)))
    found: TraceSource = find_trace(source)
    rows = read_any(found.path, None if found.tick_s else requests)
    if found.tick_s:
        rows = spread_ticks(rows, found.tick_s)
    return Workload(found.name, tuple(rows[:requests]))


def synthetic_rows(requests: int, seed: int) -> list[TraceRow]:
    """Poisson arrivals of three kinds of requests of four tenants; one a second, to be stretched to any rate."""
    rng = random.Random(f"synthetic {seed}")
    rows: list[TraceRow] = []
    now_s = 0.0
    for _ in range(requests):
        kind = rng.choices(_MIX, [part[0] for part in _MIX])[0]
        _, prompt, prompt_deviation, answer, answer_deviation = kind
        rows.append(
            TraceRow(
                now_s,
                min(max(1, round(prompt * math.exp(rng.gauss(0.0, prompt_deviation)))), 16_000),
                min(max(1, round(answer * math.exp(rng.gauss(0.0, answer_deviation)))), 4_000),
                f"tenant-{min(int(rng.expovariate(0.7)), 3)}",
            )
        )
        now_s += rng.expovariate(1.0)
    return rows


def deal(workload: Workload, *, rate_per_s: float, ls_fraction: float, targets: Targets, seed: int) -> list[Request]:
    """The workload at a rate, its bursts kept, exactly `ls_fraction` of it latency-sensitive, at random places."""
    rows = workload.rows
    rng = random.Random(f"classes {seed}")
    ls_count = round(len(rows) * ls_fraction)
    classes = [True] * ls_count + [False] * (len(rows) - ls_count)
    rng.shuffle(classes)
    stretch = workload.rate_per_s / rate_per_s if math.isfinite(workload.rate_per_s) else 1.0
    start_s, most = rows[0].arrival_s, workload.max_tokens
    return [
        Request(
            Arrived(
                index,
                row.session or ("interactive" if latency_sensitive else "batch"),
                MODEL,
                latency_sensitive,
                targets.ttft_ms,
                targets.tpot_ms,
                row.input_tokens,
                most,
            ),
            row.output_tokens,
            arrival_ms=(row.arrival_s - start_s) * 1000.0 * stretch,
        )
        for index, (row, latency_sensitive) in enumerate(zip(rows, classes, strict=True))
    ]


def only_ls(requests: Sequence[Request]) -> list[Request]:
    """The latency-sensitive ones, at the same times."""
    return [request for request in requests if request.spec.latency_sensitive]


def all_at_once(requests: Sequence[Request]) -> list[Request]:
    """The same requests, arriving together: what capacity is measured with."""
    return [replace(request, arrival_ms=0.0) for request in requests]
