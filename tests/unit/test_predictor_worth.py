"""What predictions are worth in a scheduler: the ends of the scale, the order between them, and the command's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fairlead.cli.predictor_worth import measure_worth
from fairlead.lengths import LengthDistribution
from predictor_svc.cli import app
from predictor_svc.encoder.session import Side, Vectors
from predictor_svc.models.levels import LEVELS, Z_LEVELS
from predictor_svc.training.dataset import Row
from predictor_svc.training.examples import make_examples
from predictor_svc.training.worth import answers_of, said_of
from simulator.run import Setup
from simulator.worth import Answer, order_gain, worth
from tests.unit.test_training import made_up, written

MACHINE = Setup(seats=4, kv_tokens=20_000)


class Zeros:
    """An encoder to which all texts are alike."""

    width = 8
    sha256 = ""

    def embed(self, texts: Sequence[str], *, max_tokens: int, side: Side = "start") -> Vectors:
        del max_tokens, side
        return np.zeros((len(texts), self.width), np.float32)


def law(median: float, deviation: float) -> LengthDistribution:
    return LengthDistribution.lognormal(median, deviation).truncated(4096)


def test_worth_goes_from_fcfs_to_knowing_and_orders_predictors_by_their_quality() -> None:
    random = np.random.default_rng(7)
    lengths = np.exp(random.normal(3.5, 1.0, 150)).astype(int) + 1
    answers = [Answer(60, int(length)) for length in lengths]
    said = {
        name: [[(0, law(length * np.exp(noise * random.normal()), noise))] for length in lengths]
        for name, noise in (("sharp", 0.2), ("blunt", 2.0))
    }
    said["backwards"] = [[(0, law(5_000 / length, 0.2))] for length in lengths]
    seen: list[int] = []
    rows = worth(answers, said, loads=(1.1,), seeds=1, setup=MACHINE, told=lambda done, _: seen.append(done))
    gain = {row["predictor"]: row["jct_gain"] for row in rows}
    assert list(gain) == ["fcfs", "sharp", "blunt", "backwards", "oracle"]
    assert (gain["fcfs"], gain["oracle"]) == (0, 1)
    assert gain["oracle"] > gain["sharp"] > gain["blunt"] > gain["backwards"]
    assert gain["sharp"] > 0.8
    assert gain["backwards"] < 0.3
    assert seen == [1, 2, 3, 4, 5]
    again = worth(answers, {}, loads=(1.1,), seeds=1, setup=MACHINE)
    assert again == [rows[0], rows[-1]], "one seed, one result"


def test_order_gain_is_what_a_backlog_served_one_by_one_gains() -> None:
    random = np.random.default_rng(3)
    lengths = np.exp(random.normal(3.5, 0.6, 300)).astype(int) + 1
    answers = [Answer(60, int(length)) for length in lengths]
    guessed = lengths * np.exp(random.normal(0, 0.8, 300))

    def completion(order: np.ndarray) -> float:
        return float(np.cumsum(lengths[order]).mean())

    by_chance = completion(np.arange(300)) / 2 + completion(np.arange(300)[::-1]) / 2
    expected = (by_chance - completion(np.argsort(guessed))) / (by_chance - completion(np.argsort(lengths)))
    found = order_gain(answers, [[(0, law(float(guess), 0.2))] for guess in guessed])
    assert 0.3 < found < 0.9
    assert found == pytest.approx(expected, abs=0.005)
    assert order_gain(answers, [[(0, law(50.0, 0.2))]] * 300) == pytest.approx(0, abs=1e-9)


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="39 answers are too few"):
        worth([Answer(5, 5)] * 39, {})


def test_the_command_prints_and_writes_the_gain(tmp_path: Path) -> None:
    data = written(tmp_path / "answers.jsonl", made_up(60, 3))
    scores = tmp_path / "scores.json"
    arguments = ["evaluate", str(data), "--predictor", "history", "--folds", "2", "--split", "random"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(scores)], obj=measure_worth)
    assert result.exit_code == 0, result.output
    assert "worth in a scheduler" in result.output
    rows = json.loads(scores.read_text())["worth"]
    assert [row["predictor"] for row in rows if row["load"] == 1.1] == ["fcfs", "history", "oracle"]
    assert {row["dataset"] for row in rows} == {"answers.jsonl"}
    without = CliRunner().invoke(app, [*arguments, "--no-worth"], obj=measure_worth)
    assert "worth in a scheduler" not in without.output


def test_what_was_said_is_told_as_it_stood_at_each_number_of_tokens() -> None:
    rows = [Row("Name some fruits.", 5, tokens, "an apple, " * tokens) for tokens in (3, 60, 130, 260)]
    examples = make_examples(rows, Zeros(), seed=0, reads_text=True, text_pieces=4, at=(50, 100, 200))
    laws = np.log(examples.left)[:, None] + 0.3 * Z_LEVELS
    said = said_of(laws.astype(np.float32), examples, "exact")
    answers = answers_of(examples)
    assert len(said) == len(answers) == int(examples.first.sum())
    assert [[generated for generated, _ in each] for each in said] == [[0], [0, 50], [0, 50, 100], [0, 50, 100, 200]]
    for (_, tokens), each in zip(answers, said, strict=True):
        for generated, one in each:
            assert one.generated_tokens == generated
            middle = one.tokens[LEVELS.index(0.5)]
            assert middle == pytest.approx(tokens, rel=0.01)
