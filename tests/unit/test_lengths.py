"""The length distribution against brute force."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fairlead.length_batch import LengthBatch, gittins_cost_many, mean_remaining_many, quantile_many
from fairlead.lengths import MAX_TOKENS, LengthDistribution


@st.composite
def distributions(draw: st.DrawFn) -> LengthDistribution:
    """Anything that the type allows: few or many knots, near or far, heavy or light tails, any cut."""
    count = draw(st.integers(1, 12))
    steps = draw(st.lists(st.floats(0.01, 1.0), min_size=count + 1, max_size=count + 1))
    levels = (np.cumsum(steps) / np.sum(steps))[:-1]
    generated = draw(st.sampled_from([0.0, 0.0, 7.0, 150.0]))
    ratios = draw(st.lists(st.floats(1.0001, 3.0), min_size=count, max_size=count))
    tokens = max(generated, draw(st.floats(1.0, 300.0))) * np.cumprod(ratios)
    return LengthDistribution(
        tuple(levels.tolist()),
        tuple(np.minimum(tokens, MAX_TOKENS * (1 - 1e-5 * np.arange(count, 0, -1))).tolist()),
        draw(st.floats(0.6, 20.0)),
        draw(st.sampled_from([1.0, 3.0, 64.0, 512.0, 4096.0, MAX_TOKENS])),
        generated,
    )


def _dense(distribution: LengthDistribution, a: float) -> tuple[np.ndarray, np.ndarray]:
    """Points from a to the cut and S(t | a) just before each, straight from the definition."""
    end = distribution.max_tokens
    steps = np.concatenate((np.linspace(0, 1, 2000), np.geomspace(1e-6, 1, 6000)))
    knots = [a + 1, *(t for t in distribution.tokens if a < t < end)]
    points = np.unique(np.concatenate((a + (end - a) * steps, knots)))
    survival = np.array([distribution.survival(t, a) for t in points.tolist()])
    survival[-1] = survival[-2]
    return points, survival


@settings(max_examples=60, deadline=None)
@given(distributions(), st.floats(0, 1))
def test_mean_is_the_integral_of_survival(distribution: LengthDistribution, share: float) -> None:
    a = max(share * distribution.max_tokens * 0.9, distribution.generated_tokens)
    assume(a + 1 < distribution.max_tokens)
    points, survival = _dense(distribution, a)
    brute = float(np.sum((survival[1:] + survival[:-1]) / 2 * np.diff(points)))
    assert distribution.mean_remaining(a) == pytest.approx(max(brute, 1.0), rel=0.02)


@settings(max_examples=100, deadline=None)
@given(distributions(), st.floats(0, 1), st.floats(0.001, 0.999))
def test_quantile_and_survival_are_inverse(distribution: LengthDistribution, share: float, level: float) -> None:
    a = max(share * distribution.max_tokens * 0.9, distribution.generated_tokens)
    assume(a < distribution.max_tokens)
    t = distribution.quantile(level, a)
    assert a <= t <= distribution.max_tokens
    if t < distribution.max_tokens * (1 - 1e-9) and t > a:
        assert distribution.survival(t, a) == pytest.approx(1 - level, abs=1e-6)
    assert distribution.quantile(min(level + 0.0005, 1.0), a) >= t


@settings(max_examples=60, deadline=None)
@given(distributions(), st.floats(0, 1), st.floats(0, 100))
def test_gittins_cost_is_the_least_over_delta(distribution: LengthDistribution, share: float, setup: float) -> None:
    a = max(share * distribution.max_tokens * 0.9, distribution.generated_tokens)
    assume(a + 2 < distribution.max_tokens)
    points, survival = _dense(distribution, a)
    work = np.concatenate(([0], np.cumsum((survival[1:] + survival[:-1]) / 2 * np.diff(points))))
    chance = 1 - survival
    chance[-1] = 1.0
    allowed = (points >= a + 1) & (chance > 1e-9)
    brute = float(((setup + 5.0 * work[allowed]) / chance[allowed]).min())
    cost = distribution.gittins_cost_ms(a, 5.0, setup)
    assert cost >= max(brute, setup + 5) * 0.99
    assert cost <= max(brute, setup + 5) * 1.10, "the grid of deltas misses the optimum by more than a tenth"


@settings(max_examples=40, deadline=None)
@given(st.lists(distributions(), min_size=1, max_size=8), st.floats(0, 5000), st.floats(0.01, 0.99))
def test_batch_answers_as_one_by_one(parts: list[LengthDistribution], a: float, level: float) -> None:
    batch = LengthBatch(parts)
    given_tokens = np.full(len(parts), a)
    pairs = [
        (batch.mean_remaining(given_tokens), [part.mean_remaining(a) for part in parts]),
        (batch.quantile(level, given_tokens), [part.quantile(level, a) for part in parts]),
        (batch.survival(a + 40, given_tokens), [part.survival(a + 40, a) for part in parts]),
        (batch.gittins_cost_ms(given_tokens, 5, 3), [part.gittins_cost_ms(a, 5, 3) for part in parts]),
    ]
    for many, single in pairs:
        np.testing.assert_allclose(many, single, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mean_remaining_many(parts, given_tokens), pairs[0][0])
    np.testing.assert_allclose(quantile_many(parts, level, given_tokens), pairs[1][0])
    np.testing.assert_allclose(gittins_cost_many(parts, given_tokens, 5, 3), pairs[3][0])


@settings(max_examples=60, deadline=None)
@given(distributions(), st.floats(0, 3e6))
def test_never_divides_by_zero(distribution: LengthDistribution, a: float) -> None:
    values = [
        distribution.mean_remaining(a),
        distribution.gittins_cost_ms(a, 4.0),
        distribution.quantile(0.9, a),
        distribution.survival(a + 1, a),
    ]
    assert all(math.isfinite(value) for value in values)
    assert values[0] >= 1
    assert values[1] >= 4
    again = LengthDistribution.from_json(json.loads(json.dumps(distribution.to_json())))
    assert again == distribution


@settings(max_examples=40, deadline=None)
@given(distributions(), st.floats(1, 5000))
def test_truncation_censors(distribution: LengthDistribution, cut: float) -> None:
    assume(cut > distribution.generated_tokens)
    shorter = distribution.truncated(cut)
    end = min(cut, distribution.max_tokens)
    assume(end > distribution.generated_tokens)
    assert shorter.max_tokens == end
    a = distribution.generated_tokens
    for t in (end * 0.3, end * 0.9):
        if t > a:
            assert shorter.survival(t, a) == pytest.approx(distribution.survival(t, a), rel=1e-6)
    assert shorter.survival(end, a) == 0
    assert shorter.mean_remaining() <= distribution.mean_remaining() * (1 + 1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(distributions(), min_size=1, max_size=4), st.lists(st.floats(0.05, 1), min_size=4, max_size=4))
def test_mixture_is_the_weighted_survival(parts: list[LengthDistribution], weights: list[float]) -> None:
    parts = [LengthDistribution(part.levels, part.tokens, part.tail_index) for part in parts]
    share = np.array(weights[: len(parts)]) / sum(weights[: len(parts)])
    mixed = LengthDistribution.mixture(parts, weights[: len(parts)])
    for t, level in zip(mixed.tokens, mixed.levels, strict=True):
        exact = 1 - sum(w * part.survival(t) for w, part in zip(share, parts, strict=True))
        assert level == pytest.approx(exact, abs=0.03)


def test_lognormal_and_samples_agree_with_drawn_lengths() -> None:
    drawn = 120 * np.exp(0.6 * np.random.default_rng(3).normal(size=40_000))
    lognormal = LengthDistribution.lognormal(120, 0.6)
    for law in (lognormal, LengthDistribution.from_samples(drawn)):
        for a in (0, 60, 150, 400):
            left = drawn[drawn > a] - a
            assert law.mean_remaining(a) == pytest.approx(left.mean(), rel=0.05 if a < 300 else 0.35)
            assert law.quantile(0.8, a) == pytest.approx(np.quantile(left + a, 0.8), rel=0.05)


def test_censored_samples_count_as_at_least() -> None:
    lengths = 200 * np.exp(0.5 * np.random.default_rng(5).normal(size=20_000))
    cut = np.random.default_rng(6).uniform(50, 800, size=20_000)
    seen, ended = np.minimum(lengths, cut), lengths <= cut
    naive = LengthDistribution.from_samples(seen[ended]).quantile(0.5)
    fair = LengthDistribution.from_samples(seen, ended=ended).quantile(0.5)
    assert fair == pytest.approx(200, rel=0.05)
    assert naive < 190
    assert LengthDistribution.from_samples([5.0, 9.0], ended=[False, False]).mean_remaining() > 0


def test_conditional_samples_and_a_known_point() -> None:
    law = LengthDistribution.from_samples([10, 20, 30, 40, 50], generated_tokens=25, max_tokens=100)
    assert law.quantile(0.01) > 25
    assert law.mean_remaining() == pytest.approx(15, rel=0.2)
    point = LengthDistribution.from_point(100)
    assert point.mean_remaining(40) == pytest.approx(60, rel=0.01)
    assert point.gittins_cost_ms(40, 5) == pytest.approx(300, rel=0.02)
    assert point.truncated(1).mean_remaining() == 1
    with pytest.raises(ValueError, match="no sample"):
        LengthDistribution.from_samples([10], generated_tokens=25)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"levels": (0.5, 0.5), "tokens": (1, 2)}, "levels"),
        ({"levels": (0.5, math.nan), "tokens": (1, 2)}, "levels"),
        ({"levels": (0.0,), "tokens": (1,)}, "levels"),
        ({"levels": (0.2, 0.5), "tokens": (9, 9)}, "tokens"),
        ({"levels": (0.2, 0.5), "tokens": (9, math.inf)}, "tokens"),
        ({"levels": (0.2,), "tokens": (-1,)}, "tokens"),
        ({"levels": (0.2,), "tokens": (10,), "generated_tokens": 10}, "tokens"),
        ({"levels": (0.2,), "tokens": (1, 2)}, "levels and tokens"),
        ({"levels": (), "tokens": ()}, "levels and tokens"),
        ({"levels": (0.2,), "tokens": (1,), "tail_index": 0}, "tail_index"),
        ({"levels": (0.2,), "tokens": (1,), "tail_index": math.nan}, "tail_index"),
        ({"levels": (0.2,), "tokens": (1,), "max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_is_not_a_distribution_is_refused(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        LengthDistribution(**fields)  # type: ignore[arg-type]


def test_one_question_is_cheap() -> None:
    law = LengthDistribution.lognormal(150, 0.6).truncated(512)
    law.gittins_cost_ms(50, 5, 10)
    best = math.inf
    for _ in range(20):
        start = time.perf_counter()
        for a in range(100):
            law.gittins_cost_ms(a, 5, 10)
            law.mean_remaining(a)
        best = min(best, (time.perf_counter() - start) / 100)
    assert best < 120e-6, f"{best * 1e6:.0f} microseconds for one cost and one mean"


@settings(max_examples=80, deadline=None)
@given(distributions(), st.floats(0, 1), st.floats(1.01, 6.0))
def test_what_is_given_a_agrees_with_the_whole(distribution: LengthDistribution, share: float, factor: float) -> None:
    a = max(share * distribution.max_tokens * 0.9, distribution.generated_tokens)
    rest = distribution.given(a)
    assert rest.generated_tokens == pytest.approx(a)
    assert rest.max_tokens >= min(distribution.max_tokens, a + 1)
    ahead = [t for t in distribution.tokens if a * 1.00002 < t < distribution.max_tokens * 0.9999]
    for t in ahead:
        assert rest.survival(t, a) == pytest.approx(distribution.survival(t, a), abs=1e-4)
    if ahead and distribution.survival(ahead[-1], a) > 1e-6:
        t = min(ahead[-1] * factor, distribution.max_tokens * 0.999)
        assert rest.survival(t, a) == pytest.approx(distribution.survival(t, a), rel=1e-3, abs=1e-6)


def test_the_tail_is_the_stated_one() -> None:
    law = LengthDistribution((0.5, 0.9), (100.0, 300.0), tail_index=2.0)
    for factor in (2, 10, 100):
        assert law.survival(300.0 * factor) == pytest.approx(0.1 * factor**-2.0, rel=1e-6)
    # The mean residual life of a Pareto tail grows with the age: a / (k - 1).
    assert law.mean_remaining(2000) == pytest.approx(2000, rel=0.01)
    assert law.given(2000).mean_remaining() == pytest.approx(2000, rel=0.01)


def test_thousands_are_asked_at_once() -> None:
    random = np.random.default_rng(2)
    laws = [LengthDistribution.lognormal(float(m), 0.6) for m in random.uniform(20, 900, 3000)]
    a = random.uniform(0, 400, 3000)
    remaining = LengthBatch(laws).mean_remaining(a)
    for i in random.integers(0, 3000, 50):
        assert remaining[i] == pytest.approx(laws[i].mean_remaining(float(a[i])), rel=1e-9)
