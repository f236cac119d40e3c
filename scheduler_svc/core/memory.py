"""Whether a worker's KV cache will hold what is placed on it."""

from __future__ import annotations

from collections.abc import Iterable

PEAK_SHARE = 0.95
"""Part of the KV cache that a predicted peak may fill."""

PEAK_LEVEL = 0.7
"""Quantile of the remaining length that is reckoned with."""


def predicted_peak_tokens(jobs: Iterable[tuple[float, float]]) -> float:
    """Most KV tokens that these jobs will hold together, if none enters: (tokens now, tokens still to come) each.

    With jobs by remaining tokens, descending, the peak is max over i of rem_i * i + sum of used_j, j <= i: when job i
    ends, the i jobs that outlast it have each grown by rem_i. (Past-Future scheduler of LightLLM, arXiv 2507.10150.)
    """
    peak = used_sum = 0.0
    for count, (used, remaining) in enumerate(sorted(jobs, key=lambda job: -job[1]), start=1):
        used_sum += used
        peak = max(peak, remaining * count + used_sum)
    return peak
