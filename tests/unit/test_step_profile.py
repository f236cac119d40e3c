"""Step times fitted, and the plain Llama that a GPU is measured with, at a tiny size on the CPU."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from bench.step_profile.__main__ import step_profile
from bench.step_profile.fit import Step, fit_steps
from bench.step_profile.llama import TINY, Llama
from fairlead.steps import StepModel
from simulator.profiles import read_profile

TRUE = StepModel(2.0, 0.03, 0.1, 0.001)


def steps(model: StepModel, count: int, noise: float, seed: int = 1) -> list[Step]:
    rng = random.Random(seed)
    found: list[Step] = []
    for _ in range(count):
        work = (rng.choice((0, 0, rng.randrange(1, 2000))), rng.randrange(0, 64), rng.randrange(0, 20_000))
        found.append(Step(*work, model.step_ms(*work) * (1 + noise * rng.gauss(0, 1))))
    return found


def coefficients(model: StepModel) -> tuple[float, ...]:
    return (model.c0_ms, model.c1_ms_per_prefill_token, model.c2_ms_per_decode, model.c3_ms_per_context_token)


def test_the_fit_is_of_the_mean_step_where_times_vary_much() -> None:
    rng = random.Random(3)
    noisy = [replace(step, ms=step.ms * rng.lognormvariate(-0.045, 0.3)) for step in steps(TRUE, 4000, 0.0)]
    model = fit_steps(noisy).model
    fitted_ms = sum(model.step_ms(step.prefill_tokens, step.decodes, step.context_tokens) for step in noisy)
    assert fitted_ms == pytest.approx(sum(step.ms for step in noisy), rel=0.03)


def test_the_fit_finds_what_made_the_steps() -> None:
    fit = fit_steps(steps(TRUE, 400, 0.02))
    assert coefficients(fit.model) == pytest.approx(coefficients(TRUE), rel=0.05)
    assert 0.005 < fit.error < 0.03


def test_steps_that_somebody_else_disturbed_do_not_bend_it() -> None:
    found = steps(TRUE, 400, 0.01)
    disturbed = [
        Step(step.prefill_tokens, step.decodes, step.context_tokens, step.ms * (20 if index % 25 == 0 else 1))
        for index, step in enumerate(found)
    ]
    fit = fit_steps(disturbed)
    assert fit.left_out >= 16
    assert coefficients(fit.model) == pytest.approx(coefficients(TRUE), rel=0.05)


def test_no_coefficient_is_negative() -> None:
    # Time falls with the context: the best model without a negative coefficient knows no context.
    found = [Step(0, batch, context, 5.0 + batch - 0.0001 * context) for batch in range(1, 9) for context in (0, 9000)]
    fit = fit_steps(found)
    assert fit.model.c3_ms_per_context_token == 0.0
    assert min(coefficients(fit.model)) >= 0.0


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        fit_steps(steps(TRUE, 7, 0.0))


def test_tokens_one_by_one_through_the_cache_give_what_prefill_gives() -> None:
    model = Llama(TINY, "cpu", torch.float32)
    ids = torch.randint(TINY.vocabulary, (3, 6), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        whole = model.cache(3, 6)
        at_once = model.step(ids, whole, 6)
        cache = [(keys[:, :, :0], values[:, :, :0]) for keys, values in model.cache(3, 1)]
        for place in range(6):
            room = [(torch.empty(3, TINY.kv_heads, 1, TINY.head_size),) * 2 for _ in cache]
            cache = [
                (torch.cat((keys, new), 2), torch.cat((values, other), 2))
                for (keys, values), (new, other) in zip(cache, room, strict=True)
            ]
            one_by_one = model.step(ids[:, place : place + 1], cache, 1)
    assert one_by_one.tolist() == at_once.tolist()
    assert torch.allclose(cache[-1][0], whole[-1][0], atol=1e-4)


def test_the_command_measures_a_tiny_llama_and_writes_a_profile(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(step_profile)
    path = tmp_path / "tiny.json"
    said = CliRunner().invoke(
        app, ["--torch", "--tiny", "--device", "cpu", "--repetitions", "2", "--name", "tiny", "--json", str(path)]
    )
    assert said.exit_code == 0, said.output
    profile = read_profile(path)
    assert profile.name == "tiny"
    assert "random weights" in profile.source
    assert profile.step_model.c0_ms > 0
