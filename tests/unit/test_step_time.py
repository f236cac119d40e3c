"""The online step-time fit: right under noise, never negative, unmoved by what is no measurement."""

from __future__ import annotations

import math
import random

import pytest

from worker_svc.step_time import START_MODEL, StepTimeFit
from worker_svc.step_types import StepModel

A100 = StepModel(6.0, 0.045, 0.05, 0.00025)
TINY = StepModel(1.1, 0.004, 0.02, 0.0)


def drive(fit: StepTimeFit, true: StepModel, rng: random.Random, steps: int, *, noise: float, outliers: float) -> None:
    for _ in range(steps):
        prefill = rng.choice([0, 0, 0, 512, rng.randrange(2048)])
        decodes, context = rng.randrange(64), rng.randrange(100_000)
        step_ms = true.step_ms(prefill, decodes, context) * max(0.1, rng.gauss(1.0, noise))
        if rng.random() < outliers:
            step_ms *= 30.0
        fit.observe(prefill, decodes, context, step_ms)


def error_of(fit: StepTimeFit, true: StepModel, rng: random.Random) -> float:
    """Mean relative error of predictions of fresh steps."""
    errors: list[float] = []
    for _ in range(200):
        shape = rng.choice([0, rng.randrange(2048)]), rng.randrange(64), rng.randrange(100_000)
        expected = true.step_ms(*shape)
        errors.append(abs(fit.model().step_ms(*shape) - expected) / expected)
    return sum(errors) / len(errors)


@pytest.mark.parametrize("true", [A100, TINY], ids=["A100", "tiny"])
@pytest.mark.parametrize("seed", range(3))
def test_recovers_the_coefficients_under_noise(true: StepModel, seed: int) -> None:
    rng, fit = random.Random(seed), StepTimeFit()
    drive(fit, true, rng, 2000, noise=0.1, outliers=0.0)
    assert error_of(fit, true, rng) < 0.05, f"seed {seed}: {fit.model()}"
    assert fit.relative_error is not None and 0.04 < fit.relative_error < 0.15


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_predicts_the_mean_of_noisy_steps_not_the_usual_one(noise: float, seed: int) -> None:
    """Log-normal noise of mean 1: what the steps of a while are said to take is what they took together."""
    rng, fit = random.Random(seed), StepTimeFit()
    took_ms = told_ms = 0.0
    for step in range(6000):
        prefill = rng.choice([0, 0, 0, rng.randrange(2048)])
        decodes = rng.randrange(1, 64)
        shape = prefill, decodes, decodes * rng.randrange(50, 2000)
        step_ms = A100.step_ms(*shape) * rng.lognormvariate(-noise * noise / 2, noise)
        if step >= 2000:
            took_ms += step_ms
            told_ms += fit.model().step_ms(*shape)
        fit.observe(*shape, step_ms)
    assert told_ms == pytest.approx(took_ms, rel=0.04), f"noise {noise}, seed {seed}: {fit.model()}"


@pytest.mark.parametrize("seed", range(3))
def test_outliers_pull_little(seed: int) -> None:
    rng, fit = random.Random(seed), StepTimeFit()
    drive(fit, A100, rng, 2000, noise=0.05, outliers=0.03)
    assert error_of(fit, A100, rng) < 0.1, f"seed {seed}: {fit.model()}"


def test_follows_a_change() -> None:
    rng, fit = random.Random(0), StepTimeFit()
    drive(fit, A100, rng, 2000, noise=0.05, outliers=0.0)
    slower = StepModel(12.0, 0.09, 0.1, 0.0005)
    drive(fit, slower, rng, 3000, noise=0.05, outliers=0.0)
    assert error_of(fit, slower, rng) < 0.1, fit.model()


@pytest.mark.parametrize("seed", range(20))
def test_no_coefficient_is_ever_negative(seed: int) -> None:
    """Times that have nothing to do with the model, over ten orders of magnitude."""
    rng, fit = random.Random(seed), StepTimeFit(forgetting=[0.9, 0.98, 0.998, 1.0][seed % 4])
    for _ in range(400):
        step_ms = 10 ** rng.uniform(-5, 7)
        fit.observe(rng.randrange(3000), rng.randrange(300), rng.randrange(10**6), step_ms)
        model = fit.model()
        values = (model.c0_ms, model.c1_ms_per_prefill_token, model.c2_ms_per_decode, model.c3_ms_per_context_token)
        assert all(math.isfinite(value) and value >= 0 for value in values), f"seed {seed}: {model}"


@pytest.mark.parametrize("step_ms", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e12])
def test_what_is_no_measurement_is_ignored(step_ms: float) -> None:
    fit = StepTimeFit()
    for _ in range(50):
        fit.observe(10, 1, 100, step_ms)
    assert fit.model() == START_MODEL
    assert fit.relative_error is None


def test_what_was_not_seen_stays_where_it_was() -> None:
    """Decodes only: what a prefill token costs is neither lost nor invented."""
    fit = StepTimeFit(A100)
    for step in range(2000):
        fit.observe(0, 1 + step % 32, 100 * (1 + step % 32), A100.step_ms(0, 1 + step % 32, 100 * (1 + step % 32)))
    assert fit.model().c1_ms_per_prefill_token == pytest.approx(A100.c1_ms_per_prefill_token, rel=1e-6)


def test_one_repeated_step_is_predicted_though_it_says_nothing_of_the_coefficients() -> None:
    fit = StepTimeFit()
    for _ in range(100):
        fit.observe(0, 8, 800, 4.0)
    assert fit.model().step_ms(0, 8, 800) == pytest.approx(4.0, rel=0.01)
