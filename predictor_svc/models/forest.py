"""A quantile forest: the law of tokens left in each leaf, averaged over the trees (JITServe; Magnus).

Every leaf keeps how its training answers spread over bins of log tokens left; the mean over the trees is the forest's
law. Several forests, each grown without a share of the prompts, stand side by side: what one says of the prompts it has
not seen calibrates the whole.

Meinshausen, "Quantile Regression Forests", 2006; here with binned answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from predictor_svc.head import LEVELS, HeadInputs
from predictor_svc.models.base import MAX_FILE_BYTES, Model, Tensors, below, prefixed
from predictor_svc.models.design import Design
from predictor_svc.models.levels import Array, increasing
from predictor_svc.models.location import Location
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.models.trees import Trees

WHOLE = 255
"""What the shares of a leaf add up to."""


@dataclass(frozen=True)
class ForestModel(Model):
    """Location and facts in, the forest's recalibrated law out.

    Attributes:
        location: where the prompt's length lies.
        design: how columns are made.
        forest: its leaves hold shares of `edges`' bins, in 255ths.
        edges: of the bins, in log tokens left, increasing, [bins + 1].
        recalibration: from prompts that a tree had not seen.
    """

    kind: ClassVar[str] = "forest"

    location: Location
    design: Design
    forest: Trees
    edges: Array
    recalibration: Recalibration

    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left, [n, len(LEVELS)]."""
        location = self.location.columns(inputs.prompt, inputs.facts)
        columns = self.design.matrix(inputs, location, self.design.locations(inputs, location))
        return self.recalibration.applied(bin_quantiles(self.forest.mean(columns), self.edges), inputs.generated)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All parts, each under its own prefix."""
        return {
            **prefixed("location", self.location.tensors()),
            **prefixed("design", self.design.tensors()),
            **prefixed("forest", packed(self.forest)),
            **prefixed("recalibration", self.recalibration.tensors()),
            "edges": self.edges,
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> ForestModel:
        """From `tensors`; raises ValueError or KeyError for other names or shapes."""
        design = Design.from_tensors(below("design", tensors))
        edges = checked_edges(tensors["edges"])
        forest = unpacked(below("forest", tensors), design.columns, len(edges) - 1)
        return cls(
            Location.from_tensors(below("location", tensors)),
            design,
            forest,
            edges,
            Recalibration.from_tensors(below("recalibration", tensors)),
        )


def bin_quantiles(shares: Array, edges: Array) -> Array:
    """Quantiles at LEVELS of laws given as shares of bins [n, bins], uniform within each; [n, len(LEVELS)]."""
    reached = np.cumsum(shares, axis=1)
    reached /= np.maximum(reached[:, -1:], 1e-9)
    reached = np.concatenate((np.zeros((len(reached), 1), np.float32), reached), axis=1)
    levels = np.asarray(LEVELS, np.float32)
    piece = (reached[:, None, :] < levels[None, :, None]).sum(axis=2) - 1
    piece = np.clip(piece, 0, shares.shape[1] - 1)
    start = np.take_along_axis(reached, piece, axis=1)
    end = np.take_along_axis(reached, piece + 1, axis=1)
    share = np.clip((levels - start) / np.maximum(end - start, 1e-9), 0, 1)
    return increasing(edges[piece] + share * (edges[piece + 1] - edges[piece]))


def checked_edges(value: NDArray[Any], bins: int | None = None) -> Array:
    """Edges of as many bins, or of 1 to 255; raises ValueError where they are others or do not increase."""
    edges = np.asarray(value, np.float32)
    counted = edges.ndim == 1 and (2 <= len(edges) <= 256 if bins is None else len(edges) == bins + 1)
    if not counted or (np.diff(edges) <= 0).any():
        raise ValueError("edges: not one more than the bins, or not increasing")
    return edges


def packed(forest: Trees) -> dict[str, NDArray[Any]]:
    """A forest as named arrays; of each leaf only the bins that are not empty, which are few."""
    leaf, bins = np.nonzero(forest.values)
    return {
        **{name: value for name, value in forest.tensors().items() if name != "values"},
        "filled": np.bincount(leaf, minlength=len(forest.values)).astype(np.uint8),
        "bins": bins.astype(np.uint8),
        "shares": forest.values[leaf, bins],
    }


def unpacked(tensors: Tensors, columns: int, bins: int) -> Trees:
    """What `packed` gave; raises ValueError where it does not fit together."""
    filled, places, shares = (np.asarray(tensors[name]) for name in ("filled", "bins", "shares"))
    if any(array.ndim != 1 or array.dtype != np.uint8 for array in (filled, places, shares)):
        raise ValueError("forest: leaves that are no bytes")
    if len(places) != filled.sum(dtype=np.int64) or len(shares) != len(places) or (places >= bins).any():
        raise ValueError("forest: leaves and bins do not fit together")
    if len(filled) * bins > MAX_FILE_BYTES:
        raise ValueError(f"forest: {len(filled)} leaves are too many")
    values = np.zeros((len(filled), bins), np.uint8)
    values[np.repeat(np.arange(len(filled)), filled), places] = shares
    return Trees.from_tensors({**tensors, "values": values}, columns)
