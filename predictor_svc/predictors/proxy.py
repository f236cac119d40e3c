"""A small encoder fine-tuned on one model's answers: reads the prompt once, and is conditioned later on (SSJF)."""

from __future__ import annotations

from typing import ClassVar

from threadpoolctl import threadpool_limits

from fairlead.config import ConfigError, PredictorConfig
from predictor_svc.encoder.session import Encoder
from predictor_svc.models.base import Model, load_model
from predictor_svc.models.proxy import ProxyModel
from predictor_svc.predictors.trained import TrainedPredictor, trained_folder

ENCODER_FOLDER = "encoder"
"""Of the fine-tuned weights, beside the model's tensors."""


class ProxyPredictor(TrainedPredictor):
    """The fine-tuned encoder and its last layer."""

    name: ClassVar[str] = "proxy"
    model: ClassVar[type[Model]] = ProxyModel

    @classmethod
    def open(cls, config: PredictorConfig) -> ProxyPredictor:
        """Loads the folder `predictor.head` with the encoder in it."""
        threadpool_limits(config.threads, user_api="blas")
        folder = trained_folder(config, cls.name)
        saved = load_model(folder, [cls.model])
        sha256 = saved.card.get("proxy_sha256")
        if not isinstance(sha256, str):
            raise ConfigError(f"predictor.head: {folder}: the card does not name its fine-tuned encoder by hash")
        encoder = Encoder.open(str(folder / ENCODER_FOLDER), expected_sha256=sha256, threads=config.threads)
        return cls(encoder, saved)
