"""The step-time model of one engine, fitted online from its own steps; pure, shared by both engines.

Weighted least squares with forgetting, kept as normal equations (the information form of recursive least squares)
and solved every few steps for non-negative coefficients. What recent steps do not show (no prefill for a while)
stays where it was, held by a weak pull towards the last solution.
"""

from __future__ import annotations

from itertools import combinations
from math import isfinite

from worker_svc.step_types import StepModel

__all__ = ["START_MODEL", "StepTimeFit"]

START_MODEL = StepModel(2.0, 0.02, 0.05, 0.0002)
"""A guess for the first steps, ms and ms per unit: a small model on a CPU."""

# Units in which the features are of one size, so that one pull strength suits all: a step, 100 prefill tokens,
# 10 decodes, 10,000 context tokens.
_UNITS = (1.0, 0.01, 0.1, 0.0001)
_SIZE = len(_UNITS)
_SUBSETS = [kept for size in range(_SIZE, 0, -1) for kept in combinations(range(_SIZE), size)]
_PULL = 1e-3
_OUTLIER = 3.0
_LEAST_EXPECTED = 0.1
"""Of a step's time: what is expected counts as no less, or a model far too low would give a weight without bound."""
_LARGEST_MS = 600_000.0
_SMALLEST_MS = 1e-3


class StepTimeFit:
    """Fits step time = c0 + c1 * prefill tokens + c2 * decodes + c3 * context tokens.

    Args:
        start: the model until enough steps are seen.
        forgetting: weight of a step against the next one, in (0, 1]; 0.998 remembers some 500 steps.
        solve_every: steps between two solutions.
    """

    def __init__(self, start: StepModel = START_MODEL, *, forgetting: float = 0.998, solve_every: int = 8) -> None:
        self._forgetting = forgetting
        self._solve_every = solve_every
        self._model = start
        self._solution = _scaled(start)
        self._matrix = [[0.0] * _SIZE for _ in range(_SIZE)]
        self._vector = [0.0] * _SIZE
        self._steps = 0
        self._error = 0.0
        self._error_weight = 0.0

    def observe(self, prefill_tokens: int, decodes: int, context_tokens: int, step_ms: float) -> None:
        """Learns from one step; a time that is not a number, negative or absurdly long is ignored."""
        if not isfinite(step_ms) or not _SMALLEST_MS <= step_ms <= _LARGEST_MS:
            return
        features = (1.0, prefill_tokens * _UNITS[1], decodes * _UNITS[2], context_tokens * _UNITS[3])
        expected_ms = sum(map(float.__mul__, features, self._solution))
        if self._steps >= self._solve_every:
            self._note_error(abs(step_ms - expected_ms) / step_ms)
        self._add(features, step_ms, self._weight(step_ms, expected_ms))
        self._steps += 1
        if self._steps % self._solve_every == 0 or self._steps == 1:
            self._solve()

    def model(self) -> StepModel:
        """The newest solution; no coefficient is negative."""
        return self._model

    @property
    def relative_error(self) -> float | None:
        """Mean of |measured - predicted| / measured over recent steps; None before the first prediction."""
        return self._error / self._error_weight if self._error_weight else None

    def _note_error(self, error: float) -> None:
        self._error = 0.98 * self._error + min(error, 10.0)
        self._error_weight = 0.98 * self._error_weight + 1.0

    def _weight(self, step_ms: float, expected_ms: float) -> float:
        """Relative errors count, so 1 / time²; far outliers pull with bounded force (Huber).

        The time is the expected one: by the measured one a step that happened to be short would weigh more than one
        that happened to be long, and the fit would lie below the mean by about twice the variance of their noise.
        """
        usual = self.relative_error
        if usual is None:
            return 1.0 / (step_ms * step_ms)
        scale_ms = max(expected_ms, _LEAST_EXPECTED * step_ms)
        weight = 1.0 / (scale_ms * scale_ms)
        bound_ms = _OUTLIER * max(usual, 0.05) * max(expected_ms, _SMALLEST_MS)
        residual_ms = abs(step_ms - expected_ms)
        return weight if residual_ms <= bound_ms else weight * bound_ms / residual_ms

    def _add(self, features: tuple[float, ...], step_ms: float, weight: float) -> None:
        keep = self._forgetting
        for i, feature in enumerate(features):
            weighted = weight * feature
            row = self._matrix[i]
            for j in range(i, _SIZE):
                row[j] = keep * row[j] + weighted * features[j]
            self._vector[i] = keep * self._vector[i] + weighted * step_ms

    def _solve(self) -> None:
        """Least squares over the coefficients that may be positive; the best feasible subset wins."""
        total = self._matrix[0][0]
        pull = _PULL * total
        matrix = [[self._matrix[min(i, j)][max(i, j)] for j in range(_SIZE)] for i in range(_SIZE)]
        vector = list(self._vector)
        for i in range(_SIZE):
            matrix[i][i] += pull
            vector[i] += pull * self._solution[i]
        best: tuple[float, list[float]] | None = None
        for kept in _SUBSETS:
            part = _solve_linear([[matrix[i][j] for j in kept] for i in kept], [vector[i] for i in kept])
            if part is None or min(part) < 0:
                continue
            gain = sum(value * vector[i] for value, i in zip(part, kept, strict=True))
            if best is None or gain > best[0]:
                solution = [0.0] * _SIZE
                for value, i in zip(part, kept, strict=True):
                    solution[i] = value
                best = (gain, solution)
            if len(kept) == _SIZE:
                break  # the unconstrained optimum is feasible
        if best is not None:
            self._solution = best[1]
            self._model = StepModel(*(value * unit for value, unit in zip(best[1], _UNITS, strict=True)))


def _scaled(model: StepModel) -> list[float]:
    coefficients = (
        model.c0_ms,
        model.c1_ms_per_prefill_token,
        model.c2_ms_per_decode,
        model.c3_ms_per_context_token,
    )
    return [value / unit for value, unit in zip(coefficients, _UNITS, strict=True)]


def _solve_linear(matrix: list[list[float]], vector: list[float]) -> list[float] | None:
    """Gaussian elimination of a small symmetric positive definite system; None where it is singular."""
    size = len(vector)
    for pivot in range(size):
        head = matrix[pivot][pivot]
        if head <= 1e-300 or not isfinite(head):
            return None
        for row in range(pivot + 1, size):
            factor = matrix[row][pivot] / head
            if factor:
                for column in range(pivot, size):
                    matrix[row][column] -= factor * matrix[pivot][column]
                vector[row] -= factor * vector[pivot]
    solution = [0.0] * size
    for row in range(size - 1, -1, -1):
        known = sum(matrix[row][column] * solution[column] for column in range(row + 1, size))
        solution[row] = (vector[row] - known) / matrix[row][row]
    return solution if all(map(isfinite, solution)) else None
