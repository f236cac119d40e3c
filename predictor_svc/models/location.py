"""Where log length lies, from the prompt alone: ridge, kernel regression and nearest neighbours, each a column.

The kernel adds three views of two prompts: how near their vectors are (Gaussian), which words they share (linear in
hashed TF-IDF, so that it folds into one weight a word) and how near their numbers are (Gaussian). Asking costs one
product with the kept vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor_svc.features import PROMPT_NUMERIC, WIDE_BUCKETS, WORD_BUCKETS, PromptFacts
from predictor_svc.head import Head, standardised
from predictor_svc.models.base import Tensors
from predictor_svc.models.levels import Array

VECTOR_RATE = 1.0
NUMBER_RATE = 0.05
"""Rates of the Gaussians: of squared distance between vectors of length 1, and between standardised numbers."""

WORD_SHARE = 0.7
NUMBER_SHARE = 0.7
"""Weights of these views beside the vectors' 1."""

NEIGHBOURS = 20
SHARPNESS = 12.0
"""Neighbours are weighted by e^(12 cos)."""

LOCATION_COLUMNS = 4


@dataclass(frozen=True)
class Location:
    """Fitted on n kept prompts.

    Attributes:
        ridge: the tensors `ridge.*` of a head, without the prefix.
        vectors: of kept prompts, float32 [n, width].
        numbers: their standardised numbers, float32 [n, PROMPT_NUMERIC].
        lengths: their log tokens, float32 [n].
        alpha: the kernel's weight of each, float32 [n].
        words: the folded weight of each hashed word, [WIDE_BUCKETS].
        idf: of each hashed word, [WIDE_BUCKETS].
        bias: mean log length.
    """

    ridge: dict[str, Array]
    vectors: Array
    numbers: Array
    lengths: Array
    alpha: Array
    words: Array
    idf: Array
    bias: float

    def columns(self, prompt: Array, facts: Sequence[PromptFacts]) -> Array:
        """Ridge, kernel, neighbours' mean and their deviation, in log tokens; [n, LOCATION_COLUMNS]."""
        ridge = Head({f"ridge.{name}": value for name, value in self.ridge.items()}).location(prompt, facts)
        near = prompt @ self.vectors.T
        numbers = self.standard_numbers(facts)
        views = np.exp(2 * VECTOR_RATE * (near - 1)) + NUMBER_SHARE * gaussian(numbers, self.numbers, NUMBER_RATE)
        words = np.array([float(word_weights(one, self.idf) @ self.words[one.wide]) for one in facts], np.float32)
        kernel = views @ self.alpha + words + np.float32(self.bias)
        return np.column_stack((ridge, kernel, *neighbours(near, self.lengths))).astype(np.float32)

    def standard_numbers(self, facts: Sequence[PromptFacts]) -> Array:
        """Standardised numbers of prompts, [n, PROMPT_NUMERIC]."""
        return standardised(
            np.stack([one.numeric for one in facts]), self.ridge["mean"], self.ridge["deviation"] + np.float32(1e-6)
        )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As named arrays; vectors and word weights in half precision."""
        halves = {name: value.astype(np.float16) for name, value in self.ridge.items()}
        return {
            **{f"ridge.{name}": value for name, value in halves.items()},
            "vectors": self.vectors.astype(np.float16),
            "numbers": self.numbers.astype(np.float16),
            "lengths": self.lengths,
            "alpha": self.alpha,
            "words": self.words.astype(np.float16),
            "idf": self.idf.astype(np.float16),
            "bias": np.array([self.bias], np.float32),
        }

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Location:
        """From `tensors`; raises ValueError or KeyError for other names or shapes."""
        floats = {name: np.asarray(value, np.float32) for name, value in tensors.items()}
        kept, width = floats["vectors"].shape
        ridge = {name[6:]: value for name, value in floats.items() if name.startswith("ridge.")}
        shapes = {
            "numbers": (kept, PROMPT_NUMERIC),
            "lengths": (kept,),
            "alpha": (kept,),
            "words": (WIDE_BUCKETS,),
            "idf": (WIDE_BUCKETS,),
            "bias": (1,),
            "ridge.idf": (WORD_BUCKETS,),
            "ridge.words": (WORD_BUCKETS,),
            "ridge.prompt": (width,),
            "ridge.numeric": (PROMPT_NUMERIC,),
            "ridge.mean": (PROMPT_NUMERIC,),
            "ridge.deviation": (PROMPT_NUMERIC,),
            "ridge.bias": (1,),
        }
        for name, shape in shapes.items():
            if floats[name].shape != shape:
                raise ValueError(f"{name} has shape {floats[name].shape}, expected {shape}")
        return cls(
            ridge,
            floats["vectors"],
            floats["numbers"],
            floats["lengths"],
            floats["alpha"],
            floats["words"],
            floats["idf"],
            float(floats["bias"][0]),
        )


def gaussian(one: Array, other: Array, rate: float) -> Array:
    """e^(-rate |x - y|^2) of every pair, [n, m]."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return np.exp(-np.float32(rate) * np.maximum(squares, 0)).astype(np.float32)


def word_weights(facts: PromptFacts, idf: Array) -> Array:
    """TF-IDF weights of a prompt's words among `WIDE_BUCKETS`, of length 1 in all."""
    scaled = facts.wide_weights * idf[facts.wide]
    return np.asarray(scaled / max(float(np.linalg.norm(scaled)), 1e-9), np.float32)


def neighbours(near: Array, lengths: Array, *, apart: bool = False) -> tuple[Array, Array]:
    """Weighted mean and deviation of the nearest prompts' log lengths.

    Args:
        near: cosines, [n, kept].
        lengths: of the kept, [kept].
        apart: leave each row's own column out (n == kept), as one would not know it.
    """
    if apart:
        near = near.copy()
        np.fill_diagonal(near, -1)
    count = min(NEIGHBOURS, near.shape[1])
    chosen = np.argpartition(near, near.shape[1] - count, axis=1)[:, near.shape[1] - count :]
    weights = np.exp(SHARPNESS * (np.take_along_axis(near, chosen, axis=1) - 1))
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-30)
    values = lengths[chosen]
    mean = (weights * values).sum(axis=1)
    spread = np.sqrt(np.maximum((weights * (values - mean[:, None]) ** 2).sum(axis=1), 0))
    return mean.astype(np.float32), spread.astype(np.float32)
