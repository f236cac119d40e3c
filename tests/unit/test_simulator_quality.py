"""Predictors of a stated quality: the noise for a tau, and the posterior that goes with it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from simulator.predictor import FailingPredictor, NoisyPredictor, PredictorMood
from simulator.quality import kendall_tau, sigma_for_tau
from simulator.workload import synthetic_rows

LENGTHS = [row.output_tokens for row in synthetic_rows(3000, 0)]
SIGMA = sigma_for_tau(LENGTHS, 0.5)


def test_kendall_tau_by_hand() -> None:
    assert kendall_tau([1, 2, 3, 4], [1, 2, 3, 4]) == 1.0
    assert kendall_tau([4, 3, 2, 1], [1, 2, 3, 4]) == -1.0
    # Pairs: 12 and 23 tied in x or y; of the six, four agree, none disagrees; one tie in each list.
    assert kendall_tau([1, 1, 2, 3], [1, 2, 2, 3]) == pytest.approx(4 / math.sqrt(5 * 5))


@pytest.mark.parametrize("tau", [0.2, 0.5, 0.7, 0.9])
def test_the_noise_gives_the_stated_tau(tau: float) -> None:
    sigma = sigma_for_tau(LENGTHS, tau)
    rng = np.random.default_rng(99)  # other noise, and all lengths instead of the sample
    logs = np.log(LENGTHS)
    measured = kendall_tau(logs + sigma * rng.standard_normal(len(logs)), logs)
    assert measured == pytest.approx(tau, abs=0.03)


def test_a_tau_of_one_is_the_oracle() -> None:
    predictor = NoisyPredictor(LENGTHS, sigma_for_tau(LENGTHS, 1.0), max_tokens=4096)
    made = predictor.posterior(0, 321)
    assert made.quantile(0.01) == pytest.approx(321, rel=0.01)
    assert made.quantile(0.99) == pytest.approx(321, rel=0.01)


def test_the_posterior_is_calibrated() -> None:
    """Of the true lengths, a share q lies below the quantile q that was predicted for each."""
    predictor = NoisyPredictor(LENGTHS, SIGMA, max_tokens=4096, seed=5)
    made = [predictor.posterior(i, length) for i, length in enumerate(LENGTHS)]
    for level in (0.1, 0.5, 0.9):
        below = sum(length <= each.quantile(level) for each, length in zip(made, LENGTHS, strict=True))
        assert below / len(LENGTHS) == pytest.approx(level, abs=0.03), level


def test_asking_again_says_the_same_unless_evidence_is_fresh() -> None:
    stale = NoisyPredictor(LENGTHS, SIGMA, max_tokens=4096, seed=5)
    assert stale.posterior(3, 200) is stale.posterior(3, 200)
    fresh = NoisyPredictor(LENGTHS, SIGMA, max_tokens=4096, seed=5, fresh_evidence=True)
    widths = []
    for _ in range(8):
        made = fresh.posterior(3, 200)
        widths.append(math.log(made.quantile(0.9) / made.quantile(0.1)))
    assert widths[-1] < 0.7 * widths[0]


def test_the_same_seed_sees_the_same_whoever_is_asked_first() -> None:
    one, other = (NoisyPredictor(LENGTHS, SIGMA, max_tokens=4096, seed=5) for _ in range(2))
    order = list(range(50))
    random.Random(1).shuffle(order)
    first = {i: one.posterior(i, LENGTHS[i]).tokens for i in range(50)}
    assert {i: other.posterior(i, LENGTHS[i]).tokens for i in order} == first


@pytest.mark.parametrize("bad", [0.0, -0.5, 1.5])
def test_a_tau_outside_its_range_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="tau"):
        sigma_for_tau(LENGTHS, bad)
    with pytest.raises(ValueError, match="one length"):
        sigma_for_tau([7] * 30, 0.5)


def test_moods() -> None:
    inner = NoisyPredictor(LENGTHS, SIGMA, max_tokens=4096, delay_ms=10.0)
    assert FailingPredictor(inner, PredictorMood.DEAD).predict(0, 100, 0)[0] is None
    slow_ms = FailingPredictor(inner, PredictorMood.SLOW).predict(0, 100, 0)[0]
    assert slow_ms is not None
    assert slow_ms >= 500.0
    lying = FailingPredictor(inner, PredictorMood.LYING)
    medians = [lying.predict(i, 300, 0)[1].quantile(0.5) for i in range(40)]
    assert max(medians) > 10_000
    assert min(medians) < 10
