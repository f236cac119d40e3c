"""The default: a blend of locations with the spread of a quantile forest, recalibrated.

Five locations of log tokens left are blended by non-negative weights, fitted on prompts unseen by each: ridge and
kernel regression (from the prompt alone), a line through the text so far, boosted trees and the forest's mean. The
forest's law is moved there, and where unseen truths fell in such laws recalibrates every level. First questions and
later ones have weights of their own, since the prompt alone says less and less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from predictor_svc.head import HeadInputs
from predictor_svc.models.base import Model, Tensors, below, prefixed
from predictor_svc.models.design import Design
from predictor_svc.models.forest import bin_quantiles, checked_edges, packed, unpacked
from predictor_svc.models.levels import Array, central
from predictor_svc.models.location import Location
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.models.trees import Trees

BLENDED = 5
"""Locations that are blended: ridge, kernel, the later line, boosted trees, forest."""


@dataclass(frozen=True)
class EnsembleModel(Model):
    """Everything that is read, blended.

    Attributes:
        location: where the prompt's length lies.
        design: how columns are made.
        forest: its leaves hold shares of `edges`' bins, in 255ths.
        edges: of the bins, in log tokens left, increasing, [bins + 1].
        boosted: trees whose leaves add up to the location of log tokens left, `start` included in each round's share.
        rounds: trees of one boosting run; several runs stand side by side and are averaged.
        start: where boosting began.
        blend: weights of the locations and a constant, [2, BLENDED + 1]: at the first question, and later.
        recalibration: from prompts that no part had seen.
    """

    kind: ClassVar[str] = "ensemble"

    location: Location
    design: Design
    forest: Trees
    edges: Array
    boosted: Trees
    rounds: int
    start: float
    blend: Array
    recalibration: Recalibration

    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left, [n, len(LEVELS)]."""
        location = self.location.columns(inputs.prompt, inputs.facts)
        locations = self.design.locations(inputs, location)
        columns = self.design.matrix(inputs, location, locations)
        spread = bin_quantiles(self.forest.mean(columns), self.edges)
        boosted = self.start + self.boosted.mean(columns)[:, 0] * np.float32(self.rounds)
        moved = blended(locations, boosted, spread, inputs.generated, self.blend)
        return self.recalibration.applied(moved, inputs.generated)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All parts, each under its own prefix."""
        return {
            **prefixed("location", self.location.tensors()),
            **prefixed("design", self.design.tensors()),
            **prefixed("forest", packed(self.forest)),
            **prefixed("boosted", self.boosted.tensors()),
            **prefixed("recalibration", self.recalibration.tensors()),
            "edges": self.edges,
            "blend": self.blend,
            "boosting": np.array([self.start, self.rounds], np.float32),
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> EnsembleModel:
        """From `tensors`; raises ValueError or KeyError for other names or shapes."""
        design = Design.from_tensors(below("design", tensors))
        edges = checked_edges(tensors["edges"])
        forest = unpacked(below("forest", tensors), design.columns, len(edges) - 1)
        start, rounds = np.asarray(tensors["boosting"], np.float32).tolist()
        blend = np.asarray(tensors["blend"], np.float32)
        if blend.shape != (2, BLENDED + 1):
            raise ValueError(f"blend has shape {blend.shape}")
        return cls(
            Location.from_tensors(below("location", tensors)),
            design,
            forest,
            edges,
            Trees.from_tensors(below("boosted", tensors), design.columns),
            int(rounds),
            start,
            blend,
            Recalibration.from_tensors(below("recalibration", tensors)),
        )


def blended(locations: Array, boosted: Array, spread: Array, generated: Array, blend: Array) -> Array:
    """The law `spread` moved to where the weighted locations lie."""
    weights = blend[(generated > 0).astype(np.intp)]
    centre = (blend_columns(locations, boosted, spread) * weights).sum(axis=1)
    return np.asarray(spread + (centre - central(spread))[:, None], np.float32)


def blend_columns(locations: Array, boosted: Array, spread: Array) -> Array:
    """What `blend` weighs: the three locations of log tokens left, boosted trees, the forest's mean, and 1."""
    return np.column_stack((locations, boosted, central(spread), np.ones(len(boosted)))).astype(np.float32)
