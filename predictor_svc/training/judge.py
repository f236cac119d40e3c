"""How good predictors are on prompts that they have not seen: folds, scores, rows for tables and files."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.levels import LEVELS, Array
from predictor_svc.training.evaluate import scores_by_generated
from predictor_svc.training.examples import Examples
from predictor_svc.training.folds import Split, fold_of
from predictor_svc.training.registry import FitSettings, Fitted, fit_several

BATCHES = 20
"""Calls into which a fold's questions are dealt when their time is taken."""

_AVERAGED = (
    "kendall_tau", "spearman", "r2_log", "mae_tokens", "mae_log", "pinball",
    "coverage_50", "coverage_80", "coverage_90", "coverage_95",
)  # fmt: skip


@dataclass
class Judged:
    """What was predicted for answers that were held out.

    Attributes:
        fold: of each example, [n].
        laws: quantiles of log tokens left by predictor, [n, len(LEVELS)].
        ms: by predictor, milliseconds a prediction in batches, the encoder's time not counted.
        fit_s: seconds that fitting all of them took, a fold.
    """

    fold: NDArray[np.int64]
    laws: dict[str, Array] = field(default_factory=dict[str, Array])
    ms: dict[str, float] = field(default_factory=dict[str, float])
    fit_s: float = 0.0


def cross_validated(
    examples: Examples,
    names: Sequence[str],
    folds: int,
    split: Split,
    settings: FitSettings,
    each: Callable[[int, Examples, Examples, NDArray[np.int64]], None] | None = None,
) -> Judged:
    """Fits on all folds but one and predicts that one, for each.

    Args:
        examples: recorded answers.
        names: predictors, as in `training.registry`.
        folds: how many.
        split: "random" over prompts, or "grouped" over clusters of similar ones.
        settings: of the fits.
        each: called after each fold with its number, what was trained on, what was held out, and the rows of that.
    """
    fold = fold_of(examples, folds, split, settings.seed)
    judged = Judged(fold, {name: np.zeros((len(examples), len(LEVELS)), np.float32) for name in names})
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        train, test = examples.take(inside), examples.take(outside)
        started = time.perf_counter()
        fitted = fit_several(names, train, settings)
        judged.fit_s += (time.perf_counter() - started) / folds
        for name, model in fitted.items():
            judged.laws[name][outside], ms = predicted(model, test)
            judged.ms[name] = judged.ms.get(name, 0.0) + ms / folds
        if each is not None:
            each(number, train, test, outside)
    return judged


def predicted(model: Fitted, test: Examples) -> tuple[Array, float]:
    """Quantiles of all questions, asked in batches, and the milliseconds that one took."""
    batches = [rows for rows in np.array_split(np.arange(len(test)), BATCHES) if len(rows)]
    inputs = [test.take(rows).inputs for rows in batches]
    started = time.perf_counter()
    laws = np.concatenate([model.quantiles(batch) for batch in inputs])
    return laws, (time.perf_counter() - started) * 1000 / len(test)


def fold_rows(examples: Examples, judged: Judged, dataset: str, split: str) -> list[dict[str, Any]]:
    """A row for each predictor, fold and number of tokens out (0, 50, 100, 200, and "all" of them)."""
    folds = int(judged.fold.max()) + 1
    rows: list[dict[str, Any]] = []
    for name, laws in judged.laws.items():
        head = {"dataset": dataset, "predictor": name, "folds": folds, "split": split}
        for number in range(folds):
            chosen = np.flatnonzero(judged.fold == number)
            for scored in scores_by_generated(laws[chosen], examples.take(chosen)):
                rows.append({**head, "fold": number, **scored, "ms_per_prediction": round(judged.ms[name], 4)})
    return rows


def mean_rows(by_fold: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over the folds, weighted by their answers, of rows that differ in nothing else."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in by_fold:
        groups.setdefault((row["dataset"], row["predictor"], row["split"], row["generated"]), []).append(row)
    return [_mean_row(rows) for rows in groups.values()]


def _mean_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    n = np.array([row["n"] for row in rows], np.float64)
    means = {key: round(float(np.average([row[key] for row in rows], weights=n)), 4) for key in _AVERAGED}
    first = rows[0]
    head = {key: first[key] for key in ("dataset", "predictor", "folds", "split", "generated")}
    return {**head, "n": int(n.sum()), **means, "ms_per_prediction": first["ms_per_prediction"]}
