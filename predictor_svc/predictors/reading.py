"""What all predictors that read text share: vectors and facts of prompts kept, texts encoded, laws made and smoothed.

The prompt's vector and facts are kept, so that a later question about the same answer reads the new text only.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fairlead.lengths import MAX_TOKENS, LengthDistribution
from predictor_svc.encoder.session import Encoder
from predictor_svc.features import PromptFacts, progress_facts, prompt_facts
from predictor_svc.head import HeadInputs
from predictor_svc.models.levels import LEVELS, Array
from predictor_svc.predictors.base import Answer, Predictor, Question
from predictor_svc.smoothing import Smoother

KEPT_PROMPTS = 8192

_Prompt: TypeAlias = tuple[Array, PromptFacts]


class ReadingPredictor(Predictor):
    """Sentence vectors and features in, quantiles of the tokens left out.

    Args:
        encoder: gives the vectors.
        prompt_pieces: word pieces of the prompt that are read.
        text_pieces: word pieces of the answer's end that are encoded; 0: none.
        reads_text: whether what it asks was trained on answers' text.
        smooths: whether successive answers about one request are smoothed.
    """

    def __init__(
        self, encoder: Encoder, *, prompt_pieces: int, text_pieces: int, reads_text: bool, smooths: bool
    ) -> None:
        self._encoder = encoder
        self._prompt_pieces = prompt_pieces
        self._text_pieces = text_pieces if reads_text else 0
        self._reads_text = reads_text
        self._smoother = Smoother() if smooths else None
        self._prompts: OrderedDict[bytes, _Prompt] = OrderedDict()

    @abstractmethod
    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left at LEVELS, increasing; [n, len(LEVELS)]."""

    @property
    def width(self) -> int:
        """Of a vector."""
        return self._encoder.width

    def law(self, questions: Sequence[Question], inputs: HeadInputs) -> Array:
        """`quantiles`, where they depend on nothing else that a question says."""
        del questions
        return self.quantiles(inputs)

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """One distribution each, conditional on the tokens out."""
        if not questions:
            return []
        keys = [_key(question) for question in questions]
        prompts = [self._prompt(key, question) for key, question in zip(keys, questions, strict=True)]
        inputs = HeadInputs(
            prompt=np.stack([vector for vector, _ in prompts]),
            text=self._texts(questions),
            facts=[facts for _, facts in prompts],
            progress=np.stack([self._progress(q, f) for q, (_, f) in zip(questions, prompts, strict=True)]),
            generated=np.array([question.generated_tokens for question in questions], np.float32),
        )
        quantiles = self.law(questions, inputs)
        if self._smoother is not None:
            quantiles = self._smoother.smoothed(keys, questions, quantiles)
        left = np.exp(np.clip(quantiles, -5, math.log(MAX_TOKENS)).astype(np.float64))
        return [distribution_of(row, question, self.name) for row, question in zip(left, questions, strict=True)]

    def vector(self, prompt: str) -> Array:
        """The vector of a prompt, [width]."""
        return np.asarray(self._encoder.embed([prompt], max_tokens=self._prompt_pieces)[0], np.float32)

    def _prompt(self, key: bytes, question: Question) -> _Prompt:
        found = self._prompts.get(key)
        if found is None:
            found = (self.vector(question.prompt), prompt_facts(question.prompt, question.prompt_tokens))
            self._prompts[key] = found
            if len(self._prompts) > KEPT_PROMPTS:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return found

    def _texts(self, questions: Sequence[Question]) -> Array:
        vectors = np.zeros((len(questions), self._encoder.width), np.float32)
        pieces = self._text_pieces
        asked = [row for row, q in enumerate(questions) if pieces and q.generated_tokens and q.generated_text]
        if asked:
            texts = [questions[row].generated_text for row in asked]
            vectors[asked] = self._encoder.embed(texts, max_tokens=pieces, side="end")
        return vectors

    def _progress(self, question: Question, facts: PromptFacts) -> Array:
        text = question.generated_text if self._reads_text else ""
        return progress_facts(facts, text, question.generated_tokens)


def distribution_of(left: NDArray[np.float64], question: Question, source: str) -> LengthDistribution:
    """Quantiles of the tokens left become quantiles of the length; beyond the last the same decay goes on."""
    out = question.generated_tokens
    fall = math.log((1 - LEVELS[-2]) / (1 - LEVELS[-1]))
    rise = math.log(max((out + left[-1]) / (out + left[-2]), 1.0001))
    return LengthDistribution.from_quantiles(
        LEVELS,
        (out + left).tolist(),
        max(fall / rise, 1.2),
        generated_tokens=out,
        max_tokens=question.max_tokens,
        source=source,
    )


def _key(question: Question) -> bytes:
    """A tenant meets only what it put there itself, so no time taken tells of another's prompts."""
    text = f"{question.tenant}\0{question.prompt_tokens}\0{question.prompt}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
