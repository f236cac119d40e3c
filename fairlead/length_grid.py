"""The pieces of a length distribution: knots joined by straight lines of log S against log t, with their integrals.

Beyond the last knot the line goes on with the tail index; below the first with half the slope of level against log
tokens there. NumPy only.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

MAX_TOKENS = 1_048_576.0
"""The longest answer that is reckoned with where no `max_tokens` is stated."""

_REFINEMENT = 48


@dataclass(frozen=True)
class Grid:
    """Knots and points between them, ready to be asked. The last point is `max_tokens`, with S from the left.

    Attributes:
        points: t_i in tokens, increasing.
        log_survival: log S(t_i).
        index: Pareto index of the piece that begins at t_i.
        rest: integral of S from t_i to `max_tokens`.
        points_array, log_survival_array, index_array, rest_array: the same as arrays.
    """

    points: list[float]
    log_survival: list[float]
    index: list[float]
    rest: list[float]
    points_array: Floats
    log_survival_array: Floats
    index_array: Floats
    rest_array: Floats

    def state(self, t: float) -> tuple[float, float]:
        """(log S(t), integral of S from t to `max_tokens`); just before the cut for t beyond it."""
        if t <= self.points[0]:
            return 0.0, self.rest[0] + self.points[0] - t
        i = bisect_right(self.points, t) - 1
        if i + 1 >= len(self.points):
            return self.log_survival[-1], 0.0
        index = self.index[i]
        log_survival = self.log_survival[i] - index * math.log(t / self.points[i])
        left = math.log(self.points[i + 1] / t)
        return log_survival, math.exp(log_survival) * t * left * _expm1_ratio((1 - index) * left) + self.rest[i + 1]

    def survivals(self, t: Floats, a: float) -> Floats:
        """P(L > t | L > a) of an array of lengths t."""
        logs = np.log(np.maximum(t, self.points[0]))
        exact = np.interp(logs, np.log(self.points_array), self.log_survival_array) - self.state(a)[0]
        return np.where(t <= a, 1.0, np.where(t >= self.points[-1], 0.0, np.exp(np.minimum(exact, 0.0))))

    def index_at(self, t: float) -> float:
        """Local Pareto index at t."""
        return self.index[max(min(bisect_right(self.points, t), len(self.points) - 1) - 1, 0)]


def _expm1_ratio(z: float) -> float:
    """(e^z - 1) / z, 1 at z = 0."""
    return math.expm1(z) / z if abs(z) > 1e-12 else 1.0


def expm1_ratios(z: Floats) -> Floats:
    """(e^z - 1) / z elementwise, 1 at z = 0."""
    small = np.abs(z) <= 1e-12
    return np.where(small, 1.0, np.expm1(z) / np.where(small, 1.0, z))


def make_grid(
    levels: Sequence[float], tokens: Sequence[float], tail_index: float, max_tokens: float, generated_tokens: float
) -> Grid:
    """The pieces of the law with these knots; arguments as the fields of `fairlead.lengths.LengthDistribution`."""
    width = 2 * levels[0] / (levels[1] - levels[0]) * math.log(tokens[1] / tokens[0]) if len(levels) > 1 else 0.1
    low = max(tokens[0] * math.exp(-min(max(width, 1e-4), math.log(4))), generated_tokens)
    end = max(MAX_TOKENS, tokens[-1]) * 2
    knots = np.log([max(low, tokens[0] * 1e-6), *tokens, end])
    survival = np.empty_like(knots)
    survival[0] = 0.0
    survival[1:-1] = np.log1p(-np.asarray(levels))
    survival[-1] = survival[-2] - tail_index * (knots[-1] - knots[-2])
    last = math.log(max_tokens)
    if last <= knots[0] + 1e-9:
        points = np.array([last - 1e-6, last])
    else:
        extra = np.linspace(knots[0], last, _REFINEMENT)
        after = np.searchsorted(knots, extra)
        gaps = np.minimum(
            np.abs(extra - knots[np.minimum(after, len(knots) - 1)]),
            np.abs(extra - knots[np.maximum(after - 1, 0)]),
        )
        kept = knots[knots < last - 1e-7]
        points = np.sort(np.concatenate((kept, extra[1:-1][gaps[1:-1] > 1e-7], [last])))
    log_survival = np.interp(points, knots, survival)
    steps = np.diff(points)
    index = np.maximum(-np.diff(log_survival) / steps, 1e-12)
    areas = np.exp(log_survival[:-1] + points[:-1]) * steps * expm1_ratios((1 - index) * steps)
    rest = np.concatenate((np.cumsum(areas[::-1])[::-1], [0.0]))
    index = np.append(index, tail_index)
    lengths = np.exp(points)
    lengths[-1] = max_tokens
    return Grid(
        lengths.tolist(), log_survival.tolist(), index.tolist(), rest.tolist(), lengths, log_survival, index, rest
    )
