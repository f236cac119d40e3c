"""Conformal correction of intervals from recent outcomes, with a watch for drift.

An outcome says where the truth fell in the law that the predictor gave, as a place z on the normal scale. The recent
places, weighted by age, say at which place each level really lies; the next laws read their quantiles there. A group
(the answers of one model and tenant) leans on the group above it until it has outcomes of its own.

Vovk et al., "Nonparametric predictive distributions based on conformal prediction", 2017; Barber, Candes, Ramdas &
Tibshirani, "Conformal prediction beyond exchangeability", 2023, section 3 (weights that favour the recent). Answers
that were cut count as "at least" (Kaplan & Meier, 1958).
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.levels import LEVELS, Z_LEVELS, Array, at_z, increasing

KEPT = 1024
HALF_LIFE = 300.0
"""Outcomes after which an outcome counts half."""

PRIOR_WEIGHT = 40.0
"""Outcomes that the group above stands for at first; it halves with every `PRIOR_HALVED` outcomes of its own."""

PRIOR_HALVED = 80

REBUILT_EVERY = 16
WATCHED = 100
"""Outcomes over which drift is looked for."""

LEAST_COVERED = 0.78
"""Of the watched 90 % intervals; a sound predictor falls below about once in ten thousand windows."""

MOST_SHIFT = 0.45
"""Mean place of the watched truths; four and a half standard errors for a sound predictor."""

KEPT_AFTER_DRIFT = 50
WEIGHT_BEFORE_DRIFT = 0.05
WIDENED = 0.3
WIDENED_FOR = 200
"""After drift intervals are wider by `WIDENED`, less and less over so many outcomes."""

LEAST_SHARE = 20
"""Outcomes up to which a tenant's count fully among those of all: one that sends more speaks no louder."""

Z_90 = 1.6449
_FARTHEST = 30.0
_NORMAL = NormalDist()
_LEVELS = np.asarray(LEVELS, np.float64)
_PRIOR_Z = np.linspace(-2.4, 2.4, 33)
_PRIOR_SHARE = np.exp(-(_PRIOR_Z**2) / 2) / np.exp(-(_PRIOR_Z**2) / 2).sum()


def place_of(quantiles: Array, truth: float) -> float:
    """Where log tokens `truth` fell in a law [len(LEVELS)], on the normal scale; lines go on beyond the knots."""
    piece = min(max(int((quantiles < truth).sum()) - 1, 0), len(Z_LEVELS) - 2)
    run = max(float(quantiles[piece + 1] - quantiles[piece]), 1e-6)
    z = float(Z_LEVELS[piece]) + float(Z_LEVELS[piece + 1] - Z_LEVELS[piece]) * (truth - float(quantiles[piece])) / run
    return min(max(z, -_FARTHEST), _FARTHEST)


class Group:
    """Recent places of one group, and what they say.

    Attributes:
        seen: outcomes so far.
        coverage: of the told 90 % intervals, the mean over about the last 500 outcomes; 0.9 before the first.
        drifts: how often drift was found.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.coverage = 0.9
        self.judged = 0
        self.drifts = 0
        self._z = np.zeros(KEPT, np.float32)
        self._ended = np.zeros(KEPT, np.bool_)
        self._who = np.zeros(KEPT, np.uint32)
        self._changed_at = 0
        self._watched: list[tuple[bool, float]] = []
        self._places: Array | None = None
        self._prior: Array | None = None
        self._built_at = 0

    @property
    def drifting(self) -> bool:
        """Drift was found a short while ago, and intervals are still widened."""
        return self.drifts > 0 and self.seen - self._changed_at < WIDENED_FOR

    def add(self, z: float, *, ended: bool, who: int = 0) -> None:
        """An outcome's place in the law that the predictor itself gave; not `ended`: at least there."""
        at = self.seen % KEPT
        self._z[at], self._ended[at], self._who[at] = z, ended, who
        self.seen += 1

    def watch(self, z_told: float, *, covered: bool) -> bool:
        """An outcome's place in the law that was told, and whether its 90 % interval held it; True: drift was found."""
        self.judged += 1
        self.coverage += (covered - self.coverage) / min(self.judged + 20, 500)
        self._watched.append((covered, min(max(z_told, -3.0), 3.0)))
        if len(self._watched) > WATCHED:
            del self._watched[0]
        if len(self._watched) < WATCHED or self.drifting:
            return False
        held, places = zip(*self._watched, strict=True)
        if sum(held) >= LEAST_COVERED * WATCHED and abs(sum(places)) <= MOST_SHIFT * WATCHED:
            return False
        self._watched.clear()
        self._changed_at = self.seen
        self._places = None
        self.drifts += 1
        return True

    def places(self, prior: Array) -> Array:
        """The place at which each level lies, [len(LEVELS)], increasing; `prior` is what the group above says."""
        if not self.seen:
            return prior
        stale = self.seen - self._built_at >= min(REBUILT_EVERY, 1 + self.seen // 16)
        if self._places is None or stale or prior is not self._prior:
            self._places, self._prior, self._built_at = self._made(prior), prior, self.seen
        return self._places

    def _made(self, prior: Array) -> Array:
        z, ended, weights = self._kept()
        count = weights.sum() ** 2 / (weights**2).sum()
        prior_weight = PRIOR_WEIGHT * 0.5 ** (self.seen / PRIOR_HALVED)
        all_z = np.concatenate((z, at_z(prior[None], _PRIOR_Z)[0]))
        all_ended = np.concatenate((ended, np.ones(len(_PRIOR_Z), np.bool_)))
        all_weights = np.concatenate((weights, prior_weight * _PRIOR_SHARE))
        # The rank (n + 1) p of conformal prediction: a little wider than the plain quantile.
        wanted = np.clip(0.5 + (_LEVELS - 0.5) * (1 + 1 / (count + prior_weight)), 0.002, 0.998)
        places = _quantiles(all_z, all_ended, all_weights, wanted)
        left = max(1 - (self.seen - self._changed_at) / WIDENED_FOR, 0.0) if self.drifts else 0.0
        middle = places[len(places) // 2]
        return increasing((middle + (places - middle) * (1 + WIDENED * left))[None])[0]

    def _kept(self) -> tuple[Array, NDArray[np.bool_], NDArray[np.float64]]:
        count = min(self.seen, KEPT)
        number = np.arange(self.seen - count, self.seen)
        at = number % KEPT
        weights = 0.5 ** ((self.seen - 1 - number) / HALF_LIFE)
        if self.drifts:
            weights[number < self._changed_at - KEPT_AFTER_DRIFT] *= WEIGHT_BEFORE_DRIFT
        who, row, sent = np.unique(self._who[at], return_inverse=True, return_counts=True)
        if len(who) > 1:
            # Age counts within a tenant, so that one that sends much does not make the others old.
            shared = weights * (np.minimum(sent, LEAST_SHARE) / np.bincount(row, weights))[row]
            weights = shared * (weights.sum() / shared.sum())
        return self._z[at], self._ended[at], weights

    # -- on disk

    def columns(self) -> tuple[Array, NDArray[np.bool_], NDArray[np.uint32]]:
        """Places, whether each ended, and whose it was, oldest first."""
        count = min(self.seen, KEPT)
        at = np.arange(self.seen - count, self.seen) % KEPT
        return self._z[at], self._ended[at], self._who[at]

    def facts(self) -> dict[str, Any]:
        """Everything else that is kept over a restart."""
        since = min(self.seen - self._changed_at, KEPT) if self.drifts else KEPT
        return {"coverage": self.coverage, "judged": self.judged, "drifts": self.drifts, "since": since}

    @classmethod
    def restored(cls, z: Array, ended: NDArray[np.bool_], who: NDArray[np.uint32], facts: dict[str, Any]) -> Group:
        """From `columns` and `facts`; raises ValueError, KeyError or TypeError where they are not that."""
        if not len(z) <= KEPT or not np.isfinite(z).all():
            raise ValueError(f"{len(z)} places, at most {KEPT}, all finite")
        group = cls()
        for one, end, tenant in zip(z.tolist(), ended.tolist(), who.tolist(), strict=True):
            group.add(min(max(one, -_FARTHEST), _FARTHEST), ended=end, who=tenant)
        group.coverage = min(max(float(facts["coverage"]), 0.0), 1.0)
        group.judged, group.drifts = max(int(facts["judged"]), 0), max(int(facts["drifts"]), 0)
        group._changed_at = group.seen - min(max(int(facts["since"]), 0), KEPT)
        return group


def _quantiles(
    z: Array, ended: NDArray[np.bool_], weights: NDArray[np.float64], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted Kaplan-Meier quantiles, lines between the middles of steps."""
    order = np.lexsort((~ended, z))
    z, ended, weights = z[order], ended[order], weights[order]
    at_risk = np.cumsum(weights[::-1])[::-1]
    survival = np.cumprod(1 - np.where(ended, np.minimum(weights / at_risk, 1.0), 0.0))
    before = np.concatenate(([1.0], survival[:-1]))
    middles = 1 - (survival + before) / 2
    points, places = middles[ended], z[ended].astype(np.float64)
    inside = np.interp(levels, points, places)
    # Beyond the last end all answers were cut: the scale itself goes on there.
    beyond = levels > points[-1]
    if beyond.any():
        run = [_NORMAL.inv_cdf(float(level)) - _NORMAL.inv_cdf(float(points[-1])) for level in levels[beyond]]
        inside[beyond] = places[-1] + np.array(run)
    return inside
