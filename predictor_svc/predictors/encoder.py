"""Reads the prompt and the answer so far: a frozen sentence encoder and a small trained head (ELIS).

The prompt's vector and facts are kept, so that a later question about the same answer reads the new text only. Each
re-prediction sees how far the answer has come, and its interval narrows.

Choi et al., "ELIS: Efficient LLM Iterative Scheduling System with Response Length Predictor", 2025.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fairlead.config import ConfigError, PredictorConfig
from fairlead.lengths import MAX_TOKENS, LengthDistribution
from predictor_svc.encoder.session import Encoder
from predictor_svc.encoder.weights import find_encoder
from predictor_svc.features import PromptFacts, progress_facts, prompt_facts
from predictor_svc.head import LEVELS, Head, HeadInputs
from predictor_svc.predictors.base import Answer, Predictor, Question

SHIPPED_HEAD = Path(__file__).resolve().parents[1] / "demo_head"
KEPT_PROMPTS = 8192

Array: TypeAlias = NDArray[np.float32]
_Prompt: TypeAlias = tuple[Array, PromptFacts]


class EncoderPredictor(Predictor):
    """Sentence vectors and features in, quantiles of the tokens left out."""

    name: ClassVar[str] = "encoder"

    def __init__(self, encoder: Encoder, head: Head) -> None:
        if encoder.width != head.weights["ridge.prompt"].shape[0]:
            raise ConfigError(f"predictor.head: made for vectors of another width than the encoder's {encoder.width}")
        self._encoder = encoder
        self._head = head
        self._prompts: OrderedDict[bytes, _Prompt] = OrderedDict()

    @classmethod
    def open(cls, config: PredictorConfig) -> EncoderPredictor:
        """Loads the head, then the encoder that it was trained on."""
        # The matrices are small: more BLAS threads would only spin on the engine's cores.
        threadpool_limits(config.threads, user_api="blas")
        head = Head.loaded(config.head or SHIPPED_HEAD)
        default = type(config).model_fields["encoder"].default
        name = head.encoder
        if config.encoder not in (default, head.encoder):
            # Asked for by name: then it must be there, and be the one that the head was trained on.
            name = config.encoder
            find_encoder(name, head.encoder_sha256)
        encoder = Encoder.open(name, expected_sha256=head.encoder_sha256, threads=config.threads)
        return cls(encoder, head)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the head's weights, hex."""
        return self._head.sha256

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        """One distribution each, conditional on the tokens out."""
        prompts = [self._prompt(question) for question in questions]
        generated = np.array([question.generated_tokens for question in questions], np.float32)
        inputs = HeadInputs(
            prompt=np.stack([vector for vector, _ in prompts]),
            text=self._texts(questions),
            facts=[facts for _, facts in prompts],
            progress=np.stack([self._progress(q, f) for q, (_, f) in zip(questions, prompts, strict=True)]),
            generated=generated,
        )
        left = np.exp(np.clip(self._head.quantiles(inputs), -5, math.log(MAX_TOKENS)).astype(np.float64))
        return [_distribution(row, question) for row, question in zip(left, questions, strict=True)]

    def _prompt(self, question: Question) -> _Prompt:
        """From the cache; a tenant meets only what it put there itself, so no time taken tells of another's prompts."""
        text = f"{question.tenant}\0{question.prompt_tokens}\0{question.prompt}".encode()
        key = hashlib.blake2b(text, digest_size=16).digest()
        found = self._prompts.get(key)
        if found is None:
            vector = self._encoder.embed([question.prompt], max_tokens=self._head.prompt_pieces)[0]
            found = (vector, prompt_facts(question.prompt, question.prompt_tokens))
            self._prompts[key] = found
            if len(self._prompts) > KEPT_PROMPTS:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return found

    def _texts(self, questions: Sequence[Question]) -> Array:
        vectors = np.zeros((len(questions), self._encoder.width), np.float32)
        pieces = self._head.text_pieces if self._head.reads_text else 0
        asked = [row for row, q in enumerate(questions) if pieces and q.generated_tokens and q.generated_text]
        if asked:
            texts = [questions[row].generated_text for row in asked]
            vectors[asked] = self._encoder.embed(texts, max_tokens=pieces, side="end")
        return vectors

    def _progress(self, question: Question, facts: PromptFacts) -> Array:
        text = question.generated_text if self._head.reads_text else ""
        return progress_facts(facts, text, question.generated_tokens)


def _distribution(left: NDArray[np.float64], question: Question) -> LengthDistribution:
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
        source=EncoderPredictor.name,
    )
