"""The first stage: ridge regression of log length on words, vector and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from predictor_svc.features import WORD_BUCKETS, PromptFacts
from predictor_svc.head import standardised

ALPHAS = (1.0, 2.0, 4.0, 8.0)
INNER_FOLDS = 5
_NUMERIC_SCALE = np.float32(0.1)
"""Shrinks the numbers' share against words and vectors, all of length 1."""

Array: TypeAlias = NDArray[np.float32]


def fit_ridge(
    prompt: Array, facts: Sequence[PromptFacts], log_length: Array, group: NDArray[np.int64]
) -> tuple[dict[str, Array], Array]:
    """Fits the location of log length.

    Args:
        prompt: vectors, [n, width].
        facts: of the prompts, n.
        log_length: log of the answers' tokens, [n].
        group: equal for equal prompts, [n].

    Returns:
        The head's `ridge.*` tensors, and for each example the prediction of a fit that had not seen its prompt, [n].
    """
    numeric = np.stack([one.numeric for one in facts])
    mean, deviation = numeric.mean(axis=0), numeric.std(axis=0) + np.float32(1e-3)
    counts = np.bincount(np.concatenate([one.buckets for one in facts]), minlength=WORD_BUCKETS)
    idf = np.log((1 + len(facts)) / (1 + counts)).astype(np.float32)
    numbers = standardised(numeric, mean, deviation) * _NUMERIC_SCALE
    features = sparse.csr_matrix(sparse.hstack([_words(facts, idf), prompt, numbers]))
    alpha, unseen = _choose_alpha(features, log_length, group)
    fitted = _fit(features, log_length, alpha)
    weights = np.asarray(fitted.coef_, np.float32)
    width = prompt.shape[1]
    tensors = {
        "ridge.idf": idf,
        "ridge.words": weights[:WORD_BUCKETS],
        "ridge.prompt": weights[WORD_BUCKETS : WORD_BUCKETS + width],
        "ridge.numeric": weights[WORD_BUCKETS + width :] * _NUMERIC_SCALE,
        "ridge.mean": mean,
        "ridge.deviation": deviation,
        "ridge.bias": np.array([fitted.intercept_], np.float32),
    }
    return tensors, unseen


def _choose_alpha(features: sparse.csr_matrix, target: Array, group: NDArray[np.int64]) -> tuple[float, Array]:
    folds = min(INNER_FOLDS, len(np.unique(group)))
    if folds < 2:
        return ALPHAS[-1], np.full_like(target, target.mean())
    unseen = {alpha: np.empty_like(target) for alpha in ALPHAS}
    for train, test in GroupKFold(folds).split(target, groups=group):
        for alpha in ALPHAS:
            unseen[alpha][test] = _fit(features[train], target[train], alpha).predict(features[test])
    best = min(ALPHAS, key=lambda alpha: float(((unseen[alpha] - target) ** 2).sum()))
    return best, unseen[best]


def _fit(features: sparse.csr_matrix, target: Array, alpha: float) -> Ridge:
    return Ridge(alpha=alpha, solver="sparse_cg", tol=1e-4).fit(features, target)


def _words(facts: Sequence[PromptFacts], idf: Array) -> sparse.csr_matrix:
    columns = np.concatenate([one.buckets for one in facts])
    starts = np.concatenate(([0], np.cumsum([len(one.buckets) for one in facts])))
    values: list[Array] = []
    for one in facts:
        scaled = one.weights * idf[one.buckets]
        values.append(scaled / max(float(np.linalg.norm(scaled)), 1e-12))
    return sparse.csr_matrix((np.concatenate(values), columns, starts), shape=(len(facts), WORD_BUCKETS))
