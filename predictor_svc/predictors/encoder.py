"""Reads the prompt and the answer so far: a frozen sentence encoder and a small trained head (ELIS).

Each re-prediction sees how far the answer has come, and its interval narrows.

Choi et al., "ELIS: Efficient LLM Iterative Scheduling System with Response Length Predictor", 2025.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from threadpoolctl import threadpool_limits

from fairlead.config import ConfigError, PredictorConfig
from predictor_svc.encoder.session import Encoder
from predictor_svc.encoder.weights import find_encoder
from predictor_svc.head import Head, HeadInputs
from predictor_svc.models.levels import Array
from predictor_svc.predictors.reading import ReadingPredictor

SHIPPED_HEAD = Path(__file__).resolve().parents[1] / "demo_head"


class EncoderPredictor(ReadingPredictor):
    """A head asked about vectors and facts."""

    name: ClassVar[str] = "encoder"

    def __init__(self, encoder: Encoder, head: Head) -> None:
        if encoder.width != head.weights["ridge.prompt"].shape[0]:
            raise ConfigError(f"predictor.head: made for vectors of another width than the encoder's {encoder.width}")
        super().__init__(
            encoder,
            prompt_pieces=head.prompt_pieces,
            text_pieces=head.text_pieces,
            reads_text=head.reads_text,
            smooths=False,
        )
        self._head = head

    @classmethod
    def open(cls, config: PredictorConfig) -> EncoderPredictor:
        """Loads the head, then the encoder that it was trained on."""
        # The matrices are small: more BLAS threads would only spin on the engine's cores.
        threadpool_limits(config.threads, user_api="blas")
        head = Head.loaded(config.head or SHIPPED_HEAD)
        return cls(open_encoder(config, head.encoder, head.encoder_sha256), head)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the head's weights, hex."""
        return self._head.sha256

    def quantiles(self, inputs: HeadInputs) -> Array:
        """The head's."""
        return self._head.quantiles(inputs)


def open_encoder(config: PredictorConfig, trained_on: str, sha256: str) -> Encoder:
    """The encoder that a model was trained on; raises ConfigError where it is nowhere or the configured one another."""
    default = type(config).model_fields["encoder"].default
    name = trained_on
    if config.encoder not in (default, trained_on):
        # Asked for by name: then it must be there, and be the one that the model was trained on.
        name = config.encoder
        find_encoder(name, sha256)
    return Encoder.open(name, expected_sha256=sha256, threads=config.threads)
