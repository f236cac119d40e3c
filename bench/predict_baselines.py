"""The simple predictors that are to be passed: log tokens of the whole answer, from the prompt alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor

from predictor_svc.models.levels import Array
from predictor_svc.training.examples import Examples

PENALTIES = (1.0, 2.0)

Predicted: TypeAlias = Array
"""Log tokens, [n]."""


def prompt_length(train: Examples, test: Examples) -> Predicted:
    """A line through log prompt tokens."""
    return _ridge(_tokens(train), np.log1p(train.left), _tokens(test), (1e-3,))


def tfidf_ridge(train: Examples, test: Examples) -> Predicted:
    """TF-IDF of words and word pairs, ridge."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    seen = words.fit_transform(train.prompts)
    return _ridge(seen, np.log1p(train.left), words.transform(test.prompts), PENALTIES, solver="sparse_cg")


def minilm_ridge(train: Examples, test: Examples) -> Predicted:
    """Sentence vectors, ridge."""
    return _ridge(train.inputs.prompt, np.log1p(train.left), test.inputs.prompt, PENALTIES)


def minilm_mlp(train: Examples, test: Examples) -> Predicted:
    """Sentence vectors and prompt length, a network of one hidden layer."""
    scale = _tokens(train).std() + 1e-3

    def joined(of: Examples) -> Any:
        return np.column_stack((of.inputs.prompt * 10, (_tokens(of) - _tokens(train).mean()) / scale))

    target = np.log1p(train.left)
    network = MLPRegressor(hidden_layer_sizes=(64,), alpha=1e-2, early_stopping=True, max_iter=40, random_state=0)
    fitted = network.fit(joined(train), (target - target.mean()) / target.std())
    return np.asarray(fitted.predict(joined(test)) * target.std() + target.mean(), np.float32)


def _tokens(of: Examples) -> Array:
    return np.array([[one.numeric[0]] for one in of.inputs.facts], np.float32)


def _ridge(seen: Any, target: Array, asked: Any, penalties: Sequence[float], solver: str = "auto") -> Predicted:
    """Ridge with the penalty that does best in three inner folds."""

    def error(penalty: float) -> float:
        total = 0.0
        for inside, outside in KFold(3, shuffle=True, random_state=1).split(target):
            fitted = Ridge(penalty, solver=solver, tol=1e-3).fit(seen[inside], target[inside])
            total += float(((fitted.predict(seen[outside]) - target[outside]) ** 2).sum())
        return total

    best = min(penalties, key=error)
    return np.asarray(Ridge(best, solver=solver, tol=1e-3).fit(seen, target).predict(asked), np.float32)


BASELINES: Mapping[str, Callable[[Examples, Examples], Predicted]] = {
    "prompt-length": prompt_length,
    "tfidf-ridge": tfidf_ridge,
    "minilm-ridge": minilm_ridge,
    "minilm-mlp": minilm_mlp,
}
