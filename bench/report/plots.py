"""Pictures of the report (needs the `plots` extra): figures over load for each trace, and all policies at a glance."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from bench.report.findings import choosable, gains_attainment, gains_jct, no_gain_until, to_baseline
from bench.report.plan import BOUNDS, HIGHLIGHTED
from bench.report.table import Table

LARGEST_BYTES = 100_000
DPI = 90
Value = Callable[[Table, str, str, float], float | None]
"""(table, trace, policy, load) to what is drawn."""


def _attainment(table: Table, trace: str, policy: str, load: float) -> float | None:
    value = table.value(trace, policy, load, "ls", "attainment")
    return None if value is None else 100 * value


def _ls_ttft(table: Table, trace: str, policy: str, load: float) -> float | None:
    return table.value(trace, policy, load, "ls", "ttft_p99_ms")


def _jct(class_: str) -> Value:
    return lambda table, trace, policy, load: to_baseline(table, trace, policy, load, class_, "jct_mean_s")


PANELS: tuple[tuple[str, Value, bool, str, Callable[[Table, str, float], bool]], ...] = (
    ("LS attainment, %", _attainment, False, BOUNDS[0], gains_attainment),
    ("LS p99 TTFT, ms", _ls_ttft, True, BOUNDS[0], gains_attainment),
    ("mean JCT of all, x fcfs", _jct("all"), False, BOUNDS[1], gains_jct),
    ("BE mean JCT, x fcfs", _jct("be"), False, "", gains_jct),
)
"""(label, figure, whether its axis is logarithmic, the bound drawn in, whether order is worth anything at a load)."""
HEATS: tuple[tuple[str, str, Value, tuple[float, float], str, str], ...] = (
    ("attainment", "LS attainment, %", _attainment, (50.0, 100.0), "RdYlGn", BOUNDS[0]),
    ("jct", "mean JCT of all, x fcfs", _jct("all"), (0.5, 1.5), "RdYlGn_r", BOUNDS[1]),
)
"""(file, title, figure, ends of the colours, colours, the bound in the last line)."""


def write_plots(table: Table, folder: Path) -> list[Path]:
    """One picture over load for each trace, and two with all policies; each below `LARGEST_BYTES`."""
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25})
    written = [_write(over_load(table, trace), folder / f"{trace}.png") for trace in table.traces]
    for name, title, value, limits, colours, bound in HEATS:
        written.append(_write(at_a_glance(table, title, value, limits, colours, bound), folder / f"all_{name}.png"))
    return written


def over_load(table: Table, trace: str) -> Figure:
    """Four panels; a few policies in colour, the others grey, the bound dotted, the region without gain shaded."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    axes: Any = figure.subplots(2, 2).flatten()
    for panel, (label, value, logarithmic, bound, gains) in zip(axes, PANELS, strict=True):
        colours = iter(mpl.colormaps["tab10"].colors)  # pyright: ignore[reportAttributeAccessIssue]
        coloured = {name: next(colours) for name in HIGHLIGHTED if name in table.policies}
        for policy in sorted(choosable(table), key=lambda name: name in coloured):
            style = (
                {"color": coloured[policy], "label": policy, "linewidth": 1.8}
                if policy in coloured
                else {"color": "0.8", "linewidth": 0.8}
            )
            _line(panel, table, trace, policy, value, style)
        if bound in table.policies:
            _line(panel, table, trace, bound, value, {"color": "black", "linestyle": ":", "label": f"bound: {bound}"})
        until = no_gain_until(table, trace, gains)
        if until is not None:
            panel.axvspan(table.loads[0], until, color="0.5", alpha=0.12, linewidth=0)
        panel.set(xlabel="load, multiple of FCFS capacity", ylabel=label)
        if logarithmic:
            panel.set_yscale("log")
        panel.legend(frameon=False, fontsize=7, ncols=2)
    axes[0].axhline(99, color="black", linewidth=0.8)
    figure.suptitle(f"{trace} (grey lines: the other policies; shaded: no order is worth anything)", fontsize=10)
    return figure


def at_a_glance(
    table: Table, title: str, value: Value, limits: tuple[float, float], colours: str, bound: str
) -> Figure:
    """A number for each policy, trace and load; green is good."""
    policies = [*choosable(table), *(name for name in (bound,) if name in table.policies)]
    figure = Figure(
        figsize=(1.2 + 0.42 * len(table.loads) * len(table.traces), 1.2 + 0.21 * len(policies)), layout="constrained"
    )
    axes: Any = np.atleast_1d(figure.subplots(1, len(table.traces), sharey=True))
    for panel, trace in zip(axes, table.traces, strict=True):
        grid = [[value(table, trace, policy, load) for load in table.loads] for policy in policies]
        numbers = np.array([[np.nan if each is None else each for each in line] for line in grid], float)
        panel.imshow(numbers, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1])
        panel.set_xticks(range(len(table.loads)), [f"{load:g}" for load in table.loads], fontsize=7)
        panel.set_yticks(range(len(policies)), [_named(policy) for policy in policies], fontsize=7)
        panel.set_title(trace, fontsize=8)
        panel.grid(visible=False)
        for (row, column), number in np.ndenumerate(numbers):
            if np.isfinite(number):
                text = f"{number:.0f}" if limits[1] > 2 else f"{number:.2f}"
                panel.text(column, row, text, ha="center", va="center", fontsize=6)
    figure.suptitle(f"{title}, by load (multiple of FCFS capacity)", fontsize=9)
    return figure


def _named(policy: str) -> str:
    return f"bound: {policy}" if policy in BOUNDS else policy


def _line(panel: Any, table: Table, trace: str, policy: str, value: Value, style: dict[str, Any]) -> None:
    points = [(load, found) for load in table.loads if (found := value(table, trace, policy, load)) is not None]
    if points:
        loads, values = zip(*points, strict=True)
        panel.plot(loads, values, marker="o", markersize=2.5, **style)


def _write(figure: Figure, path: Path) -> Path:
    """As a PNG of 128 colours, which is a third of the bytes; coarser where it would be too large all the same."""
    for dpi in (DPI, 70, 50):
        raw = io.BytesIO()
        figure.savefig(raw, dpi=dpi)
        Image.open(raw).convert("RGB").quantize(128).save(path, optimize=True)
        if path.stat().st_size <= LARGEST_BYTES:
            break
    return path
