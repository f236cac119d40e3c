"""TTFT and JCT of a live run and of its simulation, drawn over each other (needs the `plots` extra)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.fidelity.recorded import Seen

Sides = Mapping[str, tuple[Sequence[Seen], Sequence[Seen]]]
"""Policy to what came of its requests live and simulated."""
COLOURS = {"ls": "#d1495b", "be": "#00798c"}


def write_plot(sides: Sides, path: Path) -> Path:
    """One picture: a column a policy, TTFT above and JCT below; solid is live, dotted simulated."""
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25})
    figure = Figure(figsize=(3.6 * len(sides), 5.6), layout="constrained")
    axes: Any = np.atleast_2d(figure.subplots(2, len(sides), sharex="row", sharey=True, squeeze=False))
    for column, (policy, (live, simulated)) in enumerate(sides.items()):
        for row, label in enumerate(("TTFT", "JCT")):
            panel = axes[row][column]
            for side, style in ((live, "-"), (simulated, ":")):
                for name, colour in COLOURS.items():
                    chosen = [each for each in side if each.spec.latency_sensitive == (name == "ls")]
                    _cdf(panel, chosen, label, f"{name}, {'live' if style == '-' else 'simulated'}", colour, style)
            panel.set(xscale="log", xlabel=f"{label} at the scheduler, ms")
            if row == 0:
                panel.set_title(policy)
        axes[0][column].legend(frameon=False, fontsize=7)
    for row in (0, 1):
        axes[row][0].set_ylabel("share of requests")
    figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})
    return path


def _cdf(panel: Any, requests: Sequence[Seen], label: str, words: str, colour: str, style: str) -> None:
    ends = [each.first_ms if label == "TTFT" else each.last_ms for each in requests]
    times = np.sort([end - each.arrival_ms for end, each in zip(ends, requests, strict=True) if end is not None])
    if len(times):
        panel.step(
            times, np.arange(1, len(times) + 1) / len(times), where="post", label=words, color=colour, linestyle=style
        )
