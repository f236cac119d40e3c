"""Is a predictor better than `history`? If not, it is put aside until it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from predictor_svc.models.levels import LEVELS, Array

REMEMBERED = 200
LEAST = 200
"""Outcomes before a predictor is put aside, and between two changes of mind."""

LEAST_HARM = 0.02
"""Of the pinball loss of `history`: a smaller loss is not worth a change."""

_LEVELS = np.asarray(LEVELS, np.float64)


def pinball(quantiles: Array, truth: float) -> float:
    """Mean pinball loss over LEVELS of one law [len(LEVELS)] at log tokens `truth`."""
    over = truth - quantiles.astype(np.float64)
    return float(np.maximum(_LEVELS * over, (_LEVELS - 1) * over).mean())


class Contest:
    """Paired pinball losses of a predictor and `history`, the recent counting more.

    Attributes:
        aside: the predictor is worse, and `history` answers in its place.
        count: outcomes compared.
    """

    def __init__(self) -> None:
        self.aside = False
        self.count = 0
        self._changed_at = 0
        self._mean = 0.0
        self._variance = 0.0
        self._other = 0.0

    @property
    def decided(self) -> bool:
        """Enough was compared to speak."""
        return self.count >= LEAST

    def add(self, ours: float, other: float) -> bool:
        """The losses of both on one outcome; True: `aside` changed."""
        share = 1 / min(self.count + 1, REMEMBERED)
        off = ours - other - self._mean
        self._mean += share * off
        self._variance = (1 - share) * (self._variance + share * off * off)
        self._other += share * (other - self._other)
        self.count += 1
        if self.count - self._changed_at < LEAST:
            return False
        error = (self._variance / min(self.count, 2 * REMEMBERED)) ** 0.5
        worse = self._mean > max(2 * error, LEAST_HARM * self._other)
        if worse if not self.aside else self._mean < 0:
            self.aside = not self.aside
            self._changed_at = self.count
            return True
        return False

    def facts(self) -> dict[str, Any]:
        """What is kept over a restart."""
        since = min(self.count - self._changed_at, LEAST)
        return {
            "aside": self.aside, "count": self.count, "since": since,
            "mean": self._mean, "variance": self._variance, "other": self._other,
        }  # fmt: skip

    @classmethod
    def restored(cls, facts: dict[str, Any]) -> Contest:
        """From `facts`; raises ValueError, KeyError or TypeError where they are not that."""
        contest = cls()
        contest.aside, contest.count = bool(facts["aside"]), max(int(facts["count"]), 0)
        contest._changed_at = contest.count - max(int(facts["since"]), 0)
        numbers = [float(facts[name]) for name in ("mean", "variance", "other")]
        if not np.isfinite(numbers).all():
            raise ValueError("a contest's losses are not finite")
        contest._mean, contest._variance, contest._other = numbers
        return contest
