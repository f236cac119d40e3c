"""Measures predictors and baselines on the same folds of one set of answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from bench.predict_baselines import BASELINES
from bench.predict_data import Source
from predictor_svc.models.levels import LEVELS, Array, central
from predictor_svc.training.evaluate import scores_by_generated
from predictor_svc.training.examples import Examples
from predictor_svc.training.folds import Split, fold_of
from predictor_svc.training.registry import FitSettings, fit_several

RESAMPLED = 200
_AVERAGED = (
    "kendall_tau", "spearman", "r2_log", "mae_tokens", "mae_log", "pinball",
    "coverage_50", "coverage_80", "coverage_90", "coverage_95",
)  # fmt: skip


@dataclass
class Measured:
    """What was predicted for answers that were held out.

    Attributes:
        fold: of each example, [n].
        laws: quantiles of log tokens left by predictor, [n, len(LEVELS)].
        points: log tokens of the whole answer by baseline, [n]; first questions only, else 0.
        ms: by predictor, milliseconds a prediction in batches, the encoder's time not counted.
        fit_s: of all predictors, seconds a fold.
    """

    fold: NDArray[np.int64]
    laws: dict[str, Array] = field(default_factory=dict)
    points: dict[str, Array] = field(default_factory=dict)
    ms: dict[str, float] = field(default_factory=dict)
    fit_s: float = 0.0


def measure(
    examples: Examples,
    names: Sequence[str],
    folds: int,
    split: Split,
    settings: FitSettings,
    told: Callable[[str], None],
) -> Measured:
    """Fits on all folds but one and predicts that one, for each."""
    fold = fold_of(examples, folds, split, settings.seed)
    measured = Measured(fold)
    size = (len(examples), len(LEVELS))
    measured.laws = {name: np.zeros(size, np.float32) for name in names}
    measured.points = {name: np.zeros(len(examples), np.float32) for name in BASELINES}
    for number in range(folds):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        train, test = examples.take(inside), examples.take(outside)
        started = time.perf_counter()
        fitted = fit_several(names, train, settings)
        measured.fit_s += (time.perf_counter() - started) / folds
        for name, model in fitted.items():
            started = time.perf_counter()
            measured.laws[name][outside] = np.concatenate(
                [model.quantiles(test.take(rows).inputs) for rows in np.array_split(np.arange(len(test)), 20)]
            )
            spent = (time.perf_counter() - started) * 1000 / len(test)
            measured.ms[name] = measured.ms.get(name, 0.0) + spent / folds
        opening = test.take(np.flatnonzero(test.first))
        first = outside[test.first]
        seen = train.take(np.flatnonzero(train.first))
        for name, baseline in BASELINES.items():
            measured.points[name][first] = baseline(seen, opening)
        told(f"  {split} fold {number + 1}/{folds}")
    return measured


def rows_of(source: Source, examples: Examples, measured: Measured, split: Split) -> list[dict[str, Any]]:
    """Score rows by predictor and tokens out: the mean over the folds, weighted by their answers."""
    folds = int(measured.fold.max()) + 1
    rows: list[dict[str, Any]] = []
    for name, laws in measured.laws.items():
        by_generated: dict[Any, list[dict[str, Any]]] = {}
        for number in range(folds):
            chosen = np.flatnonzero(measured.fold == number)
            for one in scores_by_generated(laws[chosen], examples.take(chosen)):
                by_generated.setdefault(one["generated"], []).append(one)
        for generated, scored in by_generated.items():
            n = np.array([one["n"] for one in scored], np.float64)
            means = {key: round(float(np.average([one[key] for one in scored], weights=n)), 4) for key in _AVERAGED}
            ms = round(measured.ms[name], 4)
            head = {"dataset": source.dataset, "model": source.model, "predictor": name, "folds": folds, "split": split}
            rows.append({**head, "generated": generated, "n": int(n.sum()), **means, "ms_per_prediction": ms})
    return rows


def compared(examples: Examples, measured: Measured, name: str, seed: int) -> dict[str, Any]:
    """A predictor's tau at the first question beside each baseline's, and the paired bootstrap of the difference.

    Answers are drawn anew within each fold, for both alike; the interval is that of the mean over folds of the
    difference in tau against the baseline with the best tau.
    """
    first = np.flatnonzero(examples.first)
    left, fold = examples.left[first], measured.fold[first]
    whole = np.log1p(left)
    ours = central(measured.laws[name][first])
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
