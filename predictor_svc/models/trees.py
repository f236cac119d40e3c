"""Many decision trees asked at once, as plain arrays: for forests with laws in their leaves and for boosting."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.base import Tensors
from predictor_svc.models.levels import Array

MAX_DEPTH = 64
ROWS_AT_ONCE = 64
"""Questions whose leaves are gathered in one array: a few hundred kilobytes."""


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
        asked, children = self._walk
        node = np.broadcast_to(self.roots.astype(np.intp), (len(features), len(self.roots)))
        values = np.ascontiguousarray(features).ravel()
        row = (np.arange(len(features)) * features.shape[1])[:, None]
        for _ in range(self.depth):
            right = values.take(row + asked.take(node)) > self.threshold.take(node)
            node = children.take(2 * node + right)
        return self.left[node]

    @cached_property
    def _walk(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Column asked at each node, and where it goes, left and right in turn; a leaf goes to itself."""
        leaf, here = self.feature < 0, np.arange(len(self.feature))
        sides = np.where(leaf, here, self.left), np.where(leaf, here, self.right)
        return np.where(leaf, 0, self.feature).astype(np.intp), np.stack(sides, axis=1).ravel().astype(np.intp)

    def mean(self, features: Array) -> Array:
        """Mean over the trees of what their leaves say; [n, width]."""
        leaves = self.leaves(features)
        total = np.empty((len(features), self.values.shape[1]), np.float32)
        for start in range(0, len(features), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            total[rows] = self.values[leaves[rows]].sum(axis=1, dtype=np.float32)
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
