"""Predictors of a stated quality, and ones that fail: what the core's questions are answered with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import numpy as np

from fairlead.lengths import LengthDistribution

LEVELS = (
    0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85,
    0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999,
)  # fmt: skip
PRIOR_POINTS = 400
STEP_OF_LOG = 0.02
"""What the predictor saw is rounded to this, in log tokens: far below its noise, and few distributions to make."""


class PredictorMood(Enum):
    """How a predictor behaves (I10)."""

    GOOD = "good"
    SLOW = "slow"
    LYING = "lying"
    DEAD = "dead"


Answer = tuple[float | None, LengthDistribution]
"""Ms until the answer comes, or None if it never does; the distribution of all output tokens."""


class Predictor(Protocol):
    """Answers about one request at a time."""

    def predict(self, job_id: int, answer_tokens: int, generated_tokens: int) -> Answer:
        """When the answer comes, and what it is."""
        ...


class NoisyPredictor:
    """Sees log L + sigma * noise for each request, and says the right posterior of L given that.

    The prior is the workload's own distribution of lengths. Asked again after a window, it says the same: that the
    answer is longer than what is out is taken into account by whoever asks the distribution. With `fresh_evidence` it
    looks anew each time, so that n questions know as much as one with sigma / sqrt(n).

    Args:
        lengths: output tokens of the workload's requests.
        sigma: of the noise in what it sees, in log tokens (`quality.sigma_for_tau`); 0 knows the length.
        max_tokens: the longest answer that a request may have.
        delay_ms: time to answer.
        seed: of the noise.
        fresh_evidence: whether each question adds knowledge.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        sigma: float,
        *,
        max_tokens: int,
        delay_ms: float = 10.0,
        seed: int = 0,
        fresh_evidence: bool = False,
    ) -> None:
        self.sigma = sigma
        self._max_tokens = max_tokens
        self._delay_ms = delay_ms
        self._seed = seed
        self._fresh_evidence = fresh_evidence
        logs = np.sort(np.log(np.asarray(lengths, np.float64)))
        self._prior = np.quantile(logs, (np.arange(PRIOR_POINTS) + 0.5) / PRIOR_POINTS)
        self._made: dict[tuple[int, int], LengthDistribution] = {}
        self._seen: dict[int, tuple[int, float]] = {}

    def predict(self, job_id: int, answer_tokens: int, generated_tokens: int) -> Answer:  # noqa: ARG002
        """The posterior, after the usual delay."""
        return self._delay_ms, self.posterior(job_id, answer_tokens)

    def posterior(self, job_id: int, answer_tokens: int) -> LengthDistribution:
        """What it makes of one more look at this request."""
        if self.sigma == 0.0:
            return self._known(answer_tokens)
        looks, noise = self._seen.get(job_id, (0, 0.0))
        if looks == 0 or self._fresh_evidence:
            drawn = random.Random(f"{self._seed} {job_id} {looks}").gauss(0.0, 1.0)
            noise = (noise * looks + drawn) / (looks + 1)
            looks += 1
            self._seen[job_id] = (looks, noise)
        seen = round((float(np.log(answer_tokens)) + self.sigma * noise) / STEP_OF_LOG)
        made = self._made.get((looks, seen))
        if made is None:
            made = self._made[(looks, seen)] = self._posterior(seen * STEP_OF_LOG, self.sigma / looks**0.5)
        return made

    def _known(self, answer_tokens: int) -> LengthDistribution:
        made = self._made.get((0, answer_tokens))
        if made is None:
            made = LengthDistribution.from_point(answer_tokens, source="oracle").truncated(self._max_tokens)
            self._made[(0, answer_tokens)] = made
        return made

    def _posterior(self, seen: float, sigma: float) -> LengthDistribution:
        """P(L | seen) over the prior's points, each a 1 / PRIOR_POINTS of the workload (Bayes)."""
        exponents = -0.5 * ((self._prior - seen) / sigma) ** 2
        weights = np.exp(exponents - exponents.max())
        below = np.cumsum(weights)
        middle = (below - 0.5 * weights) / below[-1]
        tokens = np.exp(np.interp(LEVELS, middle, self._prior))
        return LengthDistribution.from_quantiles(
            LEVELS, [float(token) for token in tokens], 8.0, max_tokens=self._max_tokens, source="simulated"
        )


class FailingPredictor:
    """Another predictor, behaving badly.

    Args:
        inner: the predictor.
        mood: how.
        seed: of delays and lies.
    """

    def __init__(self, inner: Predictor, mood: PredictorMood, seed: int = 0) -> None:
        self._inner = inner
        self._mood = mood
        self._rng = random.Random(f"mood {seed}")

    def predict(self, job_id: int, answer_tokens: int, generated_tokens: int) -> Answer:
        """Never (dead), seconds late (slow), or about another length (lying)."""
        delay_ms, made = self._inner.predict(job_id, answer_tokens, generated_tokens)
        rng = self._rng
        match self._mood:
            case PredictorMood.DEAD:
                return None, made
            case PredictorMood.SLOW:
                return rng.uniform(500.0, 4000.0), made
            case PredictorMood.LYING:
                lie = rng.choice((1, 2, 100_000, max(1, 600 - answer_tokens)))
                return delay_ms, LengthDistribution.lognormal(lie * rng.lognormvariate(0.0, 0.3), 0.4, source="lie")
            case PredictorMood.GOOD:
                return delay_ms, made
