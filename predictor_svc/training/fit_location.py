"""Fits `predictor_svc.models.location`: what it says of each training prompt is what it would say unseen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.linalg.lapack import spotri  # pyright: ignore[reportAttributeAccessIssue]

from predictor_svc.features import WIDE_BUCKETS
from predictor_svc.head import HeadInputs, standardised
from predictor_svc.models.levels import Array
from predictor_svc.models.location import (
    NUMBER_RATE,
    NUMBER_SHARE,
    VECTOR_RATE,
    WORD_SHARE,
    Location,
    gaussian,
    neighbours,
    word_weights,
)
from predictor_svc.training.ridge import fit_ridge

MAX_KEPT = 6000
"""Prompts that the kernel keeps, drawn evenly; its cost in training grows with the cube, the ridge sees them all."""

CHOSEN_ON = 1500
PENALTIES = (0.3, 0.6, 1.0, 2.0, 4.0)


def fit_location(inputs: HeadInputs, log_length: Array, group: NDArray[np.int64], seed: int) -> tuple[Location, Array]:
    """Fits on first questions.

    Args:
        inputs: n first questions; prompt and facts are read.
        log_length: log of the answers' tokens, [n].
        group: equal for equal prompts, [n].
        seed: draws the kept prompts.

    Returns:
        The fitted columns, and for each example the columns of a fit that had not seen its answer, [n, 4].
    """
    ridge, unseen_ridge = fit_ridge(inputs.prompt, inputs.facts, log_length, group)
    plain = {name.removeprefix("ridge."): value for name, value in ridge.items()}
    count = len(log_length)
    random = np.random.default_rng(seed)
    kept = np.sort(random.permutation(count)[:MAX_KEPT])
    counts = np.bincount(np.concatenate([one.wide for one in inputs.facts]), minlength=WIDE_BUCKETS)
    idf = np.log((1 + count) / (1 + counts)).astype(np.float32) * (counts > 0)
    words = _sparse([(inputs.facts[i].wide, word_weights(inputs.facts[i], idf)) for i in kept.tolist()])
    facts = [inputs.facts[i] for i in kept.tolist()]
    numbers = standardised(
        np.stack([one.numeric for one in facts]), plain["mean"], plain["deviation"] + np.float32(1e-6)
    )
    vectors, target = inputs.prompt[kept], log_length[kept]
    near = vectors @ vectors.T
    gram = np.exp(2 * VECTOR_RATE * (near - 1)) + NUMBER_SHARE * gaussian(numbers, numbers, NUMBER_RATE)
    gram += WORD_SHARE * (words @ words.T).toarray()
    bias = float(target.mean())
    alpha, unseen_kernel = _solved(gram.astype(np.float32), target - np.float32(bias), random)
    folded = np.asarray(words.T @ alpha, np.float32).ravel() * np.float32(WORD_SHARE)
    location = Location(plain, vectors, numbers, target, alpha, folded, idf, bias)
    # As it will be saved, in half precision: trees must not fall apart over a rounding.
    location = Location.from_tensors(location.tensors())
    unseen = np.empty((count, 4), np.float32)
    beside = np.setdiff1d(np.arange(count), kept)
    if len(beside):
        unseen[beside] = location.columns(inputs.prompt[beside], [inputs.facts[i] for i in beside.tolist()])
    unseen[kept] = np.column_stack(
        (np.zeros(len(kept)), unseen_kernel + bias, *neighbours(near, target, apart=len(kept) > 1))
    )
    unseen[:, 0] = unseen_ridge
    return location, unseen


def _sparse(rows: list[tuple[NDArray[np.int32], Array]]) -> sparse.csr_matrix:
    columns = np.concatenate([columns for columns, _ in rows])
    starts = np.concatenate(([0], np.cumsum([len(columns) for columns, _ in rows])))
    values = np.concatenate([values for _, values in rows])
    return sparse.csr_matrix((values, columns, starts), shape=(len(rows), WIDE_BUCKETS))


def _solved(gram: Array, target: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """Kernel ridge weights, and each example's prediction by the others (leave one out, closed form)."""
    some = np.sort(random.permutation(len(target))[:CHOSEN_ON])
    small = gram[np.ix_(some, some)]
    errors = {penalty: _left_out(small, target[some], penalty)[1] for penalty in PENALTIES}
    best = min(PENALTIES, key=lambda penalty: float(((errors[penalty] - target[some]) ** 2).sum()))
    return _left_out(gram, target, best)


def _left_out(gram: Array, target: Array, penalty: float) -> tuple[Array, Array]:
    size = len(target)
    system = gram + np.float32(penalty) * np.eye(size, dtype=np.float32)
    factor, lower = linalg.cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
    alpha = linalg.cho_solve((factor, lower), target, check_finite=False)
    inverse, _ = spotri(factor, lower=1, overwrite_c=1)
    diagonal = np.maximum(np.diag(inverse), 1e-9)
    return np.asarray(alpha, np.float32), np.asarray(target - alpha / diagonal, np.float32)
