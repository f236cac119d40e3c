"""Nearest neighbours of the prompt's vector: what answers to similar prompts came to (ALISE).

The law is that of the neighbours' lengths, weighted by nearness, recalibrated on prompts that were left out; given the
tokens out it is conditioned on them. The memory is bounded; what came while serving is held beside it, by tenant.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from predictor_svc.head import LEVELS, HeadInputs
from predictor_svc.models.base import Model, Tensors, below, prefixed
from predictor_svc.models.levels import Array, given_out, increasing
from predictor_svc.models.recalibration import Recalibration

NEIGHBOURS = 40
SHARPNESS = 10.0
MAX_KEPT = 20_000


class RetrievalModel(Model):
    """Kept prompts and their lengths.

    Args:
        vectors: of kept prompts, of length 1, [n, width], oldest first.
        lengths: log tokens of their answers, [n].
        recalibration: from prompts that were left out.
    """

    kind: ClassVar[str] = "retrieval"

    def __init__(self, vectors: Array, lengths: Array, recalibration: Recalibration) -> None:
        # Kept as they are saved, in half precision: near ties then fall alike before and after.
        self._vectors = vectors[-MAX_KEPT:].astype(np.float16).astype(np.float32)
        self._lengths = np.asarray(lengths[-MAX_KEPT:], np.float32)
        self._recalibration = recalibration

    def __len__(self) -> int:
        return len(self._lengths)

    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left, [n, len(LEVELS)]."""
        whole = neighbour_quantiles(inputs.prompt @ self._vectors.T, self._lengths)
        return self._recalibration.applied(given_out(whole, inputs.generated), inputs.generated)

    def quantiles_with(self, inputs: HeadInputs, vectors: Array, lengths: Array) -> Array:
        """The same with answers beside its own: vectors [m, width] of length 1 and log tokens [m]."""
        near = np.concatenate((inputs.prompt @ self._vectors.T, inputs.prompt @ vectors.T), axis=1)
        whole = neighbour_quantiles(near, np.concatenate((self._lengths, lengths)))
        return self._recalibration.applied(given_out(whole, inputs.generated), inputs.generated)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The memory, vectors in half precision, and the recalibration."""
        return {
            "vectors": self._vectors.astype(np.float16),
            "lengths": self._lengths,
            **prefixed("recalibration", self._recalibration.tensors()),
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> RetrievalModel:
        """From `tensors`; raises ValueError or KeyError for other names or shapes."""
        vectors, lengths = tensors["vectors"], tensors["lengths"]
        if vectors.ndim != 2 or lengths.shape != (len(vectors),) or not len(vectors):
            raise ValueError("vectors and lengths: not one length a vector")
        return cls(vectors, lengths, Recalibration.from_tensors(below("recalibration", tensors)))


def neighbour_quantiles(near: Array, lengths: Array) -> Array:
    """Quantiles at LEVELS of the nearest kept lengths, weighted by nearness.

    Args:
        near: cosines, [n, kept].
        lengths: log tokens, [kept].
    """
    count = min(NEIGHBOURS, near.shape[1])
    chosen = np.argpartition(near, near.shape[1] - count, axis=1)[:, near.shape[1] - count :]
    weights = np.exp(SHARPNESS * (np.take_along_axis(near, chosen, axis=1) - 1))
    return weighted_quantiles(lengths[chosen], weights)


def weighted_quantiles(values: Array, weights: Array) -> Array:
    """Quantiles at LEVELS of each row's weighted values, lines between the middles of steps; [n, len(LEVELS)]."""
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    weights = np.maximum(np.take_along_axis(weights, order, axis=1), 1e-12)
    reached = np.cumsum(weights, axis=1) - weights / 2
    reached /= weights.sum(axis=1, keepdims=True)
    rows = [np.interp(LEVELS, one, value) for one, value in zip(reached, values, strict=True)]
    return increasing(np.array(rows, np.float32).reshape(len(values), len(LEVELS)))
