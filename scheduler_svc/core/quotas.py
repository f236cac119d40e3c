"""What each tenant was granted, and whether one more of its requests keeps to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from scheduler_svc.core.types import Job, TenantTerms

RECENT_ENDS = 64
MINUTE_MS = 60_000.0


class TokenBucket:
    """Tokens that a tenant may use: so many a minute, saved up to a burst; what was not foreseen may overdraw it.

    Args:
        per_minute: tokens that come in.
        burst: most that are saved up, > 0.
        now_ms: it begins full.
    """

    __slots__ = ("_at_ms", "_level", "burst", "per_ms")

    def __init__(self, per_minute: float, burst: float, now_ms: float) -> None:
        self.per_ms = per_minute / MINUTE_MS
        self.burst = burst
        self._level = burst
        self._at_ms = now_ms

    def level(self, now_ms: float) -> float:
        """Tokens that are there; negative where it is overdrawn."""
        return min(self.burst, self._level + self.per_ms * max(0.0, now_ms - self._at_ms))

    def take(self, tokens: float, now_ms: float) -> None:
        """Takes tokens, or with a negative number gives some back."""
        self._level = min(self.burst, self.level(now_ms) - tokens)
        self._at_ms = max(self._at_ms, now_ms)

    def wait_ms(self, tokens: float, now_ms: float) -> float:
        """Until so many are there, or a whole burst where it is more than that; 0 where they are."""
        return max(0.0, min(tokens, self.burst) - self.level(now_ms)) / self.per_ms

    def resized(self, per_minute: float, burst: float, now_ms: float) -> TokenBucket:
        """The same under other terms; what was used up stays used up."""
        made = TokenBucket(per_minute, burst, now_ms)
        made.take(self.burst - self.level(now_ms), now_ms)
        return made


class Quotas:
    """Terms and use by tenant; what is open of each is in the ledger."""

    def __init__(self) -> None:
        self._terms: dict[str, TenantTerms] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self._charged: dict[int, float] = {}
        self._ended_ms: dict[str, deque[float]] = {}

    def change(self, tenants: Iterable[TenantTerms], now_ms: float) -> None:
        """These terms hold from now on, and the defaults for everybody else."""
        self._terms = {terms.name: terms for terms in tenants}
        buckets: dict[str, TokenBucket] = {}
        for name, terms in self._terms.items():
            rate = terms.tokens_per_minute
            if rate is not None:
                burst = rate if terms.burst_tokens is None else terms.burst_tokens
                old = self._buckets.get(name)
                buckets[name] = TokenBucket(rate, burst, now_ms) if old is None else old.resized(rate, burst, now_ms)
        self._buckets = buckets

    def terms(self, tenant: str) -> TenantTerms:
        """What holds for a tenant."""
        return self._terms.get(tenant) or TenantTerms(tenant)

    def bucket(self, tenant: str) -> TokenBucket | None:
        """Of a tenant with a token rate."""
        return self._buckets.get(tenant)

    def accepted(self, job: Job, now_ms: float) -> None:
        """Charges what is expected of a request."""
        bucket = self._buckets.get(job.spec.tenant)
        if bucket is not None:
            bucket.take(job.expected_tokens, now_ms)
            self._charged[job.job_id] = job.expected_tokens

    def ended(self, job: Job, now_ms: float) -> None:
        """Settles what was charged with what was served; what was not served is given back."""
        tenant = job.spec.tenant
        bucket, charged = self._buckets.get(tenant), self._charged.pop(job.job_id, 0.0)
        if bucket is not None:
            bucket.take(job.served_tokens - charged, now_ms)
        ends = self._ended_ms.get(tenant)
        if ends is None:
            ends = self._ended_ms[tenant] = deque(maxlen=RECENT_ENDS)
        ends.append(now_ms)

    def ms_per_end(self, tenant: str, now_ms: float) -> float | None:
        """Mean time between two ends of a tenant's requests, recently; None where too little is known."""
        ends = self._ended_ms.get(tenant, ())
        return max(now_ms - ends[0], 1.0) / len(ends) if len(ends) >= 2 else None
