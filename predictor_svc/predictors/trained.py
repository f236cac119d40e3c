"""Predictors whose knowledge is one trained folder (`fairlead predictor train --predictor NAME`): one class a kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from fairlead.config import ConfigError, PredictorConfig
from fairlead.telemetry import get_logger
from predictor_svc.encoder.session import Encoder
from predictor_svc.head import HeadInputs
from predictor_svc.models.base import Model, Saved, load_model
from predictor_svc.models.ensemble import EnsembleModel
from predictor_svc.models.forest import ForestModel
from predictor_svc.models.levels import LEVELS, Array
from predictor_svc.models.rank import RankModel
from predictor_svc.models.retrieval import RetrievalModel
from predictor_svc.online.memories import Memories
from predictor_svc.predictors.base import Arrays, Observed, Predictor, Question
from predictor_svc.predictors.encoder import open_encoder
from predictor_svc.predictors.history import HistoryPredictor
from predictor_svc.predictors.reading import ReadingPredictor

SMOOTHS = True
_log = get_logger("trained")


class TrainedPredictor(ReadingPredictor):
    """Vectors and facts in, the model's law out."""

    model: ClassVar[type[Model]]

    def __init__(self, encoder: Encoder, saved: Saved) -> None:
        card: Mapping[str, Any] = saved.card
        super().__init__(
            encoder,
            prompt_pieces=int(card["prompt_pieces"]),
            text_pieces=int(card["text_pieces"]),
            reads_text=bool(card["reads_text"]),
            smooths=SMOOTHS,
        )
        self._saved = saved

    @classmethod
    def open(cls, config: PredictorConfig) -> Predictor:
        """Loads the folder `predictor.head`, then the encoder that the model was trained on."""
        threadpool_limits(config.threads, user_api="blas")
        saved = load_model(trained_folder(config, cls.name), [cls.model])
        return cls(open_encoder(config, str(saved.card["encoder"]), str(saved.card["encoder_sha256"])), saved)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model's tensors, hex."""
        return self._saved.sha256

    def quantiles(self, inputs: HeadInputs) -> Array:
        """The model's."""
        return self._saved.model.quantiles(inputs)


def trained_folder(config: PredictorConfig, name: str) -> Path:
    """The folder `predictor.head`; raises ConfigError where none is configured."""
    if config.head is None:
        raise ConfigError(
            f"predictor.head: {name!r} needs the folder of a trained model; "
            f"make one with: fairlead predictor train DATA --predictor {name} --out DIR"
        )
    return config.head


KINDS: tuple[type[Model], ...] = (EnsembleModel, ForestModel, RankModel, RetrievalModel)
"""Every model that a trained folder may hold."""


class EnsemblePredictor(TrainedPredictor):
    """The default: everything that is read, blended."""

    name: ClassVar[str] = "ensemble"
    model: ClassVar[type[Model]] = EnsembleModel

    @classmethod
    def open(cls, config: PredictorConfig) -> Predictor:
        """The trained folder; without one `history`, and says so."""
        if config.head is not None:
            return super().open(config)
        _log.warning(
            "no trained model: history answers, from the lengths that it sees",
            remedy="fairlead predictor train DATA --predictor ensemble --out DIR, then predictor.head: DIR",
        )
        return HistoryPredictor.open(config)


class ForestPredictor(TrainedPredictor):
    """A quantile forest."""

    name: ClassVar[str] = "forest"
    model: ClassVar[type[Model]] = ForestModel


class RankPredictor(TrainedPredictor):
    """A learned order, calibrated into laws."""

    name: ClassVar[str] = "rank"
    model: ClassVar[type[Model]] = RankModel


class RetrievalPredictor(TrainedPredictor):
    """Nearest neighbours; learns from outcomes whose prompt it was asked about, for each tenant apart."""

    name: ClassVar[str] = "retrieval"
    model: ClassVar[type[Model]] = RetrievalModel
    learns_text: ClassVar[bool] = True

    def __init__(self, encoder: Encoder, saved: Saved, *, share_text: bool = False) -> None:
        super().__init__(encoder, saved)
        self._memories = Memories(encoder.width, shared=share_text)

    @classmethod
    def open(cls, config: PredictorConfig) -> Predictor:
        """As every trained one; `predictor.share_text` says whether tenants share what is learned."""
        predictor = super().open(config)
        if isinstance(predictor, RetrievalPredictor):
            predictor._memories = Memories(predictor.width, shared=config.share_text)
        return predictor

    def law(self, questions: Sequence[Question], inputs: HeadInputs) -> Array:
        """Each tenant's from its own memory and the trained one."""
        model = self._saved.model
        result = np.empty((len(questions), len(LEVELS)), np.float32)
        for tenant in {question.tenant for question in questions}:
            rows = np.flatnonzero([question.tenant == tenant for question in questions])
            own = self._memories.of(tenant)
            part = inputs.take(rows)
            if own is not None and isinstance(model, RetrievalModel):
                result[rows] = model.quantiles_with(part, *own)
            else:
                result[rows] = model.quantiles(part)
        return result

    def observe(self, observed: Sequence[Observed]) -> int:
        """Remembers answers that ended by themselves and whose prompt is known; returns how many."""
        known = [one for one in observed if one.ended and one.prompt]
        for one in known:
            self._memories.add(one.tenant, self.vector(one.prompt), math.log(one.output_tokens))
        return len(known)

    def learned(self) -> Arrays:
        """Vectors of prompts, no text, and lengths, by tenant."""
        return self._memories.learned()

    def relearn(self, arrays: Arrays) -> None:
        """Takes them back."""
        if arrays:
            self._memories = Memories.restored(arrays, self.width, shared=self._memories.shared)
