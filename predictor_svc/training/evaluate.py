"""How good a head is on prompts that it has not seen."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from predictor_svc.head import LEVELS, MIDDLE, Head
from predictor_svc.models.levels import at_z
from predictor_svc.training.examples import Array, Examples

ASKED_AT = (0, 50, 100, 200)
LEAST_EXAMPLES = 20
_INTERVALS = {"coverage_50": 0.5, "coverage_80": 0.8, "coverage_90": 0.9, "coverage_95": 0.95}


def evaluate(head: Head, examples: Examples) -> list[dict[str, Any]]:
    """Scores of a head, at 0, 50, 100, 200 tokens out and, as `generated` "all", pooled; see `scores`."""
    return scores_by_generated(head.quantiles(examples.inputs), examples)


def scores_by_generated(quantiles: Array, examples: Examples) -> list[dict[str, Any]]:
    """Rows of scores for each number of tokens out that has at least 20 examples, and pooled."""
    rows: list[dict[str, Any]] = []
    for out in (*ASKED_AT, "all"):
        chosen = np.ones(len(examples), np.bool_) if out == "all" else examples.inputs.generated == out
        if chosen.sum() >= LEAST_EXAMPLES:
            scored = scores(quantiles[chosen], examples.left[chosen], examples.inputs.generated[chosen])
            rows.append({"generated": out, "n": int(chosen.sum()), **scored})
    return rows


def scores(quantiles: Array, left: Array, generated: Array) -> dict[str, float]:
    """Scores of predicted quantiles of log tokens left.

    Args:
        quantiles: [n, len(LEVELS)].
        left: true tokens left, [n].
        generated: tokens out, [n].

    Returns:
        kendall_tau and spearman of predicted and true tokens left; r2_log of log(1 + whole length); pinball, the mean
        over levels in log tokens left; mae_tokens and mae_log of the median; coverage_50/80/90/95 of the central
        intervals.
    """
    truth = np.log(left)
    central = quantiles @ _mean_weights()
    whole = np.log1p(generated + left)
    predicted = log_whole(quantiles, generated)
    wrong = truth[:, None] - quantiles
    levels = np.asarray(LEVELS, np.float32)
    spread = float(((whole - whole.mean()) ** 2).sum())
    result = {
        "kendall_tau": _finite(np.asarray(kendalltau(central, left))[0]),
        "spearman": _finite(np.asarray(spearmanr(central, left))[0]),
        "r2_log": 1 - float(((whole - predicted) ** 2).sum()) / spread if spread > 0 else float("nan"),
        "pinball": float(np.maximum(levels * wrong, (levels - 1) * wrong).mean()),
        "mae_tokens": float(np.abs(np.exp(quantiles[:, MIDDLE]) - left).mean()),
        "mae_log": float(np.abs(quantiles[:, MIDDLE] - truth).mean()),
    }
    for name, share in _INTERVALS.items():
        edge = NormalDist().inv_cdf((1 + share) / 2)
        low, high = at_z(quantiles, np.array([-edge, edge])).T
        result[name] = float(((truth >= low) & (truth <= high)).mean())
    return {name: round(value, 4) for name, value in result.items()}


def log_whole(quantiles: Array, generated: Array) -> Array:
    """The mean of log(1 + whole length) under the law, [n]; the log of a mean would be worse late in an answer."""
    return np.asarray(np.log1p(generated[:, None] + np.exp(quantiles)) @ _mean_weights(), np.float32)


def _finite(value: object) -> float:
    """0 where no order is to be had, as for predictions that are all the same."""
    number = float(value)  # type: ignore[arg-type]
    return number if np.isfinite(number) else 0.0


def _mean_weights() -> NDArray[np.float32]:
    """Weights with which quantiles at LEVELS add up to the mean."""
    middles = (np.array(LEVELS[1:]) + np.array(LEVELS[:-1])) / 2
    return np.diff(np.concatenate(([0.0], middles, [1.0]))).astype(np.float32)
