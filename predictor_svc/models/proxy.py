"""What a fine-tuned encoder's vector says of the length: a location with its spread, or percentile classes (SSJF).

Qiu et al., "Efficient Interactive LLM Serving with Proxy Model-based Sequence Length Prediction", 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from predictor_svc.head import HeadInputs
from predictor_svc.models.base import Model, below, prefixed
from predictor_svc.models.forest import bin_quantiles, checked_edges
from predictor_svc.models.levels import LEVELS, Array, Tensors, given_out
from predictor_svc.models.recalibration import Recalibration


@dataclass(frozen=True)
class ProxyModel(Model):
    """The last layer; the vectors that it is asked about come from the fine-tuned encoder.

    Attributes:
        weights: [width, outputs]; one output is a location of log tokens, more are classes.
        bias: [outputs].
        edges: of the classes in log tokens, [outputs + 1]; of a location, quantiles of its error, [len(LEVELS)].
        recalibration: from prompts that it had not seen.
    """

    kind: ClassVar[str] = "proxy"

    weights: Array
    bias: Array
    edges: Array
    recalibration: Recalibration

    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left, [n, len(LEVELS)]."""
        whole = whole_law(inputs.prompt @ self.weights + self.bias, self.edges)
        return self.recalibration.applied(given_out(whole, inputs.generated), inputs.generated)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The layer, its edges and the recalibration."""
        return {
            "weights": self.weights,
            "bias": self.bias,
            "edges": self.edges,
            **prefixed("recalibration", self.recalibration.tensors()),
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> ProxyModel:
        """From `tensors`; raises ValueError or KeyError for other names or shapes."""
        weights, bias = np.asarray(tensors["weights"], np.float32), np.asarray(tensors["bias"], np.float32)
        if weights.ndim != 2 or bias.shape != (weights.shape[1],) or not len(bias):
            raise ValueError("weights and bias: shapes that do not fit")
        outputs = len(LEVELS) - 1 if len(bias) == 1 else len(bias)
        edges = checked_edges(tensors["edges"], outputs)
        return cls(weights, bias, edges, Recalibration.from_tensors(below("recalibration", tensors)))


def whole_law(out: Array, edges: Array) -> Array:
    """Quantiles of log tokens of the whole answer from the last layer's outputs, [n, len(LEVELS)]."""
    if out.shape[1] == 1:
        return np.asarray(out + edges, np.float32)
    shares = np.exp(out - out.max(axis=1, keepdims=True))
    return bin_quantiles(np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32), edges)
