"""Many decision trees asked at once, as plain arrays: for forests with laws in their leaves and for boosting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.base import Tensors
from predictor_svc.models.levels import Array

MAX_DEPTH = 64


@dataclass(frozen=True)
class Trees:
    """Binary trees in one pool of nodes; a node goes left where feature <= threshold.

    Attributes:
        roots: first node of each tree, int32 [trees].
        feature: column asked, int16 [nodes]; -1 in a leaf.
        threshold: float32 [nodes].
        left, right: next nodes, int32 [nodes]; a leaf's `left` is its row in `values`.
        values: what a leaf says, [leaves, width].
        depth: steps from a root to the deepest leaf.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: Array
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    values: NDArray[Any]
    depth: int

    def leaves(self, features: Array) -> NDArray[np.int32]:
        """The leaf's row in `values` for each question and tree; features [n, columns], result [n, trees]."""
        node = np.broadcast_to(self.roots, (len(features), len(self.roots))).copy()
        rows = np.arange(len(features))[:, None]
        for _ in range(self.depth):
            asked = self.feature[node]
            inside = asked >= 0
            if not inside.any():
                break
            goes_left = features[rows, np.maximum(asked, 0)] <= self.threshold[node]
            node = np.where(inside, np.where(goes_left, self.left[node], self.right[node]), node)
        return self.left[node]

    def mean(self, features: Array) -> Array:
        """Mean over the trees of what their leaves say; [n, width]."""
        leaves = self.leaves(features)
        total = np.zeros((len(features), self.values.shape[1]), np.float32)
        for tree in range(leaves.shape[1]):
            total += self.values[leaves[:, tree]]
        return total / np.float32(max(leaves.shape[1], 1))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As named arrays."""
        return {
            "roots": self.roots,
            "feature": self.feature,
            "threshold": self.threshold,
            "left": self.left,
            "right": self.right,
            "values": self.values,
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors, columns: int) -> Trees:
        """From `tensors`; raises ValueError where a node leads nowhere, in a circle, or asks an unknown column."""
        roots, feature = np.asarray(tensors["roots"], np.int32), np.asarray(tensors["feature"], np.int16)
        threshold = np.asarray(tensors["threshold"], np.float32)
        left, right = np.asarray(tensors["left"], np.int32), np.asarray(tensors["right"], np.int32)
        values = np.asarray(tensors["values"])
        nodes = len(feature)
        if any(array.shape != (nodes,) for array in (threshold, left, right)) or values.ndim != 2 or roots.ndim != 1:
            raise ValueError("trees: arrays of different sizes")
        leaf = feature < 0
        here = np.arange(nodes)
        # Children come after their parents, so no walk can go in a circle.
        sound = bool((left[~leaf] > here[~leaf]).all() and (right[~leaf] > here[~leaf]).all())
        sound = sound and bool((left[~leaf] < nodes).all() and (right[~leaf] < nodes).all())
        sound = sound and bool((left[leaf] >= 0).all() and (left[leaf] < len(values)).all())
        sound = sound and bool((roots >= 0).all() and (roots < nodes).all() and (feature < columns).all())
        if not sound:
            raise ValueError("trees: a node leads nowhere or asks a column that is not there")
        return cls(roots, feature, threshold, left, right, values, _depth(roots, leaf, left, right))


def _depth(roots: NDArray[np.int32], leaf: NDArray[np.bool_], left: NDArray[np.int32], right: NDArray[np.int32]) -> int:
    level, depth = roots, 0
    while depth < MAX_DEPTH:
        inner = level[~leaf[level]]
        if not len(inner):
            return depth
        level = np.unique(np.concatenate((left[inner], right[inner])))
        depth += 1
    raise ValueError(f"trees: deeper than {MAX_DEPTH}")
