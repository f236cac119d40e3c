"""Pictures of a load, or of several side by side (needs the `plots` extra)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fairlead.client import ServiceClass
from fairlead.load.run import Record

Runs = Mapping[str, Sequence[Record]]
"""Label (policy) to the records of its run."""

LS, BE = ServiceClass.LATENCY_SENSITIVE, ServiceClass.BEST_EFFORT
CLASS_COLOURS = {LS: "#d1495b", BE: "#00798c"}
RUN_COLOURS = ("#777777", "#edae49", "#30638e", "#66a182", "#b07aa1", "#9c755f")
MAX_TIMELINE = 400


def plot_all(
    runs: Runs, folder: Path, *, ttft_target_ms: float | None = None, timeline: Sequence[str] | None = None
) -> list[Path]:
    """Writes every picture that the records give, the finishing order of the runs in `timeline` (or all); the files."""
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25})
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        _write(plot_ttft(runs, ttft_target_ms), folder / "ls_ttft_cdf.png"),
        _write(plot_jct(runs), folder / "jct.png"),
        _write(
            plot_timeline({name: run for name, run in runs.items() if timeline is None or name in timeline}),
            folder / "finishing_order.png",
        ),
    ]
    return [path for path in written if path is not None]


def plot_ttft(runs: Runs, target_ms: float | None) -> Figure | None:
    """Share of LS requests with their first token within a time (log scale), one line a run."""
    values = {name: _values(records, LS, lambda each: each.ttft_ms) for name, records in runs.items()}
    if not any(values.values()):
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes: Any = figure.subplots()
    for (name, times), colour in zip(values.items(), RUN_COLOURS, strict=False):
        if times:
            ordered = np.sort(times)
            offered = sum(each.service_class == LS for each in runs[name])
            axes.step(ordered, np.arange(1, len(ordered) + 1) / offered, where="post", label=name, color=colour)
    if target_ms is not None:
        axes.axvline(target_ms, color="black", linewidth=1, linestyle=":", label=f"target {target_ms:.0f} ms")
    axes.set(xscale="log", xlabel="TTFT at the client, ms", ylabel="share of LS requests offered", ylim=(0, 1.01))
    axes.legend(frameon=False)
    return figure


def plot_jct(runs: Runs) -> Figure | None:
    """Completion times by class and run: boxes to the quartiles, whiskers to p5 and p95, a diamond at the mean."""
    classes = [
        each for each in (LS, BE) if any(record.service_class == each for run in runs.values() for record in run)
    ]
    if not classes:
        return None
    figure = Figure(figsize=(3.6 * len(classes), 4), layout="constrained")
    for axes, service_class in zip(np.atleast_1d(figure.subplots(1, len(classes))), classes, strict=True):
        times = [[ms / 1000 for ms in _values(run, service_class, lambda each: each.jct_ms)] for run in runs.values()]
        axes.boxplot(
            times, tick_labels=list(runs), whis=(5, 95), showfliers=False, showmeans=True,
            medianprops={"color": CLASS_COLOURS[service_class]},
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": "black", "markeredgecolor": "black"},
        )  # fmt: skip
        axes.tick_params(axis="x", rotation=20)
        axes.set(title=service_class.upper(), ylabel="JCT at the client, s", ylim=(0, None))
    return figure


def plot_timeline(runs: Runs) -> Figure | None:
    """Each request as a line from arrival (pale while it waits) over first token to its end, in order of finishing."""
    shown = {name: _thinned([each for each in run if each.jct_ms is not None]) for name, run in runs.items()}
    shown = {name: run for name, run in shown.items() if run}
    if not shown:
        return None
    figure = Figure(figsize=(5 * len(shown), 5), layout="constrained")
    for axes, (name, run) in zip(
        np.atleast_1d(figure.subplots(1, len(shown), sharex=True)), shown.items(), strict=True
    ):
        for service_class in (LS, BE):
            rows = [(place, each) for place, each in enumerate(run) if each.service_class == service_class]
            places, colour = [place for place, _ in rows], CLASS_COLOURS[service_class]
            due, first = [each.arrival_s for _, each in rows], [each.first_s or 0.0 for _, each in rows]
            axes.hlines(places, due, first, color=colour, alpha=0.2, linewidth=0.8)
            axes.hlines(places, first, [each.last_s or 0.0 for _, each in rows], color=colour, linewidth=0.8,
                        label=service_class.upper())  # fmt: skip
        axes.set(title=name, xlabel="time, s", ylabel="requests in order of finishing")
        axes.legend(frameon=False, loc="lower right")
    return figure


def _thinned(records: Sequence[Record]) -> list[Record]:
    ordered = sorted(records, key=lambda each: each.last_s or 0.0)
    return ordered[:: max(1, len(ordered) // MAX_TIMELINE)]


def _values(
    records: Sequence[Record], service_class: ServiceClass, figure_of: Callable[[Record], float | None]
) -> list[float]:
    values = (figure_of(each) for each in records if each.service_class == service_class)
    return [value for value in values if value is not None]


def _write(figure: Figure | None, path: Path) -> Path | None:
    if figure is None:
        return None
    figure.savefig(path, dpi=130)
    return path
