"""Least squares for step time = c0 + c1 * prefill tokens + c2 * decodes + c3 * context tokens, none negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fairlead.lengths import Floats
from fairlead.steps import StepModel

OUTLIER = 4.0
"""Steps further off than so many median errors are left out of the second fit: somebody else had the CPU."""

LEAST_FITTED = 0.1
"""Of a measured time: a fitted one counts as no less, so that no weight is without bound."""


@dataclass(frozen=True, slots=True)
class Step:
    """One measured step: the work in it and how long it took."""

    prefill_tokens: int
    decodes: int
    context_tokens: int
    ms: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A model and how well it fits.

    Attributes:
        error: mean of |measured - fitted| / measured, over all steps; `prefill_error`, `decode_error` over those with
            prefill and without (None where there are none).
        steps, left_out: how many were measured, and how many of them were outliers.
    """

    model: StepModel
    error: float
    prefill_error: float | None
    decode_error: float | None
    steps: int
    left_out: int


def fit_steps(steps: Sequence[Step]) -> Fit:
    """Fits relative errors, once more without outliers and relative to the fitted times.

    Relative to the measured ones, steps that happened to be short would weigh more: a fit below the mean.

    Raises:
        ValueError: fewer than eight steps, or a time that is not positive.
    """
    if len(steps) < 8 or any(step.ms <= 0 for step in steps):
        raise ValueError(f"{len(steps)} steps: at least 8 with positive times are needed to fit four coefficients")
    work = np.array([(1.0, step.prefill_tokens, step.decodes, step.context_tokens) for step in steps])
    times = np.array([step.ms for step in steps])
    found = _solve(work, times, times)
    errors = np.abs(work @ found - times) / times
    kept = errors <= OUTLIER * max(float(np.median(errors)), 1e-6)
    if kept.sum() >= 8:
        found = _solve(work[kept], times[kept], np.maximum(work[kept] @ found, LEAST_FITTED * times[kept]))
    errors = np.abs(work @ found - times) / times
    prefill = work[:, 1] > 0
    return Fit(
        StepModel(*(float(value) for value in found)),
        float(errors.mean()),
        float(errors[prefill].mean()) if prefill.any() else None,
        float(errors[~prefill].mean()) if not prefill.all() else None,
        len(steps),
        int((~kept).sum()),
    )


def _solve(work: Floats, times: Floats, scale: Floats) -> Floats:
    """The best solution of all those in which some coefficients are 0 and none is negative; errors over `scale`."""
    scaled, wanted, size = work / scale[:, None], times / scale, work.shape[1]
    units = np.maximum(np.linalg.norm(scaled, axis=0), 1e-12)
    best: tuple[float, Floats] = (np.inf, np.zeros(size))
    for count in range(size, 0, -1):
        for kept in combinations(range(size), count):
            columns = list(kept)
            part = np.linalg.lstsq(scaled[:, columns] / units[columns], wanted, rcond=None)[0]
            if part.min() < 0:
                continue
            solution = np.zeros(size)
            solution[columns] = part / units[columns]
            loss = float(np.sum((scaled @ solution - wanted) ** 2))
            if loss < best[0]:
                best = (loss, solution)
    return best[1]
