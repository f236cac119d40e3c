"""Keeps successive answers about one request from churning: Bayes' rule over bins of the tokens left (TRAIL).

The law that was told last, given the tokens that came since, is the prior; what the predictor says now is the evidence.
Both come from the same prompt, so they are no independent witnesses: their densities are multiplied with exponents that
add up to 1 (a geometric pool), which moves towards the new word without becoming surer than either.

Shahout et al., "Don't Stop Me Now: Embedding Based Scheduling for LLMs" (TRAIL), 2024, section 3.3.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictor_svc.models.forest import bin_quantiles
from predictor_svc.models.levels import Array, given_out, increasing, normal_upper, z_at
from predictor_svc.predictors.base import Question

NEW_SHARE = 0.75
"""Exponent of the new word; the prior has the rest."""

KEPT = 8192
BINS = 96


@dataclass(frozen=True)
class _Told:
    """What was said last about a request: after `tokens`, `chars` of text with that hash, log of the whole length."""

    tokens: int
    chars: int
    digest: bytes
    whole: Array


class Smoother:
    """Remembers the last word about each request in flight, within bounds.

    Args:
        new_share: 1 smooths nothing.
    """

    def __init__(self, new_share: float = NEW_SHARE) -> None:
        self._new_share = new_share
        self._told: OrderedDict[bytes, _Told] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def smoothed(self, keys: Sequence[bytes], questions: Sequence[Question], quantiles: Array) -> Array:
        """Quantiles of log tokens left after the prior was heard, [n, len(LEVELS)].

        Args:
            keys: equal for questions about the same prompt of the same tenant.
            questions: n of them; one continues an earlier one if its text begins with the earlier text.
            quantiles: what the predictor says, [n, len(LEVELS)].
        """
        result = quantiles.copy()
        for row, (key, question) in enumerate(zip(keys, questions, strict=True)):
            told = self._told.get(key)
            if told is not None and _continues(question, told):
                out = np.array([question.generated_tokens], np.float32)
                prior = given_out(told.whole[None], out)
                result[row] = pooled(prior, quantiles[row : row + 1], self._new_share)[0]
            if question.generated_tokens or told is None:
                self._remember(key, question, result[row])
        return result

    def _remember(self, key: bytes, question: Question, quantiles: Array) -> None:
        text = question.generated_text
        whole = np.log(np.exp(quantiles.astype(np.float64)) + question.generated_tokens).astype(np.float32)
        self._told[key] = _Told(question.generated_tokens, len(text), _digest(text), increasing(whole[None])[0])
        self._told.move_to_end(key)
        if len(self._told) > KEPT:
            self._told.popitem(last=False)


def pooled(prior: Array, new: Array, new_share: float) -> Array:
    """The geometric pool of two laws given by quantiles of log tokens left, [n, len(LEVELS)] each."""
    low = np.minimum(prior[:, 0], new[:, 0]) - 2.0
    high = np.maximum(prior[:, -1], new[:, -1]) + 1.5
    result = np.empty_like(new)
    for row in range(len(new)):
        edges = np.linspace(low[row], high[row], BINS + 1).astype(np.float32)
        shares = [np.maximum(-np.diff(normal_upper(z_at(law[row], edges))), 1e-12) for law in (prior, new)]
        pool = shares[0] ** (1 - new_share) * shares[1] ** new_share
        result[row] = bin_quantiles((pool / pool.sum())[None].astype(np.float32), edges)[0]
    return result


def _continues(question: Question, told: _Told) -> bool:
    if question.generated_tokens <= told.tokens or len(question.generated_text) < told.chars:
        return False
    return _digest(question.generated_text[: told.chars]) == told.digest


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
