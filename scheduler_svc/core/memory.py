"""Whether a worker's KV cache will hold what is placed on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from scheduler_svc.core.types import Job

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


class Peak:
    """The predicted peak of some jobs, ready to be asked what it would be with one more; O(log n) a question.

    Args:
        jobs: (KV tokens now, tokens still to come) each.

    With i jobs before it in descending order of remaining tokens, one more job (u, r) leaves their terms as they are,
    adds r * (i + 1) + u + used before it, and raises each term behind it by its rem + u.
    """

    __slots__ = ("_before", "_behind", "_remaining", "_used")

    def __init__(self, jobs: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(jobs, key=_least_remaining_last)
        self._remaining = [-remaining for _, remaining in ordered]
        self._used = [0.0]
        self._before = [0.0]
        raised: list[float] = []
        for count, (used, remaining) in enumerate(ordered, start=1):
            total = self._used[-1] + used
            self._used.append(total)
            self._before.append(max(self._before[-1], remaining * count + total))
            raised.append(remaining * (count + 1) + total)
        self._behind = [0.0]
        for term in reversed(raised):
            self._behind.append(max(self._behind[-1], term))
        self._behind.reverse()

    def with_job(self, used: float, remaining: float) -> float:
        """Most KV tokens held together if this job enters now."""
        place = bisect_right(self._remaining, -remaining)
        own = remaining * (place + 1) + self._used[place] + used
        behind = self._behind[place] + used if place < len(self._remaining) else 0.0
        return max(self._before[place], own, behind)


def _least_remaining_last(job: tuple[float, float]) -> float:
    return -job[1]


def remaining_high(job: Job) -> float:
    """Output tokens still to come, at the quantile that memory reckons with."""
    return max(0.0, job.distribution.quantile(PEAK_LEVEL, job.output_tokens) - job.output_tokens)


def remaining_moments(job: Job) -> tuple[float, float]:
    """(mean, deviation) of the output tokens still to come.

    The deviation is half the way between the 16 % and the 84 % quantile: that of a normal law, and finite for a heavy
    tail, whose own deviation may not be.
    """
    law, out = job.distribution, job.output_tokens
    return law.mean_remaining(out), 0.5 * (law.quantile(0.8413, out) - law.quantile(0.1587, out))
