"""Knots and tail index from what is known of a length: samples, a log-normal law, other laws. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairlead.length_grid import MAX_TOKENS, Floats, Grid

DEFAULT_TAIL_INDEX = 3.0
DEFAULT_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)

_LEAST_STEP = 1 + 1e-5
_NORMAL = NormalDist()


class Knots(NamedTuple):
    """Levels, their quantiles in tokens, and the Pareto index of what lies beyond."""

    levels: tuple[float, ...]
    tokens: tuple[float, ...]
    tail_index: float


def drawn_apart(tokens: Sequence[float], generated_tokens: float) -> tuple[float, ...]:
    """Finite quantiles made to increase by two millionths at least, above `generated_tokens`, within bounds."""
    step = 1 + 2e-6
    last = generated_tokens
    apart: list[float] = []
    for token in tokens:
        last = max(token, last * step, 1e-3)
        apart.append(last)
    if apart[-1] > MAX_TOKENS:
        apart = [min(token, MAX_TOKENS * step ** (i - len(apart) + 1)) for i, token in enumerate(apart)]
    return tuple(apart)


def lognormal_knots(median: float, sigma: float, levels: Sequence[float]) -> Knots:
    """Of log L normal; the tail keeps the log-normal's own mean residual life at the last knot."""
    if not (sigma > 0 and math.isfinite(sigma) and 0 < median <= MAX_TOKENS):
        raise ValueError(f"median, sigma: {median}, {sigma} must be positive and finite")
    z = [_NORMAL.inv_cdf(level) for level in levels]
    tokens = tuple(min(max(median * math.exp(sigma * value), 1e-3), MAX_TOKENS) for value in z)
    mean_beyond = median * math.exp(sigma**2 / 2) * _NORMAL.cdf(sigma - z[-1]) / (1 - levels[-1])
    return Knots(tuple(levels), tokens, 1 + tokens[-1] / max(mean_beyond - tokens[-1], 1e-3))


def sample_knots(
    samples: ArrayLike,
    ended: ArrayLike | None,
    weights: ArrayLike | None,
    generated_tokens: float,
    levels: Sequence[float],
) -> Knots:
    """Of observed lengths, some of them only "at least"; arguments as `LengthDistribution.from_samples`."""
    lengths = np.maximum(np.asarray(samples, np.float64).ravel(), 1.0)
    done = np.ones(lengths.shape, np.bool_) if ended is None else np.asarray(ended, np.bool_).ravel()
    mass = np.ones_like(lengths) if weights is None else np.asarray(weights, np.float64).ravel()
    if not np.isfinite(lengths).all() or not np.isfinite(mass).all():
        raise ValueError("samples and weights must be finite")
    keep = (lengths > generated_tokens) & (mass > 0)
    if not keep.any():
        raise ValueError(f"no sample beyond {generated_tokens} tokens")
    points, cumulative = _kaplan_meier(np.minimum(lengths[keep], MAX_TOKENS), done[keep], mass[keep])
    # A quantile lies between the middles of the steps: what a step function can't say, a line between does.
    middles = (cumulative + np.concatenate(([0.0], cumulative[:-1]))) / 2
    logs = np.interp(np.asarray(levels), middles, np.log(points))
    tail_index = _hill(lengths[keep], done[keep], mass[keep])
    return Knots(tuple(levels), tuple(np.exp(logs).tolist()), tail_index)


def mixture_knots(
    grids: Sequence[Grid], weights: Sequence[float], levels: Sequence[float], start: float, end: float
) -> Knots:
    """Of the mixture of laws, each given L > `start`, cut at `end`; raises ValueError for weights that are none.

    Args:
        grids: the parts, n of them.
        weights: of the parts, [n].
        levels: wanted, increasing; those that the mixture reaches before `end` are given, 64 at most.
        start: tokens that are out.
        end: the latest cut of the parts.
    """
    share = np.asarray(weights, np.float64)
    if len(grids) != len(share) or not grids or not np.isfinite(share).all() or share.min() < 0:
        raise ValueError("weights: one non-negative finite weight for each part")
    if share.sum() <= 0:
        raise ValueError("weights: all zero")
    share = share / share.sum()
    logs = np.unique(np.log(np.concatenate([grid.points_array for grid in grids])))
    logs = np.unique((logs[:-1, None] + np.diff(logs)[:, None] * np.arange(4) / 4).ravel())
    logs = logs[(logs > math.log(max(start, 1e-3))) & (logs < math.log(end))]
    if not len(logs):
        logs = np.array([math.log((start + end) / 2)])
    survivals = np.array([grid.survivals(np.exp(logs), start) for grid in grids])
    # A jump of the mixture (a part cut early) is drawn as a line between its two sides.
    hazard = np.maximum.accumulate(-np.log(np.maximum(share @ survivals, 1e-12)))
    wanted = np.asarray(levels, np.float64)
    reached = wanted[-np.log1p(-wanted) <= hazard[-1]]
    kept = reached if len(reached) else wanted[:1]
    if len(kept) > 64:
        kept = kept[np.linspace(0, len(kept) - 1, 64).astype(int)]
    tokens = np.exp(np.interp(-np.log1p(-kept), hazard + np.arange(len(hazard)) * 1e-15, logs))
    last = float(tokens[-1])
    at_last = np.array([last])
    ends = np.array([grid.survivals(at_last, start)[0] for grid in grids]) * share
    indices = np.array([grid.index_at(last) for grid in grids])
    index = float(ends @ indices / ends.sum()) if ends.sum() > 0 else DEFAULT_TAIL_INDEX
    return Knots(tuple(kept.tolist()), tuple(tokens.tolist()), index)


def conditional_knots(grid: Grid, tokens: Sequence[float], a: float) -> Knots:
    """Of the law given L > `a`, the law being cut where `grid` ends: its knots at `tokens` beyond a, levels given a.

    A knot just above `a` and one just below the cut carry the slopes between. Levels are differences of logarithms: no
    S(a) divides, however small.
    """
    end = grid.points[-1]
    near = max(a * (1 + 1e-3), 1e-3)
    ahead = [near, *(t for t in tokens if near * _LEAST_STEP < t < end * (1 - 1e-5)), end * (1 - 1e-6)]
    given = grid.state(a)[0]
    levels: list[float] = []
    kept: list[float] = []
    for t in ahead:
        level = -math.expm1(grid.state(t)[0] - given) if t < end else 1.0
        if max(levels, default=1e-12) < level < 1 - 1e-9:
            levels.append(level)
            kept.append(t)
    if not kept:
        return Knots((0.5,), (max(a, 1e-3) * (1 + 1e-3),), DEFAULT_TAIL_INDEX)
    return Knots(tuple(levels), tuple(kept), grid.index[-1])


def _kaplan_meier(lengths: Floats, ended: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Distinct ends in increasing order and P(L <= end); where the last sample is censored, its rest ends there."""
    order = np.argsort(lengths, kind="stable")
    lengths, ended, weights = lengths[order], ended[order], weights[order]
    points, first = np.unique(lengths, return_index=True)
    at_risk = np.cumsum(weights[::-1])[::-1][first]
    ends = np.add.reduceat(np.where(ended, weights, 0.0), first)
    survival = np.cumprod(1 - np.minimum(ends / at_risk, 1.0))
    survival[-1] = 0.0
    keep = (ends > 0) | (np.arange(len(points)) == len(points) - 1)
    return points[keep], np.asarray(1 - survival[keep], np.float64)


def _hill(lengths: Floats, ended: NDArray[np.bool_], weights: Floats) -> float:
    """Hill's tail index over the upper tenth to fiftieth, shrunk towards the default where samples are few."""
    if len(lengths) < 20:
        return DEFAULT_TAIL_INDEX
    threshold = float(np.quantile(lengths, min(max(0.9, 1 - 40 / len(lengths)), 0.98)))
    over = lengths > threshold
    excess = float((weights[over] * np.log(lengths[over] / threshold)).sum())
    ends = float(weights[over & ended].sum())
    prior = 10.0
    return min(max((ends + prior) / (excess + prior / DEFAULT_TAIL_INDEX), 1.1), 12.0)
