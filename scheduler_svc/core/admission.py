"""Whether one more request may wait: bounds, and when to come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.types import TenantTerms


class RefusalReason(Enum):
    """Why a request is not accepted by the core."""

    QUEUE_FULL = "QUEUE_FULL"
    TENANT_QUEUE_FULL = "TENANT_QUEUE_FULL"
    TENANT_IN_FLIGHT = "TENANT_IN_FLIGHT"
    TENANT_QUEUED_TOKENS = "TENANT_QUEUED_TOKENS"
    TENANT_TOKEN_RATE = "TENANT_TOKEN_RATE"
    NEVER_FITS = "NEVER_FITS"
    TTFT_OUT_OF_REACH = "TTFT_OUT_OF_REACH"
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
    """

    max_queued_requests: int = 10_000
    max_queued_per_tenant: int = 8_000
    look_ahead: int = 2


class Admission:
    """Holds the pool to its bounds; `ended` tells it the pace at which room comes free."""

    def __init__(self, limits: Limits, ledger: Ledger) -> None:
        self._limits = limits
        self._ledger = ledger
        self._ended_ms: deque[float] = deque(maxlen=256)
        self._terms: dict[str, TenantTerms] = {}

    def tenants_changed(self, tenants: Iterable[TenantTerms]) -> None:
        """These terms hold from now on, and no others."""
        self._terms = {terms.name: terms for terms in tenants}

    def ended(self, now_ms: float) -> None:
        """A request ended."""
        self._ended_ms.append(now_ms)

    def refusal_for(self, tenant: str, now_ms: float) -> AdmissionRefusal | None:
        """Whether another request of `tenant` would break a bound."""
        limits, waiting = self._limits, self._ledger.waiting()
        if waiting >= limits.max_queued_requests:
            text = f"{waiting} requests wait already, of at most {limits.max_queued_requests}"
            return AdmissionRefusal(RefusalReason.QUEUE_FULL, text, self._retry_after_ms(waiting, now_ms))
        of_tenant, most = self._ledger.waiting(tenant), limits.max_queued_per_tenant
        terms = self._terms.get(tenant)
        if terms is not None and terms.max_queued_requests is not None:
            most = min(most, terms.max_queued_requests)
        if of_tenant >= most:
            text = f"{of_tenant} requests of {tenant!r} wait already, of at most {most}"
            return AdmissionRefusal(RefusalReason.TENANT_QUEUE_FULL, text, self._retry_after_ms(of_tenant, now_ms))
        return None

    def _retry_after_ms(self, waiting: int, now_ms: float) -> float:
        """Time in which a tenth of what waits should have gone, at the recent pace; 0.1 to 60 s."""
        if len(self._ended_ms) < 2:
            return 1000.0
        per_ms = len(self._ended_ms) / max(now_ms - self._ended_ms[0], 1.0)
        return bounded_retry_ms(0.1 * waiting / per_ms)


def bounded_retry_ms(wait_ms: float) -> float:
    """A delay that a client can be told: 0.1 to 60 s."""
    return min(max(wait_ms, 100.0), 60_000.0)
