"""How good a prediction is, as Kendall's tau between predicted and true order, and the noise that makes it so."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fairlead.lengths import Floats

SAMPLE = 1500
LARGEST_SIGMA = 30.0


def kendall_tau(predicted: Sequence[float] | Floats, true: Sequence[float] | Floats) -> float:
    """Kendall's tau-b of two lists of one length: (concordant - discordant pairs) / sqrt of the pairs untied in each.

    Kendall, "The treatment of ties in ranking problems", 1945. Memory and time grow with the square of the length.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    score, untied_x, untied_y = 0, 0, 0
    for i in range(len(x) - 1):
        dx, dy = np.sign(x[i + 1 :] - x[i]), np.sign(y[i + 1 :] - y[i])
        score += float((dx * dy).sum())
        untied_x += int(np.count_nonzero(dx))
        untied_y += int(np.count_nonzero(dy))
    return score / math.sqrt(untied_x * untied_y) if untied_x and untied_y else 0.0


def sigma_for_tau(lengths: Sequence[int], tau: float, *, seed: int = 0) -> float:
    """The s with which log L + s * normal noise has this tau with L, over a sample of `lengths`.

    Found by halving on one draw of the noise, on which tau falls with s.

    Raises:
        ValueError: `tau` is not in (0, 1], or all lengths are the same.
    """
    if not 0 < tau <= 1:
        raise ValueError(f"a prediction's tau must be above 0 and at most 1, not {tau}")
    if tau == 1:
        return 0.0
    rng = np.random.default_rng(seed)
    logs = np.log(np.asarray(lengths, np.float64))
    if len(logs) > SAMPLE:
        logs = rng.choice(logs, SAMPLE, replace=False)
    if logs.min() == logs.max():
        raise ValueError("all answers have one length: no prediction can have a tau")
    noise = rng.standard_normal(len(logs))
    low, high = 0.0, LARGEST_SIGMA
    for _ in range(16):
        middle = math.sqrt(max(low, 1e-3) * high)
        if kendall_tau(logs + middle * noise, logs) > tau:
            low = middle
        else:
            high = middle
    return math.sqrt(max(low, 1e-3) * high)
