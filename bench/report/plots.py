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
from bench.report.plan import BOUNDS
from bench.report.table import Table

LARGEST_BYTES = 100_000
COLOURS = {
    "fcfs": "tab:blue", "priority": "tab:orange", "isrtf": "tab:green", "gittins": "tab:purple",
    "hybrid_slo": "tab:cyan", "slo": "crimson",
}  # fmt: skip
"""Policies with a colour of their own; the last, the default, is drawn on top."""
TRACES_ACROSS = 3
DARK = 0.45
"""Lightness below which a number is written in white."""
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
    figure = Figure(figsize=(10, 7.2), layout="constrained")
    axes: Any = figure.subplots(2, 2, sharex=True).flatten()
    lines: dict[str, Any] = {}
    for panel, (label, value, logarithmic, bound, gains) in zip(axes, PANELS, strict=True):
        for policy in sorted(choosable(table), key=lambda name: list(COLOURS).index(name) if name in COLOURS else -1):
            line = _line(panel, table, trace, policy, value, _style(policy))
            if policy in COLOURS and line is not None:
                lines[policy] = line
        if bound in table.policies:
            line = _line(panel, table, trace, bound, value, {"color": "black", "linestyle": ":", "linewidth": 1.6})
            if line is not None:
                lines[f"bound: {bound}"] = line
        until = no_gain_until(table, trace, gains)
        if until is not None:
            panel.axvspan(table.loads[0], until, color="0.5", alpha=0.15, linewidth=0)
        panel.axvline(1.0, color="0.6", linewidth=0.8, linestyle="--")
        panel.set_title(label, fontsize=10, loc="left")
        panel.set_xticks(table.loads, [f"{load:g}" for load in table.loads], fontsize=8)
        if logarithmic:
            panel.set_yscale("log")
    axes[0].axhline(99, color="black", linewidth=0.8)
    for panel in axes[2:]:
        panel.set_xlabel("load, multiple of FCFS capacity")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines), frameon=False, fontsize=9)
    figure.suptitle(
        f"{trace}: grey lines are the other policies; where it is shaded, no order is worth anything", fontsize=10
    )
    return figure


def at_a_glance(
    table: Table, title: str, value: Value, limits: tuple[float, float], colours: str, bound: str
) -> Figure:
    """A number for each policy, trace and load; green is good. Best policies first, by their mean; bound last."""
    good = -1.0 if colours == "RdYlGn" else 1.0

    def mean(policy: str) -> float:
        found = [value(table, trace, policy, load) for trace in table.traces for load in table.loads]
        clipped = [float(np.clip(each, *limits)) for each in found if each is not None]
        return good * float(np.mean(clipped)) if clipped else np.inf

    policies = [*sorted(choosable(table), key=mean), *(name for name in (bound,) if name in table.policies)]
    across = min(TRACES_ACROSS, len(table.traces))
    down = -(-len(table.traces) // across)
    size = (1.9 + 0.36 * len(table.loads) * across, 0.5 + (0.5 + 0.17 * len(policies)) * down)
    figure = Figure(figsize=size, layout="constrained")
    axes: Any = np.atleast_2d(figure.subplots(down, across, sharey=True, squeeze=False))
    for panel, trace in zip(axes.flatten(), table.traces, strict=False):
        grid = [[value(table, trace, policy, load) for load in table.loads] for policy in policies]
        numbers = np.array([[np.nan if each is None else each for each in line] for line in grid], float)
        image = panel.imshow(numbers, aspect="auto", cmap=colours, vmin=limits[0], vmax=limits[1])
        panel.set_xticks(range(len(table.loads)), [f"{load:g}" for load in table.loads], fontsize=7)
        panel.set_yticks(range(len(policies)), [_named(policy) for policy in policies], fontsize=7)
        panel.set_title(trace, fontsize=8)
        panel.grid(visible=False)
        panel.tick_params(length=0)
        for (row, column), number in np.ndenumerate(numbers):
            if np.isfinite(number):
                text = f"{number:.0f}" if limits[1] > 2 else f"{number:.2f}"
                dark = float(np.dot(image.cmap(image.norm(number))[:3], (0.3, 0.6, 0.1))) < DARK
                panel.text(column, row, text, ha="center", va="center", fontsize=6, color="white" if dark else "black")
    for panel in axes.flatten()[len(table.traces) :]:
        panel.set_visible(False)
    figure.suptitle(f"{title}, by load (multiple of FCFS capacity); best policies first", fontsize=9)
    return figure


def _named(policy: str) -> str:
    return f"bound: {policy}" if policy in BOUNDS else policy


def _style(policy: str) -> dict[str, Any]:
    if policy not in COLOURS:
        return {"color": "0.82", "linewidth": 0.8}
    return {"color": COLOURS[policy], "linewidth": 2.6 if policy == list(COLOURS)[-1] else 1.6}


def _line(panel: Any, table: Table, trace: str, policy: str, value: Value, style: dict[str, Any]) -> Any:
    """The line that was drawn; None where there is nothing to draw."""
    points = [(load, found) for load in table.loads if (found := value(table, trace, policy, load)) is not None]
    if not points:
        return None
    loads, values = zip(*points, strict=True)
    return panel.plot(loads, values, marker="o", markersize=2.5, **style)[0]


def _write(figure: Figure, path: Path) -> Path:
    """As a PNG of 128 colours, which is a third of the bytes; coarser where it would be too large all the same."""
    for dpi in (DPI, 70, 50):
        raw = io.BytesIO()
        figure.savefig(raw, dpi=dpi)
        Image.open(raw).convert("RGB").quantize(128).save(path, optimize=True)
        if path.stat().st_size <= LARGEST_BYTES:
            break
    return path
