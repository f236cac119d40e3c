"""Grows forests and boosted trees with scikit-learn and turns them into plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor

from predictor_svc.models.forest import WHOLE
from predictor_svc.models.levels import Array
from predictor_svc.models.trees import Trees

BINS = 48
LEAST_IN_LEAF = 8


def bin_edges(target: Array) -> Array:
    """Edges of `BINS` bins with about equally many answers each, a little beyond the extremes; [bins + 1]."""
    inner = np.quantile(target, np.linspace(0, 1, BINS + 1)[1:-1])
    low, high = float(target.min()) - 0.05, float(target.max()) + 0.05
    edges = np.concatenate(([low], inner, [high]))
    return np.maximum.accumulate(edges + np.arange(len(edges)) * 1e-5).astype(np.float32)


def grow_forest(columns: Array, target: Array, edges: Array, trees: int, seed: int) -> Trees:
    """Extremely randomised trees on log tokens left; leaves hold shares of the bins in 255ths (Geurts et al., 2006)."""
    fitted = ExtraTreesRegressor(
        trees, min_samples_leaf=LEAST_IN_LEAF, max_features=0.4, max_depth=24, random_state=seed, n_jobs=1
    ).fit(columns, target)
    bins = np.clip(np.searchsorted(edges, target, side="right") - 1, 0, len(edges) - 2)
    grown: list[Trees] = []
    for one, leaves in zip(fitted.estimators_, np.asarray(fitted.apply(columns)).T, strict=True):
        tree: Any = one.tree_
        leaf = tree.children_left < 0
        row = np.cumsum(leaf) - 1
        shares = np.zeros((int(leaf.sum()), len(edges) - 1), np.float32)
        np.add.at(shares, (row[leaves], bins), 1.0)
        shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
        grown.append(
            _tree(
                np.where(leaf, -1, tree.feature),
                tree.threshold,
                np.where(leaf, row, tree.children_left),
                tree.children_right,
                np.round(shares * WHOLE).astype(np.uint8),
            )
        )
    return joined(grown)


def boost(columns: Array, target: Array, rounds: int, seed: int) -> tuple[Trees, float]:
    """Gradient-boosted trees on log tokens left; the trees, whose leaves add up, and where they start."""
    fitted = HistGradientBoostingRegressor(
        learning_rate=0.06,
        max_iter=rounds,
        max_leaf_nodes=12,
        min_samples_leaf=20,
        l2_regularization=5.0,
        max_features=0.5,
        early_stopping=False,  # pyright: ignore[reportArgumentType]
        random_state=seed,
    ).fit(columns, target)
    grown: list[Trees] = []
    inner: Any = fitted
    for (predictor,) in inner._predictors:
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        row = np.cumsum(leaf) - 1
        grown.append(
            _tree(
                np.where(leaf, -1, nodes["feature_idx"].astype(np.int64)),
                nodes["num_threshold"],
                np.where(leaf, row, nodes["left"].astype(np.int64)),
                nodes["right"].astype(np.int64),
                nodes["value"][leaf][:, None].astype(np.float32),
            )
        )
    return joined(grown), float(np.ravel(inner._baseline_prediction)[0])


def joined(trees: Sequence[Trees]) -> Trees:
    """Several pools of trees in one."""
    parts: list[list[NDArray[Any]]] = [[], [], [], [], [], []]
    nodes = leaves = 0
    for one in trees:
        leaf = one.feature < 0
        shift = np.where(leaf, leaves, nodes)
        arrays = (one.roots + nodes, one.feature, one.threshold, one.left + shift, one.right + nodes, one.values)
        for part, array in zip(parts, arrays, strict=True):
            part.append(array)
        nodes += len(leaf)
        leaves += len(one.values)
    roots, feature, threshold, left, right, values = (np.concatenate(part) for part in parts)
    return Trees(
        roots.astype(np.int32),
        feature.astype(np.int16),
        threshold.astype(np.float32),
        left.astype(np.int32),
        right.astype(np.int32),
        values,
        max(one.depth for one in trees),
    )


def _tree(
    feature: NDArray[Any], threshold: NDArray[Any], left: NDArray[Any], right: NDArray[Any], values: NDArray[Any]
) -> Trees:
    tensors = {
        "roots": np.zeros(1, np.int32),
        "feature": feature.astype(np.int16),
        # A threshold rounded up would send right what went left in training.
        "threshold": np.where(np.isfinite(threshold), threshold, 0).astype(np.float32),
        "left": left.astype(np.int32),
        "right": np.where(feature < 0, 0, right).astype(np.int32),
        "values": values,
    }
    return Trees.from_tensors(tensors, int(np.iinfo(np.int16).max))
