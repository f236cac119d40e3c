"""The report's figures as means over seeds."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

KEYS = ("trace", "policy", "load", "class")
FIGURES = (
    "requests", "ttft_p50_ms", "ttft_p99_ms", "tpot_p99_ms", "attainment", "jct_mean_s", "jct_p99_s", "slowdown_mean",
    "tokens_per_s", "preemptions", "recomputed_tokens", "rejected", "relegated", "gap_max_s", "jain",
)  # fmt: skip
TENANT_FIGURES = (
    "requests", "output_tokens", "attainment", "ls_ttft_p99_ms", "ls_tpot_p99_ms", "jct_mean_s", "slowdown_mean",
)  # fmt: skip

Row = Mapping[str, Any]


class Table:
    """Figures by trace, policy, load and class.

    Args:
        rows: of the simulator, each with its seed.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        groups: defaultdict[tuple[Any, ...], list[Row]] = defaultdict(list)
        for row in rows:
            groups[tuple(row[key] for key in KEYS)].append(row)
        self.groups = dict(groups)
        self.means = {
            key: {name: mean_of(each[name] for each in group) for name in FIGURES} for key, group in groups.items()
        }
        self.traces = list(dict.fromkeys(row["trace"] for row in rows))
        self.policies = list(dict.fromkeys(row["policy"] for row in rows))
        self.loads = sorted({float(row["load"]) for row in rows})

    def value(self, trace: str, policy: str, load: float, name: str, figure: str) -> float | None:
        """Mean over seeds; `name` is the class: "ls", "be" or "all". None where there is none."""
        return self.means.get((trace, policy, load, name), {}).get(figure)

    def spread(self, name: str, figure: str) -> float | None:
        """(largest - least) / mean over the seeds of a run, the median over all runs; None with one seed."""
        spreads: list[float] = []
        for key, group in self.groups.items():
            values = [row[figure] for row in group if row[figure] is not None]
            if key[3] == name and len(values) > 1 and fmean(values) > 0:
                spreads.append((max(values) - min(values)) / fmean(values))
        return median(spreads) if spreads else None


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def tenants_of(rows: Sequence[Row]) -> dict[tuple[str, str, float, str], dict[str, float | None]]:
    """Means over seeds by trace, policy, load and tenant."""
    groups: defaultdict[tuple[str, str, float, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["trace"], row["policy"], row["load"], row["tenant"]].append(row)
    return {
        key: {name: mean_of(each[name] for each in group) for name in TENANT_FIGURES} for key, group in groups.items()
    }


def write_csv(path: Path, keys: Sequence[str], figures: Sequence[str], rows: Mapping[Any, Mapping[str, Any]]) -> None:
    """All means, four digits each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*keys, *figures])
        for key, found in rows.items():
            writer.writerow([*key, *("" if found[name] is None else f"{found[name]:.4g}" for name in figures)])
