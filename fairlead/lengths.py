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
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from fairlead.length_grid import MAX_TOKENS, Floats, Grid, expm1_ratios, make_grid
from fairlead.length_making import (
    DEFAULT_LEVELS,
    DEFAULT_TAIL_INDEX,
    conditional_knots,
    drawn_apart,
    lognormal_knots,
    mixture_knots,
    sample_knots,
)

__all__ = (
    "DEFAULT_LEVELS",
    "DEFAULT_TAIL_INDEX",
    "MAX_KNOTS",
    "MAX_TAIL_INDEX",
    "MAX_TOKENS",
    "Floats",
    "Grid",
    "LengthDistribution",
    "expm1_ratios",
)

MAX_KNOTS = 256
"""Knots that a distribution may have; more is refused."""

MAX_TAIL_INDEX = 20.0

_HIGHEST_LEVEL = 1 - 1e-9
_LEAST_RATIO = 1 + 1e-6


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
        index = min(max(tail_index, 0.5), MAX_TAIL_INDEX)
        return cls(tuple(levels), drawn_apart(tokens, generated_tokens), index, max_tokens, generated_tokens, source)

    @classmethod
    def lognormal(
        cls, median: float, sigma: float, *, levels: Sequence[float] = DEFAULT_LEVELS, source: str = ""
    ) -> LengthDistribution:
        """log L normal with median `median` tokens and deviation `sigma` in log tokens (sigma > 0).

        The tail keeps the log-normal's own mean residual life at the last knot.
        """
        return cls.from_quantiles(*lognormal_knots(median, sigma, levels), source=source)

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
        knots = sample_knots(samples, ended, weights, generated_tokens, levels)
        return cls.from_quantiles(*knots, generated_tokens=generated_tokens, max_tokens=max_tokens, source=source)

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
        if not parts:
            raise ValueError("parts: none; a mixture needs one at least")
        start = max(part.generated_tokens for part in parts)
        end = max(part.max_tokens for part in parts)
        levels = sorted({level for part in parts for level in part.levels})
        knots = mixture_knots([part.grid for part in parts], weights, levels, start, end)
        return cls.from_quantiles(*knots, generated_tokens=start, max_tokens=end, source=source)

    def truncated(self, max_tokens: float) -> LengthDistribution:
        """The same, cut at `max_tokens` if that is earlier: min(L, max_tokens)."""
        return self if max_tokens >= self.max_tokens else replace(self, max_tokens=float(max_tokens))

    def given(self, a: float) -> LengthDistribution:
        """The law of L given L > `a`, as a distribution of its own: what is left to say once `a` tokens are out.

        Knots that are passed go; the others keep their place and get their level given L > a. It agrees with this one
        at and beyond the first knot left; the tail keeps its index. At or beyond `max_tokens` one more token is left.
        """
        a = min(max(a, self.generated_tokens), MAX_TOKENS * 0.999)
        if a <= self.generated_tokens:
            return self
        knots = conditional_knots(self.grid, self.tokens, a)
        end = max(self.max_tokens, min(a + 1.0, MAX_TOKENS))
        return LengthDistribution.from_quantiles(*knots, generated_tokens=a, max_tokens=end, source=self.source)

    # -- asking it

    def survival(self, t: float, a: float = 0.0) -> float:
        """P(L > t | L > a), both in tokens from the answer's start; 1 for t <= a, 0 from `max_tokens` on."""
        a = max(a, self.generated_tokens)
        if t <= a:
            return 1.0
        if t >= self.max_tokens:
            return 0.0
        return math.exp(self.grid.state(t)[0] - self.grid.state(a)[0])

    def quantile(self, level: float, a: float = 0.0) -> float:
        """The t with P(L <= t | L > a) = `level`, in tokens from the answer's start; `level` in [0, 1]."""
        if not 0 <= level <= 1:
            raise ValueError(f"level: {level} is not in [0, 1]")
        a = max(a, self.generated_tokens)
        if a >= self.max_tokens:
            return a + 1.0
        grid = self.grid
        target = self.grid.state(a)[0] + (math.log1p(-level) if level < 1 else -math.inf)
        if target < grid.log_survival[-1]:
            return self.max_tokens
        i = bisect_right(grid.log_survival, -target, key=_negated) - 1
        t = grid.points[i] * math.exp(min((grid.log_survival[i] - target) / grid.index[i], 40.0))
        return max(min(t, self.max_tokens), a)

    def mean_remaining(self, a: float = 0.0) -> float:
        """E[L - a | L > a] in tokens, the mean residual life; 1 at least, as a token is whole."""
        a = max(a, self.generated_tokens)
        log_survival, rest = self.grid.state(a)
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
        log_survival, rest = self.grid.state(a)
        scale = ms_per_token * math.exp(-log_survival)
        log_next, rest_next = self.grid.state(a + 1)
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
        return make_grid(self.levels, self.tokens, self.tail_index, self.max_tokens, self.generated_tokens)


def _negated(value: float) -> float:
    return -value
