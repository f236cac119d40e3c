"""The columns that trees ask about: where the prompt's length lies, facts, progress, the main axes of vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictor_svc.features import PROGRESS_NUMERIC, PROMPT_NUMERIC
from predictor_svc.head import HeadInputs
from predictor_svc.models.base import below, prefixed
from predictor_svc.models.later import Later
from predictor_svc.models.levels import Array, Tensors
from predictor_svc.models.location import LOCATION_COLUMNS

PROMPT_AXES = 24
TEXT_AXES = 12


@dataclass(frozen=True)
class Design:
    """Projections of the vectors on their main axes.

    Attributes:
        prompt_axes: [width, PROMPT_AXES].
        text_axes: [width, TEXT_AXES].
        later: what is left once tokens are out.
    """

    prompt_axes: Array
    text_axes: Array
    later: Later

    @property
    def columns(self) -> int:
        """How many columns `matrix` has."""
        axes = self.prompt_axes.shape[1] + self.text_axes.shape[1]
        return LOCATION_COLUMNS + 4 + PROMPT_NUMERIC + PROGRESS_NUMERIC + axes

    def locations(self, inputs: HeadInputs, location: Array) -> Array:
        """log tokens left by ridge, kernel and the later line, [n, 3]; `location` as `Location.columns` gives it."""
        left = left_of(location[:, :2], inputs.generated)
        return np.column_stack((left, self.later.column(inputs, left))).astype(np.float32)

    def matrix(self, inputs: HeadInputs, location: Array, locations: Array) -> Array:
        """The columns, [n, columns]; `locations` as the method of that name gives them."""
        numeric = np.stack([one.numeric for one in inputs.facts])
        return np.column_stack(
            (
                location,
                locations,
                np.log1p(inputs.generated),
                numeric,
                inputs.progress,
                inputs.prompt @ self.prompt_axes,
                inputs.text @ self.text_axes,
            )
        ).astype(np.float32)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """As named arrays."""
        axes = {"prompt_axes": self.prompt_axes, "text_axes": self.text_axes}
        return {**axes, **prefixed("later", self.later.tensors())}

    @classmethod
    def from_tensors(cls, tensors: Tensors) -> Design:
        """From `tensors`; raises ValueError for other shapes."""
        prompt, text = np.asarray(tensors["prompt_axes"], np.float32), np.asarray(tensors["text_axes"], np.float32)
        if prompt.ndim != 2 or text.ndim != 2 or len(prompt) != len(text):
            raise ValueError("design: axes of different widths")
        return cls(prompt, text, Later.from_tensors(below("later", tensors), len(prompt)))


def left_of(location: Array, generated: Array) -> Array:
    """log of the tokens left if the whole length is where `location` says; [n, columns]."""
    return np.log(np.maximum(np.exp(np.clip(location, 0, 14)) - generated[:, None], 1.0)).astype(np.float32)
