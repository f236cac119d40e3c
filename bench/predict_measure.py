"""Measures predictors and baselines on the same folds of one set of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from bench.predict_baselines import BASELINES
from bench.predict_data import Source
from predictor_svc.models.levels import Array, central
from predictor_svc.training.evaluate import log_whole
from predictor_svc.training.examples import Examples
from predictor_svc.training.folds import Split
from predictor_svc.training.judge import Judged, cross_validated, fold_rows, mean_rows
from predictor_svc.training.registry import FitSettings

RESAMPLED = 200


@dataclass(frozen=True)
class Measured:
    """What was predicted for answers that were held out.

    Attributes:
        judged: by predictors.
        points: log tokens of the whole answer by baseline, [n]; first questions only, else 0.
    """

    judged: Judged
    points: dict[str, Array]


def measure(
    examples: Examples,
    names: Sequence[str],
    folds: int,
    split: Split,
    settings: FitSettings,
    told: Callable[[str], None],
) -> Measured:
    """Fits predictors and baselines on all folds but one and predicts that one, for each."""
    points = {name: np.zeros(len(examples), np.float32) for name in BASELINES}

    def each(number: int, train: Examples, test: Examples, outside: NDArray[np.int64]) -> None:
        opening, seen = test.take(np.flatnonzero(test.first)), train.take(np.flatnonzero(train.first))
        for name, baseline in BASELINES.items():
            points[name][outside[test.first]] = baseline(seen, opening)
        told(f"  {split} fold {number + 1}/{folds}")

    return Measured(cross_validated(examples, names, folds, split, settings, each), points)


def rows_of(source: Source, examples: Examples, measured: Measured, split: Split) -> list[dict[str, Any]]:
    """Score rows by predictor and tokens out: the mean over the folds, weighted by their answers."""
    rows = mean_rows(fold_rows(examples, measured.judged, source.dataset, split))
    return [{**row, "model": source.model} for row in rows]


def compared(examples: Examples, measured: Measured, name: str, seed: int) -> dict[str, Any]:
    """A predictor's tau at the first question beside each baseline's, and the paired bootstrap of the difference.

    Answers are drawn anew within each fold, for both alike; the interval is that of the mean over folds of the
    difference in tau against the baseline with the best tau.
    """
    first = np.flatnonzero(examples.first)
    left, fold = examples.left[first], measured.judged.fold[first]
    whole = np.log1p(left)
    ours = central(measured.judged.laws[name][first])
    points = {key: values[first] for key, values in measured.points.items()}
    taus = {key: _tau(values, left, fold) for key, values in points.items()}
    best = max(taus, key=lambda key: taus[key])
    random = np.random.default_rng(seed)
    differences: list[float] = []
    groups = [np.flatnonzero(fold == number) for number in np.unique(fold)]
    for _ in range(RESAMPLED):
        drawn = np.concatenate([random.choice(group, len(group)) for group in groups])
        differences.append(
            _tau(ours[drawn], left[drawn], fold[drawn]) - _tau(points[best][drawn], left[drawn], fold[drawn])
        )
    low, high = np.quantile(differences, (0.025, 0.975))
    return {
        "predictor": name,
        "kendall_tau": round(_tau(ours, left, fold), 4),
        "baselines": {
            key: {"kendall_tau": round(taus[key], 4), "r2_log": round(_r2(values, whole, fold), 4)}
            for key, values in points.items()
        },
        "best_baseline": best,
        "difference": round(_tau(ours, left, fold) - taus[best], 4),
        "difference_low": round(float(low), 4),
        "difference_high": round(float(high), 4),
    }


def r2_if_later_known(examples: Examples, measured: Measured, name: str) -> float:
    """R2 of log(1 + whole length), pooled over all questions, if every question but the first were answered exactly.

    The bound that the first questions alone set: what is wrong there stays wrong in the pool.
    """
    generated, left = examples.inputs.generated, examples.left
    laws = measured.judged.laws[name]
    whole = np.log1p(generated + left)
    wrong = np.where(generated == 0, whole - log_whole(laws, generated), 0.0)
    values = [
        1 - float((wrong[rows] ** 2).sum()) / float(((whole[rows] - whole[rows].mean()) ** 2).sum())
        for rows in (np.flatnonzero(measured.judged.fold == number) for number in np.unique(measured.judged.fold))
    ]
    return float(np.mean(values))


def _tau(predicted: Array, truth: Array, fold: NDArray[np.int64]) -> float:
    """Mean over folds; 0 where a fold has no order."""
    taus = [np.asarray(kendalltau(predicted[fold == one], truth[fold == one]))[0] for one in np.unique(fold)]
    return float(np.mean(np.nan_to_num(np.array(taus, np.float64))))


def _r2(predicted: Array, truth: Array, fold: NDArray[np.int64]) -> float:
    values: list[float] = []
    for one in np.unique(fold):
        true = truth[fold == one]
        wrong = float(((true - predicted[fold == one]) ** 2).sum())
        values.append(1 - wrong / max(float(((true - true.mean()) ** 2).sum()), 1e-9))
    return float(np.mean(values))
