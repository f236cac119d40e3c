"""Every predictor that is fitted on recorded answers, by name, behind one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from fairlead.config import PredictorConfig
from fairlead.length_batch import LengthBatch
from fairlead.lengths import LengthDistribution
from predictor_svc.head import LEVELS, HeadInputs
from predictor_svc.models.levels import Array, increasing
from predictor_svc.predictors.base import Observed, Question
from predictor_svc.predictors.history import HistoryPredictor
from predictor_svc.training.examples import Examples
from predictor_svc.training.fit_ensemble import (
    TreeSettings,
    ensemble_of,
    fit_ensemble,
    fit_forest,
    forest_of,
    grow,
)

Progress: TypeAlias = Callable[[int, int], None]

PROXY_EPOCHS = 8
"""At most: each costs a pass of the encoder over all prompts, and two without gain end it."""


@dataclass(frozen=True)
class FitSettings:
    """How to fit, whatever is fitted.

    Attributes:
        seed: of every random choice.
        epochs: at most, of what is fitted in epochs.
        members: networks of an `encoder` head that are averaged.
        loss: of `rank` "listmle" or "margin", of `proxy` "classes" or "regression"; "" is each one's first.
        encoder: Hugging Face id or folder that `proxy` is tuned from.
    """

    seed: int = 0
    epochs: int = 60
    members: int = 3
    loss: str = ""
    encoder: str = PredictorConfig.model_fields["encoder"].default


class Fitted(Protocol):
    """What a fit gives: quantiles of log tokens left at LEVELS, [n, len(LEVELS)]."""

    def quantiles(self, inputs: HeadInputs) -> Array:
        """For n questions."""
        ...


class FittedHistory:
    """The `history` predictor itself, fed with the training answers: what every other one is measured against."""

    def __init__(self, examples: Examples) -> None:
        self._predictor = HistoryPredictor.open(PredictorConfig())
        opening = examples.take(np.flatnonzero(examples.first))
        self._predictor.observe(
            [
                Observed("model", "tenant", True, tokens, int(left), True)
                for tokens, left in zip(_prompt_tokens(opening.inputs), opening.left.tolist(), strict=True)
            ]
        )

    def quantiles(self, inputs: HeadInputs) -> Array:
        """The group's law, given the tokens out."""
        questions = [Question("model", "tenant", True, tokens, 1_000_000) for tokens in _prompt_tokens(inputs)]
        answers = [answer for answer in self._predictor.predict(questions) if isinstance(answer, LengthDistribution)]
        batch = LengthBatch(answers)
        generated = inputs.generated.astype(np.float64)
        left = np.column_stack([batch.quantile(level, generated) for level in LEVELS]) - generated[:, None]
        return increasing(np.log(np.maximum(left, 0.5)))


def fit(name: str, examples: Examples, settings: FitSettings, step: Progress | None = None) -> Fitted:
    """Fits the predictor of that name.

    Raises:
        ValueError: no such predictor, or too few prompts for it.
    """
    if name not in FITS:
        raise ValueError(f"{name!r} can't be fitted; these can: {', '.join(FITS)}")
    return FITS[name](examples, settings, step)


def fit_several(names: Sequence[str], examples: Examples, settings: FitSettings) -> dict[str, Fitted]:
    """`fit` for each name, with what several of them need grown once."""
    trees = TreeSettings(seed=settings.seed)
    shared = {"ensemble", "forest", "rank"} & set(names)
    fitted: dict[str, Fitted] = {}
    if len(shared) > 1:
        from predictor_svc.training.fit_rank import fit_rank  # noqa: PLC0415  (torch is slow to import)

        grown = grow(examples, trees, boosting="ensemble" in shared, step=None)
        located = (grown.location, grown.unseen_location[np.flatnonzero(examples.first)])
        if "ensemble" in shared:
            fitted["ensemble"] = ensemble_of(grown, examples, trees)
        if "forest" in shared:
            fitted["forest"] = forest_of(grown, examples)
        if "rank" in shared:
            fitted["rank"] = fit_rank(examples, settings.seed, _rank_loss(settings), located)
    return {name: fitted[name] if name in fitted else fit(name, examples, settings) for name in names}


def _rank_loss(settings: FitSettings) -> Literal["listmle", "margin"]:
    return "margin" if settings.loss == "margin" else "listmle"


def _encoder(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    from predictor_svc.training.fit import Settings, fit_head  # noqa: PLC0415  (torch is slow to import)

    chosen = Settings(seed=settings.seed, epochs=settings.epochs, members=settings.members)

    def on_epoch(member: int, epoch: int, _loss: float) -> None:
        if step is not None:
            step(member * settings.epochs + epoch + 1, settings.members * settings.epochs)

    return fit_head(examples, chosen, on_epoch)


def _rank(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    from predictor_svc.training.fit_rank import fit_rank  # noqa: PLC0415

    del step
    return fit_rank(examples, settings.seed, _rank_loss(settings))


def _retrieval(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    from predictor_svc.training.fit_rank import fit_retrieval  # noqa: PLC0415

    del step
    return fit_retrieval(examples, settings.seed)


def _proxy(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    from predictor_svc.training.fit_proxy import fit_proxy  # noqa: PLC0415

    target = "regression" if settings.loss == "regression" else "classes"
    epochs = min(settings.epochs, PROXY_EPOCHS)
    return fit_proxy(examples, settings.encoder, seed=settings.seed, epochs=epochs, target=target, step=step)


def _history(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    del settings, step
    return FittedHistory(examples)


def _forest(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    return fit_forest(examples, TreeSettings(seed=settings.seed), step)


def _ensemble(examples: Examples, settings: FitSettings, step: Progress | None) -> Fitted:
    return fit_ensemble(examples, TreeSettings(seed=settings.seed), step)


def _prompt_tokens(inputs: HeadInputs) -> list[int]:
    return [round(float(np.expm1(one.numeric[0]))) for one in inputs.facts]


FITS: Mapping[str, Callable[[Examples, FitSettings, Progress | None], Fitted]] = {
    "history": _history,
    "encoder": _encoder,
    "rank": _rank,
    "retrieval": _retrieval,
    "proxy": _proxy,
    "forest": _forest,
    "ensemble": _ensemble,
}
"""By the names of the entry points."""
