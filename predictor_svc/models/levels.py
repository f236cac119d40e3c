"""Arithmetic on quantiles of log tokens left: arrays [n, len(LEVELS)], increasing along the second axis.

A level is moved along the normal scale z = Phi^-1(level), on which quantiles of log lengths are nearly straight; beyond
the outermost knots the line through the last two goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Tensors: TypeAlias = Mapping[str, NDArray[Any]]

LEVELS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
MIDDLE = LEVELS.index(0.5)

Z_LEVELS: Array = np.array([NormalDist().inv_cdf(level) for level in LEVELS], np.float32)
"""The levels on the normal scale, [len(LEVELS)]."""

_LEAST_STEP = np.float32(1e-4)


def increasing(quantiles: NDArray[np.floating]) -> Array:
    """Sorted, and drawn apart by a ten-thousandth of a log token at least."""
    ordered = np.sort(quantiles, axis=1)
    steps = np.maximum(np.diff(ordered, axis=1), _LEAST_STEP)
    below = np.cumsum(steps[:, MIDDLE - 1 :: -1], axis=1)[:, ::-1]
    above = np.cumsum(steps[:, MIDDLE:], axis=1)
    middle = ordered[:, MIDDLE : MIDDLE + 1]
    return np.concatenate((middle - below, middle, middle + above), axis=1).astype(np.float32)


def central(quantiles: Array) -> Array:
    """The mean of log tokens left, [n]: each quantile stands for the levels nearest to it."""
    return np.asarray(quantiles @ _MEAN_WEIGHTS, np.float32)


def at_z(quantiles: Array, z: NDArray[np.floating]) -> Array:
    """Quantiles at other places of the normal scale; z [n, m] or [m], result [n, m]."""
    wanted = np.broadcast_to(np.asarray(z, np.float32), (len(quantiles), np.shape(z)[-1]))
    piece = np.clip(np.searchsorted(Z_LEVELS, wanted) - 1, 0, len(Z_LEVELS) - 2)
    start = np.take_along_axis(quantiles, piece, axis=1)
    end = np.take_along_axis(quantiles, piece + 1, axis=1)
    share = (wanted - Z_LEVELS[piece]) / (Z_LEVELS[piece + 1] - Z_LEVELS[piece])
    return np.asarray(start + share * (end - start), np.float32)


def z_at(quantiles: Array, places: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where places [m] lie in one distribution [len(LEVELS)], on the normal scale; lines go on beyond the knots."""
    piece = np.clip(np.searchsorted(quantiles, places) - 1, 0, len(Z_LEVELS) - 2)
    share = (places - quantiles[piece]) / np.maximum(quantiles[piece + 1] - quantiles[piece], 1e-6)
    return np.clip(Z_LEVELS[piece] + share * (Z_LEVELS[piece + 1] - Z_LEVELS[piece]), -7.0, 8.9)


def z_of(quantiles: Array, truth: Array) -> Array:
    """Where the truth fell in each distribution, on the normal scale, within ±6; truth [n], result [n]."""
    piece = np.clip((quantiles < truth[:, None]).sum(axis=1) - 1, 0, len(Z_LEVELS) - 2)
    rows = np.arange(len(quantiles))
    start, end = quantiles[rows, piece], quantiles[rows, piece + 1]
    slope = (Z_LEVELS[piece + 1] - Z_LEVELS[piece]) / np.maximum(end - start, 1e-6)
    return np.clip(Z_LEVELS[piece] + slope * (truth - start), -6, 6).astype(np.float32)


def _mean_weights() -> Array:
    middles = (np.array(LEVELS[1:]) + np.array(LEVELS[:-1])) / 2
    return np.diff(np.concatenate(([0.0], middles, [1.0]))).astype(np.float32)


_MEAN_WEIGHTS = _mean_weights()


def given_out(whole: Array, generated: Array) -> Array:
    """From quantiles of the log of the whole length to those of log tokens left, given that `generated` are out.

    Args:
        whole: quantiles of log tokens of the whole answer, [n, len(LEVELS)].
        generated: tokens out, [n].
    """
    later = generated > 0
    if not later.any():
        return whole
    passed = z_of(whole, np.log(np.maximum(generated, 1)).astype(np.float32))
    survived = np.where(later, normal_upper(passed), 1.0)
    z = normal_upper_inverse(survived[:, None] * (1 - np.asarray(LEVELS)))
    total = np.exp(np.clip(at_z(whole, z), -5, 16)).astype(np.float64)
    left = np.log(np.maximum(total - generated[:, None], 0.5))
    return np.where(later[:, None], increasing(left), whole).astype(np.float32)


_GRID_Z = np.linspace(-7, 9, 1601)
_GRID_UPPER = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in _GRID_Z.tolist()])


def normal_upper(z: NDArray[np.floating]) -> NDArray[np.float64]:
    """P(Z > z) of a standard normal."""
    return np.interp(z, _GRID_Z, _GRID_UPPER)


def normal_upper_inverse(chance: NDArray[np.floating]) -> NDArray[np.float64]:
    """The z with P(Z > z) = chance; logarithms keep the far tail straight."""
    return np.interp(-np.log(np.maximum(chance, 1e-17)), -np.log(_GRID_UPPER), _GRID_Z)
