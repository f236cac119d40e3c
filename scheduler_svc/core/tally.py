"""Work summed up as jobs come and go, so that no question adds over all of them again."""

from __future__ import annotations

from scheduler_svc.core.types import Job

SLICE_TOKENS = 128
"""How far ahead a slice of work reaches (slice-level scheduling, arXiv 2406.13511)."""

_Share = tuple[int, int, int, float, float, float, float, int, int, float]


def _share_of(job: Job) -> _Share:
    """(LS, prefill, used, high, mean, slice, variance, LS prefill, used, mean): what one job adds to a `Tally`."""
    spec, mean = job.spec, job.remaining_mean
    ls, used = spec.latency_sensitive, spec.prompt_tokens + job.output_tokens
    prefill = spec.prompt_tokens + job.base_tokens if job.output_tokens == job.base_tokens else 0
    return (
        1 if ls else 0,
        prefill,
        used,
        job.remaining_high,
        mean,
        min(mean, SLICE_TOKENS),
        job.remaining_sd * job.remaining_sd,
        prefill if ls else 0,
        used if ls else 0,
        mean if ls else 0.0,
    )


class Tally:
    """Sums over jobs, each as it was when it was last estimated or moved: at most a window of tokens ago.

    Attributes:
        latency_sensitive: LS jobs.
        prefill: prompt and forced tokens to be computed before a next output token.
        used: KV tokens held, or to be held once the prompt is computed.
        high: output tokens to come, at the quantile that memory reckons with.
        mean, variance: of the output tokens to come; 0 unless the choices in force reckon with work.
        ls_prefill, ls_used, ls_mean: of the LS jobs alone.
        slice: output tokens to come within the next `SLICE_TOKENS` of each.
    """

    __slots__ = (
        "_shares",
        "high",
        "latency_sensitive",
        "ls_mean",
        "ls_prefill",
        "ls_used",
        "mean",
        "prefill",
        "slice",
        "used",
        "variance",
    )

    def __init__(self) -> None:
        self._shares: dict[int, _Share] = {}
        self._clear()

    def _clear(self) -> None:
        self.latency_sensitive = self.prefill = self.used = self.ls_prefill = self.ls_used = 0
        self.high = self.mean = self.slice = self.variance = self.ls_mean = 0.0

    def __len__(self) -> int:
        return len(self._shares)

    def put(self, job: Job) -> None:
        """Counts a job as it is now, in place of what it was."""
        new = _share_of(job)
        old = self._shares.get(job.job_id)
        if old == new:
            return
        if old is not None:
            self._add(old, -1)
        self._shares[job.job_id] = new
        self._add(new, 1)

    def take(self, job: Job) -> None:
        """Counts it no more. Sums start anew where nothing is left, so that rounding does not gather."""
        old = self._shares.pop(job.job_id)
        if self._shares:
            self._add(old, -1)
        else:
            self._clear()

    def _add(self, share: _Share, sign: int) -> None:
        latency_sensitive, prefill, used, high, mean, in_slice, variance, ls_prefill, ls_used, ls_mean = share
        self.latency_sensitive += sign * latency_sensitive
        self.prefill += sign * prefill
        self.used += sign * used
        self.high += sign * high
        self.mean += sign * mean
        self.slice += sign * in_slice
        self.variance += sign * variance
        self.ls_prefill += sign * ls_prefill
        self.ls_used += sign * ls_used
        self.ls_mean += sign * ls_mean
