"""Makes intervals cover what they say: conformal recalibration of every level, per number of tokens out.

Where held-out truths fell in their predicted distributions says at which place of the normal scale each level really
lies; predictions then read their quantiles there. With n held-out truths the finite-sample rank (n + 1) p is used, so
that an exchangeable new answer lies below the p quantile with probability p.

Vovk et al., "Nonparametric predictive distributions based on conformal prediction", 2017; Romano, Patterson & Candes,
"Conformalized quantile regression", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.levels import LEVELS, Z_LEVELS, Array, Tensors, at_z, increasing, z_of

BUCKETS = (0.0, 1.0, 75.0, 150.0, 300.0)
"""Tokens out at which a bucket begins; each has levels of its own."""

LEAST = 200
"""Held-out truths that a bucket needs; with fewer it takes those of all."""


@dataclass(frozen=True)
class Recalibration:
    """Where each level really lies.

    Attributes:
        z: on the normal scale, [len(BUCKETS), len(LEVELS)], increasing along the second axis.
    """

    z: Array

    @classmethod
    def none(cls) -> Recalibration:
        """Changes nothing."""
        return cls(np.tile(Z_LEVELS, (len(BUCKETS), 1)))

    @classmethod
    def fitted(cls, quantiles: Array, truth: Array, generated: Array) -> Recalibration:
        """From held-out predictions [n, len(LEVELS)], log tokens left [n] and tokens out [n]."""
        fell = z_of(quantiles, truth)
        bucket = bucket_of(generated)
        z = np.empty((len(BUCKETS), len(LEVELS)), np.float32)
        for i in range(len(BUCKETS)):
            inside = fell[bucket == i]
            z[i] = _ranks(inside if len(inside) >= LEAST else fell)
        return cls(z)

    def applied(self, quantiles: Array, generated: Array) -> Array:
        """The recalibrated quantiles, [n, len(LEVELS)]."""
        return increasing(at_z(quantiles, self.z[bucket_of(generated)]))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """As named arrays."""
        return {"z": self.z}

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Recalibration:
        """From `tensors`; raises ValueError for other shapes."""
        z = np.asarray(tensors["z"], np.float32)
        if z.shape != (len(BUCKETS), len(LEVELS)) or (np.diff(z, axis=1) < 0).any():
            raise ValueError(f"recalibration.z: shape {z.shape} or not increasing")
        return cls(z)


def bucket_of(generated: Array) -> NDArray[np.intp]:
    """The bucket of each number of tokens out."""
    return np.maximum(np.searchsorted(np.asarray(BUCKETS, np.float32), generated, side="right") - 1, 0)


def _ranks(fell: Array) -> Array:
    """Empirical quantiles of where truths fell, at the ranks (n + 1) p."""
    if len(fell) < 10:
        return Z_LEVELS
    ordered = np.sort(fell)
    rank = np.asarray(LEVELS) * (len(ordered) + 1) - 1
    return np.interp(rank, np.arange(len(ordered)), ordered).astype(np.float32)
