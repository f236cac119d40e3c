"""Fits `predictor_svc.models.later`: ridge on later questions, each judged by a fit without its share of prompts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from predictor_svc.head import HeadInputs
from predictor_svc.models.later import PLAIN_COLUMNS, Later, later_columns, plain_columns
from predictor_svc.models.levels import Array

PENALTIES = (10.0, 30.0, 100.0, 300.0)
LEAST = 100
"""Later questions that a line needs; with fewer it says what the prompt's location says."""


def fit_later(
    inputs: HeadInputs,
    left: Array,
    target: Array,
    shares: Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[Later, Array]:
    """Fits on the questions with tokens out.

    Args:
        inputs: n questions.
        left: log tokens left that the prompt foretells, unseen, [n, 2].
        target: log tokens left, [n].
        shares: pairs of (inside, outside) rows.

    Returns:
        The line, and for each question what a line says that was fitted without its share, [n].
    """
    plain = plain_columns(inputs, left)
    later = inputs.generated > 0
    columns = later_columns(plain, inputs, np.zeros(PLAIN_COLUMNS, np.float32), np.ones(PLAIN_COLUMNS, np.float32))
    if later.sum() < LEAST:
        weights = np.zeros(columns.shape[1], np.float32)
        weights[1] = 1.0
        line = Later(np.zeros(PLAIN_COLUMNS, np.float32), np.ones(PLAIN_COLUMNS, np.float32), weights)
        return line, left[:, 1].copy()
    mean, deviation = plain[later].mean(axis=0), plain[later].std(axis=0) + np.float32(1e-2)
    columns = later_columns(plain, inputs, mean, deviation)
    unseen = np.repeat(left[:, 1:2], len(PENALTIES), axis=1)
    for inside, outside in shares:
        seen, asked = inside[later[inside]], outside[later[outside]]
        if len(seen) and len(asked):
            unseen[asked] = columns[asked] @ _lines(columns[seen], target[seen])
    errors = ((unseen[later] - target[later, None]) ** 2).sum(axis=0)
    best = int(np.argmin(errors))
    return Later(mean, deviation, _lines(columns[later], target[later])[:, best]), unseen[:, best]


def _lines(columns: Array, target: Array) -> Array:
    """Ridge weights for each penalty, [columns, penalties]; the constant is not drawn to 0."""
    gram, seen = columns.T @ columns, columns.T @ target
    free = np.ones(len(gram), np.float32)
    free[-1] = 1e-3
    solved = [linalg.solve(gram + np.diag(penalty * free), seen, assume_a="pos") for penalty in PENALTIES]
    return np.column_stack(solved).astype(np.float32)
