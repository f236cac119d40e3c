"""How long an answer will be: one distribution, used for order, KV admission, placement and deadlines alike.

The output length L, in tokens counted from the answer's start, is a piecewise Pareto law: the quantile knots are
joined by straight lines of log S against log t, S(t) = P(L > t), and beyond the last knot the line goes on with the
stated tail index. Everything that is asked of it then has a closed form, so one question costs a few microseconds
(2 for the mean or a quantile, 7 for the Gittins cost, 40 once at the first question):

- in a piece of index k, S(t) = S_i (t / t_i)^-k, and the integral of S has the antiderivative t^(1-k) / (1-k);
- given that `a` tokens are out, S(t | a) = S(t) / S(a), formed as a difference of logarithms: no S(a) divides, however
  small. Levels increase strictly and the tail index is positive, so the hazard k / t never vanishes; at or beyond
  `max_tokens` one more token is said to be left.

The cut at `max_tokens` is a censoring, as the engine does it: L is replaced by min(L, max_tokens).
NumPy only; imports nothing of ours. Many at once: `fairlead.length_batch`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]

MAX_TOKENS = 1_048_576.0
"""The longest answer that is reckoned with where no `max_tokens` is stated."""

MAX_KNOTS = 256
"""Knots that a distribution may have; more is refused."""

MAX_TAIL_INDEX = 20.0
DEFAULT_TAIL_INDEX = 3.0
DEFAULT_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)

_HIGHEST_LEVEL = 1 - 1e-9
_LEAST_RATIO = 1 + 1e-6
_REFINEMENT = 48
_NORMAL = NormalDist()


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


def _expm1_ratio(z: float) -> float:
    """(e^z - 1) / z, 1 at z = 0."""
    return math.expm1(z) / z if abs(z) > 1e-12 else 1.0


def expm1_ratios(z: Floats) -> Floats:
    """(e^z - 1) / z elementwise, 1 at z = 0."""
    small = np.abs(z) <= 1e-12
    return np.where(small, 1.0, np.expm1(z) / np.where(small, 1.0, z))


@dataclass(frozen=True)
class LengthDistribution:
    """The length L of one answer in output tokens, conditional on L > `generated_tokens`.

    Attributes:
        levels: P(L <= tokens[i]), strictly increasing in (0, 1).
        tokens: quantiles, strictly increasing (by a millionth at least), above `generated_tokens`.
        tail_index: k of the Pareto tail, S(t) = (1 - levels[-1]) (t / tokens[-1])^-k; in (0, 20].
        max_tokens: where the answer is cut.
        generated_tokens: tokens that were out when it was made; a question about fewer is answered as for these.
        source: the predictor that made it.

    Below the first knot the law goes on with half the slope of level against log tokens there, to level 0 at a quarter
    of the first knot at least, and never below `generated_tokens`.

    Raises:
        ValueError: a field breaks its bound; the message names it.
    """

    levels: tuple[float, ...]
    tokens: tuple[float, ...]
    tail_index: float = DEFAULT_TAIL_INDEX
    max_tokens: float = MAX_TOKENS
    generated_tokens: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        levels, tokens = self.levels, self.tokens
        if not 1 <= len(levels) <= MAX_KNOTS or len(levels) != len(tokens):
            raise ValueError(f"levels and tokens: 1 to {MAX_KNOTS} of each, got {len(levels)} and {len(tokens)}")
        if not (0 < self.tail_index <= MAX_TAIL_INDEX):
            raise ValueError(f"tail_index: {self.tail_index} is not in (0, {MAX_TAIL_INDEX:g}]")
        if not (0 < self.max_tokens <= MAX_TOKENS):
            raise ValueError(f"max_tokens: {self.max_tokens} is not in (0, {MAX_TOKENS:g}]")
        if not (0 <= self.generated_tokens <= MAX_TOKENS):
            raise ValueError(f"generated_tokens: {self.generated_tokens} is not in [0, {MAX_TOKENS:g}]")
        level, token = 0.0, self.generated_tokens
        for next_level, next_token in zip(levels, tokens, strict=True):
            if not level < next_level <= _HIGHEST_LEVEL:
                raise ValueError(f"levels: {next_level} after {level}; they must increase strictly within (0, 1)")
            if not (token * _LEAST_RATIO < next_token <= MAX_TOKENS) or next_token < 1e-3:
                raise ValueError(
                    f"tokens: {next_token} after {token}; they must increase strictly above generated_tokens, "
                    f"within [0.001, {MAX_TOKENS:g}]"
                )
            level, token = next_level, next_token

    # -- making one

    @classmethod
    def from_point(cls, tokens: float, *, source: str = "") -> LengthDistribution:
        """A length that is known: all but 0.2 % within 0.1 % of `tokens`."""
        middle = min(max(tokens, 1.0), MAX_TOKENS / 2)
        return cls((0.001, 0.999), (middle * 0.999, middle * 1.001), MAX_TAIL_INDEX, source=source)

    @classmethod
    def from_quantiles(
        cls,
        levels: Sequence[float],
        tokens: Sequence[float],
        tail_index: float = DEFAULT_TAIL_INDEX,
        *,
        generated_tokens: float = 0.0,
        max_tokens: float = MAX_TOKENS,
        source: str = "",
    ) -> LengthDistribution:
        """From finite quantiles: ties are drawn apart by two millionths, all is brought within bounds."""
        step = 1 + 2e-6
        last = generated_tokens
        apart: list[float] = []
        for token in tokens:
            last = max(token, last * step, 1e-3)
            apart.append(last)
        if apart[-1] > MAX_TOKENS:
            apart = [min(token, MAX_TOKENS * step ** (i - len(apart) + 1)) for i, token in enumerate(apart)]
        index = min(max(tail_index, 0.5), MAX_TAIL_INDEX)
        return cls(tuple(levels), tuple(apart), index, max_tokens, generated_tokens, source)

    @classmethod
    def lognormal(
        cls, median: float, sigma: float, *, levels: Sequence[float] = DEFAULT_LEVELS, source: str = ""
    ) -> LengthDistribution:
        """log L normal with median `median` tokens and deviation `sigma` in log tokens (sigma > 0).

        The tail keeps the log-normal's own mean residual life at the last knot.
        """
        if not (sigma > 0 and math.isfinite(sigma) and 0 < median <= MAX_TOKENS):
            raise ValueError(f"median, sigma: {median}, {sigma} must be positive and finite")
        z = [_NORMAL.inv_cdf(level) for level in levels]
        tokens = [min(max(median * math.exp(sigma * value), 1e-3), MAX_TOKENS) for value in z]
        mean_beyond = median * math.exp(sigma**2 / 2) * _NORMAL.cdf(sigma - z[-1]) / (1 - levels[-1])
        return cls.from_quantiles(levels, tokens, 1 + tokens[-1] / max(mean_beyond - tokens[-1], 1e-3), source=source)

    @classmethod
    def from_samples(
        cls,
        samples: ArrayLike,
        *,
        ended: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        generated_tokens: float = 0.0,
        max_tokens: float = MAX_TOKENS,
        levels: Sequence[float] = DEFAULT_LEVELS,
        source: str = "",
    ) -> LengthDistribution:
        """The empirical law of observed lengths: Kaplan-Meier quantiles and Hill's tail index.

        Args:
            samples: lengths in tokens, shape [n], n >= 1.
            ended: False where a length says only "at least" (cut or cancelled answers); None: all ended.
            weights: non-negative weight of each sample; None: equal.
            generated_tokens: the law is conditional on L greater than this; samples not beyond it say nothing.
            max_tokens: the cut.
            levels: quantile levels of the knots.
            source: the predictor that makes it.

        Raises:
            ValueError: no sample with weight beyond `generated_tokens`, or one that is not finite.

        Kaplan & Meier, "Nonparametric estimation from incomplete observations", 1958; Hill, "A simple general approach
        to inference about the tail of a distribution", 1975.
        """
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
        return cls.from_quantiles(
            levels,
            np.exp(logs).tolist(),
            _hill(lengths[keep], done[keep], mass[keep]),
            generated_tokens=generated_tokens,
            max_tokens=max_tokens,
            source=source,
        )

    @classmethod
    def mixture(
        cls, parts: Sequence[LengthDistribution], weights: Sequence[float], *, source: str = ""
    ) -> LengthDistribution:
        """The law of "part i with probability weights[i]" (normalised), each given the most generated tokens of all.

        Knots are quantiles of the exact mixture at the union of the parts' levels, 64 at most; the tail index is the
        mixture's own at the last knot.

        Raises:
            ValueError: no part, or weights that are negative, not finite or all zero.
        """
        share = np.asarray(weights, np.float64)
        if len(parts) != len(share) or not len(share) or not np.isfinite(share).all() or share.min() < 0:
            raise ValueError("weights: one non-negative finite weight for each part")
        if share.sum() <= 0:
            raise ValueError("weights: all zero")
        share = share / share.sum()
        start = max(part.generated_tokens for part in parts)
        end = max(part.max_tokens for part in parts)
        logs = np.unique(np.log(np.concatenate([part.grid.points_array for part in parts])))
        logs = np.unique((logs[:-1, None] + np.diff(logs)[:, None] * np.arange(4) / 4).ravel())
        logs = logs[(logs > math.log(max(start, 1e-3))) & (logs < math.log(end))]
        if not len(logs):
            logs = np.array([math.log((start + end) / 2)])
        survivals = np.array([part._survivals(np.exp(logs), start) for part in parts])
        # A jump of the mixture (a part cut early) is drawn as a line between its two sides.
        hazard = np.maximum.accumulate(-np.log(np.maximum(share @ survivals, 1e-12)))
        levels = np.unique([level for part in parts for level in part.levels])
        reached = levels[-np.log1p(-levels) <= hazard[-1]]
        levels = reached if len(reached) else levels[:1]
        if len(levels) > 64:
            levels = levels[np.linspace(0, len(levels) - 1, 64).astype(int)]
        tokens = np.exp(np.interp(-np.log1p(-levels), hazard + np.arange(len(hazard)) * 1e-15, logs))
        last = float(tokens[-1])
        ends = np.array([part.survival(last, start) for part in parts]) * share
        indices = np.array([part._index_at(last) for part in parts])
        index = float(ends @ indices / ends.sum()) if ends.sum() > 0 else DEFAULT_TAIL_INDEX
        return cls.from_quantiles(
            levels.tolist(), tokens.tolist(), index, generated_tokens=start, max_tokens=end, source=source
        )

    def truncated(self, max_tokens: float) -> LengthDistribution:
        """The same, cut at `max_tokens` if that is earlier: min(L, max_tokens)."""
        return self if max_tokens >= self.max_tokens else replace(self, max_tokens=float(max_tokens))

    # -- asking it

    def survival(self, t: float, a: float = 0.0) -> float:
        """P(L > t | L > a), both in tokens from the answer's start; 1 for t <= a, 0 from `max_tokens` on."""
        a = max(a, self.generated_tokens)
        if t <= a:
            return 1.0
        if t >= self.max_tokens:
            return 0.0
        return math.exp(self._state(t)[0] - self._state(a)[0])

    def quantile(self, level: float, a: float = 0.0) -> float:
        """The t with P(L <= t | L > a) = `level`, in tokens from the answer's start; `level` in [0, 1]."""
        if not 0 <= level <= 1:
            raise ValueError(f"level: {level} is not in [0, 1]")
        a = max(a, self.generated_tokens)
        if a >= self.max_tokens:
            return a + 1.0
        grid = self.grid
        target = self._state(a)[0] + (math.log1p(-level) if level < 1 else -math.inf)
        if target < grid.log_survival[-1]:
            return self.max_tokens
        i = bisect_right(grid.log_survival, -target, key=_negated) - 1
        t = grid.points[i] * math.exp(min((grid.log_survival[i] - target) / grid.index[i], 40.0))
        return max(min(t, self.max_tokens), a)

    def mean_remaining(self, a: float = 0.0) -> float:
        """E[L - a | L > a] in tokens, the mean residual life; 1 at least, as a token is whole."""
        a = max(a, self.generated_tokens)
        log_survival, rest = self._state(a)
        return max(rest * math.exp(-log_survival), 1.0)

    def gittins_cost_ms(self, a: float, ms_per_token: float, setup_ms: float = 0.0) -> float:
        """1 / G in milliseconds of work: the cost by which to order, smallest first.

        G(a) = sup over delta of P(L - a <= delta | L > a) / E[setup_ms + ms_per_token * min(L - a, delta) | L > a],
        delta running over 1 token and a grid of about 60 lengths up to `max_tokens`.

        Args:
            a: tokens out already.
            ms_per_token: work of one token, > 0.
            setup_ms: work still to be done before the next token (prefill left), >= 0.

        Gittins, "Multi-armed Bandit Allocation Indices", 1989; Scully, Grosof & Harchol-Balter, "SOAP: One Clean
        Analysis of All Age-Based Scheduling Policies", 2018; Mitzenmacher & Shahout, "Queueing, Predictions, and LLMs",
        2025.
        """
        a = max(a, self.generated_tokens)
        least = setup_ms + ms_per_token
        if a + 1 >= self.max_tokens:
            return least
        grid = self.grid
        log_survival, rest = self._state(a)
        scale = ms_per_token * math.exp(-log_survival)
        log_next, rest_next = self._state(a + 1)
        chance = -math.expm1(log_next - log_survival)
        best = (setup_ms + scale * (rest - rest_next)) / chance if chance > 1e-12 else math.inf
        first = bisect_left(grid.points, a + 1)
        chances = -np.expm1(grid.log_survival_array[first:] - log_survival)
        chances[-1] = 1.0
        work = setup_ms + scale * (rest - grid.rest_array[first:])
        np.maximum(chances, 1e-12, out=chances)
        return max(min(best, float((work / chances).min())), least)

    # -- as data

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` gives the same distribution back."""
        return {
            "levels": list(self.levels),
            "tokens": list(self.tokens),
            "tail_index": self.tail_index,
            "max_tokens": self.max_tokens,
            "generated_tokens": self.generated_tokens,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LengthDistribution:
        """From `to_json`'s form; raises ValueError where it is not that."""
        try:
            return cls(
                tuple(float(level) for level in cast(Sequence[float], value["levels"])),
                tuple(float(token) for token in cast(Sequence[float], value["tokens"])),
                float(value["tail_index"]),
                float(value["max_tokens"]),
                float(value["generated_tokens"]),
                str(value["source"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a length distribution: {error!r}") from None

    # -- the pieces

    @cached_property
    def grid(self) -> Grid:
        """The law's pieces, made at the first question."""
        levels, tokens = self.levels, self.tokens
        width = 2 * levels[0] / (levels[1] - levels[0]) * math.log(tokens[1] / tokens[0]) if len(levels) > 1 else 0.1
        low = max(tokens[0] * math.exp(-min(max(width, 1e-4), math.log(4))), self.generated_tokens)
        end = max(MAX_TOKENS, tokens[-1]) * 2
        knots = np.log([max(low, tokens[0] * 1e-6), *tokens, end])
        survival = np.empty_like(knots)
        survival[0] = 0.0
        survival[1:-1] = np.log1p(-np.asarray(levels))
        survival[-1] = survival[-2] - self.tail_index * (knots[-1] - knots[-2])
        last = math.log(self.max_tokens)
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
        index = np.append(index, self.tail_index)
        lengths = np.exp(points)
        lengths[-1] = self.max_tokens
        return Grid(
            lengths.tolist(), log_survival.tolist(), index.tolist(), rest.tolist(), lengths, log_survival, index, rest
        )

    def _state(self, t: float) -> tuple[float, float]:
        """(log S(t), integral of S from t to `max_tokens`); just before the cut for t beyond it."""
        grid = self.grid
        if t <= grid.points[0]:
            return 0.0, grid.rest[0] + grid.points[0] - t
        i = bisect_right(grid.points, t) - 1
        if i + 1 >= len(grid.points):
            return grid.log_survival[-1], 0.0
        index = grid.index[i]
        log_survival = grid.log_survival[i] - index * math.log(t / grid.points[i])
        left = math.log(grid.points[i + 1] / t)
        return log_survival, math.exp(log_survival) * t * left * _expm1_ratio((1 - index) * left) + grid.rest[i + 1]

    def _survivals(self, t: Floats, a: float) -> Floats:
        """`survival` of an array of lengths."""
        grid = self.grid
        logs = np.log(np.maximum(t, grid.points[0]))
        exact = np.interp(logs, np.log(grid.points_array), grid.log_survival_array) - self._state(a)[0]
        return np.where(t <= a, 1.0, np.where(t >= self.max_tokens, 0.0, np.exp(np.minimum(exact, 0.0))))

    def _index_at(self, t: float) -> float:
        """Local Pareto index at t."""
        return self.grid.index[max(min(bisect_right(self.grid.points, t), len(self.grid.points) - 1) - 1, 0)]


def _negated(value: float) -> float:
    return -value


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
