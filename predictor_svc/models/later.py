"""Where the tokens left lie once some are out: a line through the vectors, the progress and what the prompt foretold.

Trees see the main axes of the vectors only; this sees them whole. At the first question it says what the prompt's
location says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictor_svc.features import PROGRESS_NUMERIC, PROMPT_NUMERIC
from predictor_svc.head import HeadInputs, standardised
from predictor_svc.models.levels import Array, Tensors

FORETOLD = 2
"""Columns that the prompt's location gives: log tokens left by ridge and by kernel."""

PLAIN_COLUMNS = FORETOLD + 1 + PROMPT_NUMERIC + PROGRESS_NUMERIC
VECTOR_SCALE = np.float32(3.0)


@dataclass(frozen=True)
class Later:
    """Fitted on later questions.

    Attributes:
        mean, deviation: of the plain columns, [PLAIN_COLUMNS].
        weights: of standardised plain columns, then both vectors, then 1; [PLAIN_COLUMNS + 2 width + 1].
    """

    mean: Array
    deviation: Array
    weights: Array

    def column(self, inputs: HeadInputs, left: Array) -> Array:
        """log tokens left, [n]; `left` [n, 2] is what the prompt's location leaves."""
        said = later_columns(plain_columns(inputs, left), inputs, self.mean, self.deviation) @ self.weights
        return np.where(inputs.generated > 0, said, left[:, 1]).astype(np.float32)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """As named arrays."""
        return {"mean": self.mean, "deviation": self.deviation, "weights": self.weights}

    @classmethod
    def from_tensors(cls, tensors: Tensors, width: int) -> Later:
        """From `tensors`; raises ValueError for other shapes."""
        mean, deviation, weights = (np.asarray(tensors[name], np.float32) for name in ("mean", "deviation", "weights"))
        if mean.shape != (PLAIN_COLUMNS,) or deviation.shape != mean.shape or (deviation <= 0).any():
            raise ValueError("later: mean and deviation of other columns")
        if weights.shape != (PLAIN_COLUMNS + 2 * width + 1,):
            raise ValueError(f"later.weights has shape {weights.shape}")
        return cls(mean, deviation, weights)


def plain_columns(inputs: HeadInputs, left: Array) -> Array:
    """What the line sees beside the vectors, [n, PLAIN_COLUMNS]."""
    numeric = np.stack([one.numeric for one in inputs.facts])
    return np.column_stack((left, np.log1p(inputs.generated), numeric, inputs.progress)).astype(np.float32)


def later_columns(plain: Array, inputs: HeadInputs, mean: Array, deviation: Array) -> Array:
    """Everything that the line sees, [n, PLAIN_COLUMNS + 2 width + 1]."""
    vectors = np.concatenate((inputs.prompt, inputs.text), axis=1) * VECTOR_SCALE
    ones = np.ones((len(plain), 1), np.float32)
    return np.concatenate((standardised(plain, mean, deviation), vectors, ones), axis=1)
