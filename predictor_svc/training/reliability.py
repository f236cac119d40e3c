"""The reliability plot: how often truths fell below each predicted quantile, against how often they should."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from predictor_svc.models.levels import LEVELS, Array
from predictor_svc.training.evaluate import ASKED_AT, LEAST_EXAMPLES
from predictor_svc.training.examples import Examples


def reached(laws: Array, examples: Examples) -> Array:
    """Share of truths at or below each quantile, [len(LEVELS)]; whole tokens count half where they touch it."""
    left = examples.left[:, None]
    quantiles = np.exp(laws)
    return np.asarray(((left <= quantiles).mean(axis=0) + (left < quantiles).mean(axis=0)) / 2, np.float32)


def plot(laws: Mapping[str, Array], examples: Examples, title: str, path: Path) -> None:
    """Writes a PNG with one panel for each predictor and one line for each number of tokens out.

    Raises:
        ImportError: matplotlib is not installed (extra `plots`).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  (an extra of its own)

    figure = Figure(figsize=(3.6 * len(laws), 3.8), layout="constrained")
    panels = figure.subplots(1, len(laws), squeeze=False)[0]
    for panel, (name, law) in zip(panels, laws.items(), strict=True):
        panel.plot((0, 1), (0, 1), color="0.7", linewidth=1)
        for out in ASKED_AT:
            rows = np.flatnonzero(examples.inputs.generated == out)
            if len(rows) >= LEAST_EXAMPLES:
                panel.plot(LEVELS, reached(law[rows], examples.take(rows)), marker=".", label=f"{out} tokens out")
        panel.set(title=name, xlabel="predicted level", ylabel="share of answers at or below", xlim=(0, 1), ylim=(0, 1))
        panel.legend(frameon=False, fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
