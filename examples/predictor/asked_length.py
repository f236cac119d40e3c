"""A predictor of one's own: prompts often say how long an answer is to be. See docs/writing-a-predictor.md."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import ClassVar

from fairlead.config import PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.predictors.base import Answer, Observed, Predictor, Question

ASKED = re.compile(r"\b(\d{1,5})[ -](word|sentence|line)s?\b", re.IGNORECASE)
TOKENS = {"word": 1.4, "sentence": 25.0, "line": 15.0}
SPREAD = 0.4
"""Deviation in log tokens of an answer whose length was asked for."""
READ_CHARS = 20_000
UNKNOWN = LengthDistribution.lognormal(150.0, 1.0, source="asked_length")
KEPT, LEAST, MAX_MODELS = 500, 20, 100


class AskedLength(Predictor):
    """Reads "in 50 words" in the prompt; where nothing is asked for, says what the model's answers came to lately."""

    name: ClassVar[str] = "asked_length"

    def __init__(self) -> None:
        self._lengths: OrderedDict[str, deque[tuple[int, bool]]] = OrderedDict()

    @classmethod
    def open(cls, config: PredictorConfig) -> AskedLength:
        """Nothing to load."""
        del config
        return cls()

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """The whole length of each; who asks conditions it on the tokens that are out."""
        learned = {model: self._learned(model) for model in {question.model for question in questions}}
        return [
            (asked_for(question.prompt) or learned[question.model]).truncated(question.max_tokens)
            for question in questions
        ]

    def observe(self, observed: Sequence[Observed]) -> int:
        """Keeps the last lengths of each model, within bounds."""
        for one in observed:
            self._lengths.setdefault(one.model, deque(maxlen=KEPT)).append((one.output_tokens, one.ended))
            self._lengths.move_to_end(one.model)
        while len(self._lengths) > MAX_MODELS:
            self._lengths.popitem(last=False)
        return len(observed)

    def _learned(self, model: str) -> LengthDistribution:
        kept = self._lengths.get(model, ())
        if sum(ended for _, ended in kept) < LEAST:
            return UNKNOWN
        lengths, ended = zip(*kept, strict=True)
        return LengthDistribution.from_samples(lengths, ended=ended, source=self.name)


def asked_for(prompt: str) -> LengthDistribution | None:
    """What the last request for a length comes to; None where there is none."""
    found = ASKED.findall(prompt[-READ_CHARS:])
    if not found:
        return None
    number, unit = found[-1]
    return LengthDistribution.lognormal(max(1.0, int(number) * TOKENS[unit.lower()]), SPREAD, source=AskedLength.name)
