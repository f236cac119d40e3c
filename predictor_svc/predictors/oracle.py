"""The true length, where an operator told it: the bound against which predictors are measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fairlead.config import PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.predictors.base import Answer, CannotPredict, Predictor, Question


class OraclePredictor(Predictor):
    """Answers with the question's length hint; a question without one is refused."""

    name: ClassVar[str] = "oracle"
    calibrated: ClassVar[bool] = False

    @classmethod
    def open(cls, config: PredictorConfig) -> OraclePredictor:
        """Nothing to load."""
        del config
        return cls()

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """A point at each hint; a hint that the answer has already passed says "any moment now"."""
        return [_answer(question) for question in questions]


def _answer(question: Question) -> Answer:
    hint = question.length_hint_tokens
    if not hint:
        return CannotPredict("the oracle needs length_hint_tokens, which an operator's request may carry")
    length = max(hint, question.generated_tokens + 1)
    return LengthDistribution.from_point(length, source=OraclePredictor.name).truncated(question.max_tokens)
