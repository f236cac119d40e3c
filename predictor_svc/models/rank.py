"""A learned order, and the law that goes with each place in it (learning to rank; PARS).

A small network gives each prompt a score, trained only to put pairs or lists in the right order. Held-out answers say
which law of lengths each score stands for: quantiles of the answers with the nearest scores, between 64 places.

Fu et al., "Efficient LLM Scheduling by Learning to Rank", 2024; "PARS: Low-Latency LLM Serving via Pairwise
Learning-to-Rank", 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from predictor_svc.features import PromptFacts
from predictor_svc.head import LEVELS, HeadInputs
from predictor_svc.models.base import Model, Tensors, below, prefixed
from predictor_svc.models.levels import Array, given_out, increasing
from predictor_svc.models.location import LOCATION_COLUMNS, Location
from predictor_svc.models.recalibration import Recalibration

_NETWORK = ("mean", "deviation", "dense", "prompt", "bias1", "out", "skip")


@dataclass(frozen=True)
class RankModel(Model):
    """Scores and their laws.

    Attributes:
        location: columns that the network sees beside the vector.
        network: mean, deviation [c]; dense [c, h], prompt [width, h], bias1 [h], out [h], skip [c].
        scores: places, increasing, [m].
        laws: quantiles of log tokens at each place, [m, len(LEVELS)].
        recalibration: for the tokens left later on.
    """

    kind: ClassVar[str] = "rank"

    location: Location
    network: dict[str, Array]
    scores: Array
    laws: Array
    recalibration: Recalibration

    def score(self, prompt: Array, facts: Sequence[PromptFacts]) -> Array:
        """The place of each prompt: longer answers higher; [n]."""
        return network_score(self.network, rank_columns(self.location.columns(prompt, facts), facts), prompt)

    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left, [n, len(LEVELS)]."""
        whole = laws_at(self.score(inputs.prompt, inputs.facts), self.scores, self.laws)
        return self.recalibration.applied(given_out(whole, inputs.generated), inputs.generated)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All parts, each under its own prefix."""
        return {
            **prefixed("location", self.location.tensors()),
            **prefixed("network", self.network),
            **prefixed("recalibration", self.recalibration.tensors()),
            "scores": self.scores,
            "laws": self.laws,
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> RankModel:
        """From `tensors`; raises ValueError or KeyError for other names or shapes."""
        network = {name: np.asarray(tensors[f"network.{name}"], np.float32) for name in _NETWORK}
        columns, hidden = network["dense"].shape
        expected = {
            "mean": (columns,),
            "deviation": (columns,),
            "bias1": (hidden,),
            "out": (hidden,),
            "skip": (columns,),
        }
        scores, laws = np.asarray(tensors["scores"], np.float32), np.asarray(tensors["laws"], np.float32)
        sound = all(network[name].shape == shape for name, shape in expected.items())
        sound = sound and network["prompt"].ndim == 2 and network["prompt"].shape[1] == hidden
        sound = (
            sound and laws.shape == (len(scores), len(LEVELS)) and len(scores) > 0 and network["deviation"].min() > 0
        )
        if not sound or (np.diff(scores) < 0).any():
            raise ValueError("rank: shapes that do not fit, or scores that do not increase")
        location = Location.from_tensors(below("location", tensors))
        recalibration = Recalibration.from_tensors(below("recalibration", tensors))
        return cls(location, network, scores, laws, recalibration)


def rank_columns(location: Array, facts: Sequence[PromptFacts]) -> Array:
    """What the network sees beside the vector, [n, columns]."""
    return np.column_stack((location[:, :LOCATION_COLUMNS], np.stack([one.numeric for one in facts])))


def network_score(network: dict[str, Array], columns: Array, prompt: Array) -> Array:
    """The network's score, [n]; columns as `rank_columns` gives them."""
    dense = np.clip((columns - network["mean"]) / network["deviation"], -5, 5)
    hidden = np.maximum(dense @ network["dense"] + prompt @ network["prompt"] + network["bias1"], 0)
    return np.asarray(hidden @ network["out"] + dense @ network["skip"], np.float32)


def laws_at(score: Array, scores: Array, laws: Array) -> Array:
    """Laws between the two nearest places, [n, len(LEVELS)]."""
    columns = [np.interp(score, scores, laws[:, level]) for level in range(laws.shape[1])]
    return increasing(np.column_stack(columns))
