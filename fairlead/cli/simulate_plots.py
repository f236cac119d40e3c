"""Pictures of `fairlead simulate`: one a trace, figures over load, one line a policy (needs the `plots` extra)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from simulator.figures import Row

PANELS: tuple[tuple[str, str, Callable[[Row], float | None], bool], ...] = (
    ("ls", "LS attainment, %", lambda row: None if row.attainment is None else 100 * row.attainment, False),
    ("ls", "LS p99 TTFT, ms", lambda row: row.ttft_p99_ms, True),
    ("be", "BE mean JCT, s", lambda row: row.jct_mean_s, True),
    ("all", "mean JCT of all, s", lambda row: row.jct_mean_s, True),
)
"""(class, label, figure, whether its axis is logarithmic)."""


def write_plots(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Writes `simulate_<trace>.png` for each trace; the files."""
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25})
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for trace in dict.fromkeys(row.trace for row in rows):
        figure = plot_trace(trace, [row for row in rows if row.trace == trace])
        path = folder / f"simulate_{trace}.png"
        figure.savefig(path, dpi=130)
        written.append(path)
    return written


def plot_trace(trace: str, rows: Sequence[Row]) -> Figure:
    """Four panels over load relative to FCFS capacity."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes: Any = figure.subplots(2, 2).flatten()
    colours = mpl.colormaps["tab10"]
    for panel, (name, label, value_of, logarithmic) in zip(axes, PANELS, strict=True):
        for index, policy in enumerate(dict.fromkeys(row.policy for row in rows)):
            chosen = [row for row in rows if row.policy == policy and row.class_ == name]
            points = sorted((row.load, value) for row in chosen if (value := value_of(row)) is not None)
            if points:
                loads, values = zip(*points, strict=True)
                panel.plot(loads, values, marker="o", markersize=3, color=colours(index % 10), label=policy)
        panel.set(xlabel="load, multiple of FCFS capacity", ylabel=label)
        if logarithmic:
            panel.set_yscale("log")
    axes[0].axhline(99, color="black", linewidth=1, linestyle=":")
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(trace)
    return figure
