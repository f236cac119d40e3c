"""What the instruments of all services share: buckets, bounded tenant names, and readings that are taken when asked.

Times are in seconds, as OpenTelemetry and Prometheus have them; everything else of fairlead is in ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from fairlead.telemetry_names import OTHER

Labels = Mapping[str, str]
Readings = Iterable[tuple[float, Labels]]

LATENCY_BUCKETS_S = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
TOKEN_BUCKETS_S = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5,
)  # fmt: skip
DURATION_BUCKETS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3600.0)
STEP_BUCKETS_S = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0,
)  # fmt: skip
RATIO_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


def histogram(meter: Meter, name: str, unit: str, buckets: Sequence[float], description: str) -> Histogram:
    """A histogram with our own buckets."""
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)


def counter(meter: Meter, name: str, unit: str, description: str, read: Callable[[], Readings]) -> None:
    """A counter that is read from what the service counts anyway.

    `read` is called on an exporter's thread: it takes copies in single steps of the interpreter, never a lock.
    """
    meter.create_observable_counter(name, [_callback(read)], unit, description)


def gauge(meter: Meter, name: str, unit: str, description: str, read: Callable[[], Readings]) -> None:
    """A gauge that is read from the service's state; as `counter`."""
    meter.create_observable_gauge(name, [_callback(read)], unit, description)


def _callback(read: Callable[[], Readings]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, labels) for value, labels in read()]

    return observe


class TenantLabels:
    """Names tenants in metrics, within a bound: a label value for each of thousands would drown any metrics store.

    Args:
        tenants: names, those first that are to be named first.
        most: how many of them have a value of their own; the rest share `other`.
    """

    def __init__(self, tenants: Sequence[str], most: int) -> None:
        self._named = set(tenants[:most])
        self._most = most

    def learn(self, tenants: Iterable[str]) -> None:
        """More tenants: they get values of their own while there is room; nobody loses theirs."""
        for tenant in tenants:
            if len(self._named) < self._most:
                self._named.add(tenant)

    def __call__(self, tenant: str) -> str:
        """The label value of a tenant."""
        return tenant if tenant in self._named else OTHER


def summed(readings: Iterable[tuple[float, tuple[str, ...]]], names: tuple[str, ...]) -> Readings:
    """Readings by label values, those with the same values added up (tenants that share `other`)."""
    totals: dict[tuple[str, ...], float] = {}
    for value, labels in readings:
        totals[labels] = totals.get(labels, 0.0) + value
    return [(value, dict(zip(names, labels, strict=True))) for labels, value in totals.items()]
