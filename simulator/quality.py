"""How good a prediction is, as Kendall's tau between predicted and true order, and the noise that makes it so."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fairlead.lengths import Floats

SAMPLE = 8000
LEAST_SIGMA, LARGEST_SIGMA = 1e-3, 30.0


def kendall_tau(predicted: Sequence[float] | Floats, true: Sequence[float] | Floats) -> float:
    """Kendall's tau-b of two lists of one length: (concordant - discordant pairs) / sqrt of the pairs untied in each.

    Kendall, "The treatment of ties in ranking problems", 1945. Counted by insertion in the order of `predicted`.
    """
    x, y = np.asarray(predicted, np.float64).tolist(), np.asarray(true, np.float64).tolist()
    order = sorted(range(len(x)), key=x.__getitem__)
    seen: list[float] = []
    score = untied_x = 0
    for _, group in itertools.groupby(order, key=x.__getitem__):
        tied = [y[i] for i in group]
        untied_x += len(tied) * len(seen)
        for value in tied:
            score += bisect_left(seen, value) + bisect_right(seen, value) - len(seen)
        for value in tied:
            insort(seen, value)
    pairs = len(y) * (len(y) - 1) // 2
    untied_y = pairs - sum(count * (count - 1) // 2 for count in Counter(y).values())
    return score / math.sqrt(untied_x * untied_y) if untied_x and untied_y else 0.0


def sigma_for_tau(lengths: Sequence[int], tau: float, *, seed: int = 0) -> float:
    """The s with which log L + s * normal noise has this tau with L, L drawn from `lengths`.

    Found by halving on one draw of lengths and noise, on which tau falls with s; good to about 0.01 in tau.

    Raises:
        ValueError: `tau` is not in (0, 1], or all lengths are the same.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"a prediction's tau must be above 0 and at most 1, not {tau}")
    if tau == 1:
        return 0.0
    rng = np.random.default_rng(seed)
    logs = np.log(np.asarray(lengths, np.float64))
    if logs.min() == logs.max():
        raise ValueError("all answers have one length: no prediction can have a tau")
    logs = rng.choice(logs, SAMPLE)
    noise = rng.standard_normal(SAMPLE)
    low, high = LEAST_SIGMA, LARGEST_SIGMA
    for _ in range(14):
        middle = math.sqrt(low * high)
        if kendall_tau(logs + middle * noise, logs) > tau:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
