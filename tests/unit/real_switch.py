"""Recorded answers of two sets served one after the other through a calibrated predictor."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fairlead.lengths import LengthDistribution
from predictor_svc.calibration import CalibratedPredictor
from predictor_svc.models.base import Model, Saved
from predictor_svc.predictors.base import Observed, Question
from predictor_svc.predictors.trained import ForestPredictor
from predictor_svc.training.dataset import Row, read_recorded
from predictor_svc.training.examples import make_examples
from predictor_svc.training.fit_ensemble import TreeSettings, fit_forest
from tests.unit.test_predictors_models import CARD, BagOfWords

LAG = 50
FITTED = 1500


@dataclass(frozen=True)
class Switch:
    """Share of 90 % intervals that held: on the set that the predictor knows, just after the switch, 2,000 later."""

    before: float
    at_once: float
    after: float


def coverage_after_switch(folder: Path) -> Switch:
    """A forest that knows code answers serves them, then answers to general questions, then says how it did."""
    code = _rows(folder / "responses" / "gpteacher_codegen.jsonl.gz")
    other = _rows(folder / "responses" / "halueval_general.jsonl.gz")
    examples = make_examples(code[:FITTED], BagOfWords(), seed=0, reads_text=False, text_pieces=0, at=())  # type: ignore[arg-type]
    model: Model = fit_forest(examples, TreeSettings(shares=3, trees=8, rounds=10))
    card = {**CARD, "reads_text": False, "text_pieces": 0}
    predictor = CalibratedPredictor(ForestPredictor(BagOfWords(), Saved(model, card, "")))  # type: ignore[arg-type]
    known = _served(predictor, code[FITTED:])
    new = _served(predictor, other)
    return Switch(float(known[500:].mean()), float(new[:60].mean()), float(new[2000:].mean()))


def _rows(path: Path) -> list[Row]:
    rows = read_recorded(path, on_broken="refuse").rows
    return [rows[i] for i in np.random.default_rng(3).permutation(len(rows))]


def _served(predictor: CalibratedPredictor, rows: list[Row]) -> np.ndarray:
    held = np.zeros(len(rows), np.bool_)
    back: deque[Observed] = deque()
    for i, row in enumerate(rows):
        tokens = row.tokens
        (law,) = predictor.predict([Question("m", "a", True, row.prompt_tokens, 32_768, row.prompt)])
        assert isinstance(law, LengthDistribution)
        held[i] = law.quantile(0.05) <= tokens <= law.quantile(0.95)
        back.append(Observed("m", "a", True, row.prompt_tokens, tokens, True, predicted=law))
        if len(back) > LAG:
            predictor.observe([back.popleft()])
    predictor.observe(list(back))
    return held
