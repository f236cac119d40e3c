"""Records to figures: TTFT, TPOT, JCT and attainment, per class and tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.client import ServiceClass
from fairlead.load.run import Record


@dataclass(frozen=True)
class Spread:
    """Mean and percentiles of one figure over `count` requests; all None where there are none."""

    count: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of these values, percentiles interpolated linearly."""
        if not values:
            return Spread(0, None, None, None, None)
        p50, p90, p99 = (float(value) for value in np.percentile(values, [50, 90, 99]))
        return Spread(len(values), float(np.mean(values)), p50, p90, p99)


@dataclass(frozen=True)
class Group:
    """Figures of one tenant and class ("all" is every one).

    Attributes:
        offered: requests sent; what was refused, failed or given up counts here and misses its SLO.
        ttft_ms, jct_ms, tpot_ms: at the client, from the time that the request was due.
        scheduler_ttft_ms: on the scheduler's clock: arrival there to first token leaving it.
        attainment: share of the LS requests offered whose TTFT and mean TPOT at the client met their targets; None
            where there is none.
        attainment_at_scheduler: the same with the scheduler's TTFT.
    """

    tenant: str
    service_class: str
    offered: int
    finished: int
    refused: int
    failed: int
    output_tokens: int
    ttft_ms: Spread
    scheduler_ttft_ms: Spread
    tpot_ms: Spread
    jct_ms: Spread
    attainment: float | None
    attainment_at_scheduler: float | None
    outcomes: dict[str, int]


@dataclass(frozen=True)
class Figures:
    """What a load came to.

    Attributes:
        groups: one a tenant and class, then "all".
        tokens_per_s: output tokens of all requests / (first arrival to last token).
        pauses, evictions: times that a request gave up its seat, or its KV cache.
        send_lag_p99_ms: how late this client sent; large values mean that the client was short of CPU.
    """

    groups: list[Group]
    tokens_per_s: float
    duration_s: float
    pauses: int
    evictions: int
    send_lag_p99_ms: float

    @property
    def all(self) -> Group:
        """Every request."""
        return self.groups[-1]

    def of_class(self, service_class: ServiceClass) -> Group:
        """All tenants of one class together; raises KeyError where the load has none of it."""
        return next(group for group in self.groups if (group.tenant, group.service_class) == ("all", service_class))


def figures(records: Sequence[Record]) -> Figures:
    """Figures of a finished load."""
    keys = sorted({(record.tenant, str(record.service_class)) for record in records})
    groups = [
        _group(tenant, name, [each for each in records if (each.tenant, each.service_class) == (tenant, name)])
        for tenant, name in keys
    ]
    for name in sorted({name for _, name in keys}):
        groups.append(_group("all", name, [each for each in records if each.service_class == name]))
    groups.append(_group("all", "all", records))
    start_s = min((record.arrival_s for record in records), default=0.0)
    end_s = max((record.last_s for record in records if record.last_s is not None), default=start_s)
    tokens = sum(record.output_tokens for record in records)
    lags = [(record.sent_s - record.arrival_s) * 1000 for record in records]
    return Figures(
        groups=groups,
        tokens_per_s=tokens / (end_s - start_s) if end_s > start_s else 0.0,
        duration_s=end_s - start_s,
        pauses=sum(record.pauses for record in records),
        evictions=sum(record.evictions for record in records),
        send_lag_p99_ms=Spread.of(lags).p99 or 0.0,
    )


def met(record: Record, ttft_ms: float | None) -> bool:
    """Whether a request met its targets, with this TTFT; one that has no target meets it."""
    if not record.finished or ttft_ms is None:
        return False
    in_time = record.ttft_target_ms is None or ttft_ms <= record.ttft_target_ms
    pace = record.tpot_ms
    return in_time and (record.tpot_target_ms is None or pace is None or pace <= record.tpot_target_ms)


def _group(tenant: str, service_class: str, records: Sequence[Record]) -> Group:
    latency = [each for each in records if each.service_class == ServiceClass.LATENCY_SENSITIVE]
    refused = sum(not each.accepted for each in records)
    finished = sum(each.finished for each in records)
    return Group(
        tenant=tenant,
        service_class=service_class,
        offered=len(records),
        finished=finished,
        refused=refused,
        failed=len(records) - finished - refused,
        output_tokens=sum(each.output_tokens for each in records),
        ttft_ms=Spread.of([each.ttft_ms for each in records if each.ttft_ms is not None]),
        scheduler_ttft_ms=Spread.of([each.scheduler_ttft_ms for each in records if each.scheduler_ttft_ms is not None]),
        tpot_ms=Spread.of([each.tpot_ms for each in records if each.tpot_ms is not None]),
        jct_ms=Spread.of([each.jct_ms for each in records if each.jct_ms is not None]),
        attainment=float(np.mean([met(each, each.ttft_ms) for each in latency])) if latency else None,
        attainment_at_scheduler=(
            float(np.mean([met(each, each.scheduler_ttft_ms) for each in latency])) if latency else None
        ),
        outcomes=dict(Counter(each.outcome for each in records)),
    )
