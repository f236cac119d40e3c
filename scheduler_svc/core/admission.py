"""Whether one more request may wait: bounds of the pool and of its tenant, and when to come back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.quotas import Quotas
from scheduler_svc.core.types import Arrived, Job, TenantTerms

UNKNOWN_PACE_RETRY_MS = 1000.0
LEAST_RETRY_MS, MOST_RETRY_MS = 100.0, 60_000.0
MOST_RATE_RETRY_MS = 3_600_000.0
"""A token rate says exactly when; a client that is told less comes back in vain."""


class RefusalReason(Enum):
    """Why a request is not accepted by the core."""

    QUEUE_FULL = "QUEUE_FULL"
    CLASS_QUEUE_FULL = "CLASS_QUEUE_FULL"
    TENANT_QUEUE_FULL = "TENANT_QUEUE_FULL"
    TENANT_IN_FLIGHT = "TENANT_IN_FLIGHT"
    TENANT_QUEUED_TOKENS = "TENANT_QUEUED_TOKENS"
    TENANT_TOKEN_RATE = "TENANT_TOKEN_RATE"
    NEVER_FITS = "NEVER_FITS"
    TTFT_OUT_OF_REACH = "TTFT_OUT_OF_REACH"
    TPOT_OUT_OF_REACH = "TPOT_OUT_OF_REACH"
    COMPLETION_OUT_OF_REACH = "COMPLETION_OUT_OF_REACH"


OF_TENANT = frozenset(
    {
        RefusalReason.TENANT_QUEUE_FULL,
        RefusalReason.TENANT_IN_FLIGHT,
        RefusalReason.TENANT_QUEUED_TOKENS,
        RefusalReason.TENANT_TOKEN_RATE,
    }
)
"""A limit of the tenant's own: others may still ask."""


@dataclass(frozen=True, slots=True)
class AdmissionRefusal:
    """A request that the core does not take, with when to try again; None: never, as it is."""

    reason: RefusalReason
    message: str
    retry_after_ms: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the core, in requests.

    Attributes:
        max_queued_requests: waiting in the pool, all tenants.
        max_queued_per_tenant: waiting in the pool, one tenant.
        look_ahead: held by a worker beyond its seats.
        max_queued_per_class: waiting in the pool, one class; None: no bound of its own.
    """

    max_queued_requests: int = 10_000
    max_queued_per_tenant: int = 8_000
    look_ahead: int = 2
    max_queued_per_class: int | None = None


class Admission:
    """Holds the pool to its bounds; it is told what is accepted and what ends, so that it knows the pace."""

    def __init__(self, limits: Limits, ledger: Ledger) -> None:
        self._limits = limits
        self._ledger = ledger
        self._quotas = Quotas()
        self._ended_ms: deque[float] = deque(maxlen=256)

    def terms(self, tenant: str) -> TenantTerms:
        """What holds for a tenant."""
        return self._quotas.terms(tenant)

    def tenants_changed(self, tenants: Iterable[TenantTerms], now_ms: float) -> None:
        """Other terms hold from now on; nothing that was accepted ends by it."""
        self._quotas.change(tenants, now_ms)

    def accepted(self, job: Job, now_ms: float) -> None:
        """A request was accepted."""
        self._quotas.accepted(job, now_ms)

    def ended(self, job: Job, now_ms: float) -> None:
        """A request ended."""
        self._ended_ms.append(now_ms)
        self._quotas.ended(job, now_ms)

    def refusal_for(
        self, tenant: str, now_ms: float, spec: Arrived | None = None, expected_tokens: float = 0.0
    ) -> AdmissionRefusal | None:
        """Whether another request of `tenant` would break a bound.

        Args:
            tenant: who asks.
            now_ms: when.
            spec: the request, once it is known.
            expected_tokens: its prompt and expected answer; 0 while that is not known.
        """
        limits, ledger = self._limits, self._ledger
        waiting = ledger.waiting()
        if waiting >= limits.max_queued_requests:
            text = f"{waiting} requests wait already, of at most {limits.max_queued_requests}"
            return AdmissionRefusal(RefusalReason.QUEUE_FULL, text, self._retry_after_ms(waiting, now_ms))
        if spec is not None and limits.max_queued_per_class is not None:
            of_class = ledger.waiting_in_class(spec.latency_sensitive)
            if of_class >= limits.max_queued_per_class:
                name = "latency-sensitive" if spec.latency_sensitive else "best-effort"
                text = f"{of_class} {name} requests wait already, of at most {limits.max_queued_per_class}"
                return AdmissionRefusal(RefusalReason.CLASS_QUEUE_FULL, text, self._retry_after_ms(of_class, now_ms))
        return self._beyond_terms(tenant, now_ms, expected_tokens)

    def _beyond_terms(self, tenant: str, now_ms: float, expected_tokens: float) -> AdmissionRefusal | None:
        """Whether it would break a bound of its tenant."""
        terms, open_ = self._quotas.terms(tenant), self._ledger.open(tenant)
        most = self._limits.max_queued_per_tenant
        if terms.max_queued_requests is not None:
            most = min(most, terms.max_queued_requests)
        if open_.waiting >= most:
            text = f"{open_.waiting} requests of {tenant!r} wait already, of at most {most}"
            retry_ms = self._tenant_retry_ms(tenant, open_.waiting - most + 1, now_ms)
            return AdmissionRefusal(RefusalReason.TENANT_QUEUE_FULL, text, retry_ms)
        if terms.max_in_flight is not None and open_.live >= terms.max_in_flight:
            text = f"{open_.live} requests of {tenant!r} are in flight already, of at most {terms.max_in_flight}"
            retry_ms = self._tenant_retry_ms(tenant, open_.live - terms.max_in_flight + 1, now_ms)
            return AdmissionRefusal(RefusalReason.TENANT_IN_FLIGHT, text, retry_ms)
        if terms.max_queued_tokens is not None and open_.waiting:
            over = open_.waiting_tokens + expected_tokens - terms.max_queued_tokens
            if over > 0:
                text = (
                    f"{open_.waiting_tokens:.0f} tokens of {tenant!r} wait already, of at most "
                    f"{terms.max_queued_tokens}, and {expected_tokens:.0f} are expected of this request"
                )
                ends = math.ceil(over / max(1.0, open_.waiting_tokens / open_.waiting))
                retry_ms = self._tenant_retry_ms(tenant, ends, now_ms)
                return AdmissionRefusal(RefusalReason.TENANT_QUEUED_TOKENS, text, retry_ms)
        return self._beyond_rate(tenant, now_ms, expected_tokens)

    def _beyond_rate(self, tenant: str, now_ms: float, expected_tokens: float) -> AdmissionRefusal | None:
        bucket = self._quotas.bucket(tenant)
        if bucket is None:
            return None
        wait_ms = bucket.wait_ms(max(1.0, expected_tokens), now_ms)
        if wait_ms <= 0.0:
            return None
        text = (
            f"{tenant!r} has used its {bucket.per_ms * 60_000:.0f} tokens a minute: {bucket.level(now_ms):.0f} are "
            f"left, {max(1.0, expected_tokens):.0f} are expected of this request"
        )
        return AdmissionRefusal(RefusalReason.TENANT_TOKEN_RATE, text, bounded_retry_ms(wait_ms, MOST_RATE_RETRY_MS))

    def _retry_after_ms(self, waiting: int, now_ms: float) -> float:
        """Time in which a tenth of what waits should have gone, at the recent pace; 0.1 to 60 s."""
        if len(self._ended_ms) < 2:
            return UNKNOWN_PACE_RETRY_MS
        per_ms = len(self._ended_ms) / max(now_ms - self._ended_ms[0], 1.0)
        return bounded_retry_ms(0.1 * waiting / per_ms)

    def _tenant_retry_ms(self, tenant: str, ends: int, now_ms: float) -> float:
        """Time in which so many of the tenant's own requests should have ended, at its recent pace."""
        per_end_ms = self._quotas.ms_per_end(tenant, now_ms)
        return UNKNOWN_PACE_RETRY_MS if per_end_ms is None else bounded_retry_ms(ends * per_end_ms)


def bounded_retry_ms(wait_ms: float, most_ms: float = MOST_RETRY_MS) -> float:
    """A delay that a client can be told: 0.1 to 60 s, or to `most_ms`."""
    return min(max(wait_ms, LEAST_RETRY_MS), most_ms)
