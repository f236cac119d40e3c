"""The scheduler's metrics. What the core and the links count anyway is read when an exporter asks; the rest is noted
once a request, at its end or refusal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fairlead import telemetry_names as names
from fairlead.telemetry.metrics import (
    DURATION_BUCKETS_S,
    LATENCY_BUCKETS_S,
    RATIO_BUCKETS,
    TOKEN_BUCKETS_S,
    Readings,
    TenantLabels,
    counter,
    gauge,
    histogram,
    summed,
)
from scheduler_svc.core.ledger import Account
from scheduler_svc.core.types import End, Job, Outcome

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from scheduler_svc.predictor_link import PredictorLink
    from scheduler_svc.shell import Shell
    from scheduler_svc.tenants.opening import Tenants
    from scheduler_svc.worker_pool import WorkerPool

LABELS = (names.TENANT_LABEL, names.CLASS_LABEL)
NOT_OFFERED = frozenset({Outcome.CANCELLED_BY_CLIENT})
"""Ended by its own client: neither met nor missed."""
MISSING_REASONS = ("late", "refused", "malformed", "not_connected", "stream_broke", "too_many")
COMPLETE = frozenset({Outcome.STOP, Outcome.LENGTH})


class SchedulerMetrics:
    """Instruments of one scheduler.

    Args:
        meter: makes them.
        tenants: bounds the tenants that are named.

    Attributes:
        tenant_labels: learns of new tenants.
    """

    def __init__(self, meter: Meter, tenants: TenantLabels) -> None:
        self._meter = meter
        self.tenant_labels = self._tenant = tenants
        self._clamped: Counter[str] = Counter()
        self._calls_refused: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._offered: Counter[tuple[str, str]] = Counter()
        self._met: Counter[tuple[str, str]] = Counter()
        self._prompt_tokens: Counter[tuple[str, str]] = Counter()
        # Known from the start: a query of what never happened finds 0 and not nothing.
        self._missing: Counter[str] = Counter(dict.fromkeys(MISSING_REASONS, 0))
        self._within: Counter[str] = Counter({"true": 0, "false": 0})
        self._ttft = histogram(
            meter, names.TIME_TO_FIRST_TOKEN, "s", LATENCY_BUCKETS_S, "Arrival to the first token, at the scheduler."
        )
        self._tpot = histogram(
            meter, names.TIME_PER_OUTPUT_TOKEN, "s", TOKEN_BUCKETS_S, "Mean time per output token after the first."
        )
        self._jct = histogram(
            meter, names.REQUEST_DURATION, "s", DURATION_BUCKETS_S, "Arrival to the end of a complete answer (JCT)."
        )
        self._queue = histogram(
            meter, "fairlead.queue.time", "s", LATENCY_BUCKETS_S, "Arrival to the first placement on a worker."
        )
        self._latency = histogram(
            meter, "fairlead.prediction.duration", "s", LATENCY_BUCKETS_S, "Question to the predictor until its answer."
        )
        self._error = histogram(
            meter, "fairlead.prediction.error.ratio", "1", RATIO_BUCKETS,
            "|predicted median - true| / true output length, first prediction, answers that ended by themselves.",
        )  # fmt: skip
        self._counters()

    # -- once a request

    def accepted(self, tenant: str, latency_sensitive: bool, prompt_tokens: int) -> None:
        """A request was accepted."""
        self._prompt_tokens[self._labels(tenant, latency_sensitive)] += prompt_tokens

    def call_refused(self, service: str, reason: str) -> None:
        """A call that asked for no new answer was refused."""
        self._calls_refused[service, reason] += 1

    def clamped(self, tenant: str) -> None:
        """A request asked for a class beyond its tenant's right."""
        self._clamped[self._tenant(tenant)] += 1

    def refused(self, tenant: str, reason: str, *, latency_sensitive: bool) -> None:
        """A request was refused; `latency_sensitive`: it counts as offered and missed."""
        label = self._tenant(tenant)
        self._refused[label, reason] += 1
        if latency_sensitive:
            self._offered[label, "ls"] += 1

    def ended(self, job: Job, end: End, now_ms: float) -> None:
        """A request has its outcome."""
        spec = job.spec
        labels = self._labels(spec.tenant, spec.latency_sensitive)
        told = {names.TENANT_LABEL: labels[0], names.CLASS_LABEL: labels[1]}
        complete = end.outcome in COMPLETE
        if job.first_assigned_ms is not None:
            self._queue.record((job.first_assigned_ms - job.arrival_ms) / 1000, told)
        if job.first_token_ms is not None:
            self._ttft.record((job.first_token_ms - job.arrival_ms) / 1000, told)
        tpot = tpot_ms(job)
        if complete and tpot is not None:
            self._tpot.record(tpot / 1000, told)
        if complete:
            self._jct.record((now_ms - job.arrival_ms) / 1000, told)
        met = targets_met(job, complete=complete, now_ms=now_ms)
        if met is not None and end.outcome not in NOT_OFFERED:
            self._offered[labels] += 1
            self._met[labels] += met
        if end.outcome is Outcome.STOP and job.predicted is not None and job.output_tokens:
            error = abs(job.predicted.quantile(0.5) - job.output_tokens) / job.output_tokens
            self._error.record(error)
            self._within["true" if job.output_tokens <= job.predicted.quantile(0.9) else "false"] += 1

    def predicted(self, latency_ms: float) -> None:
        """The predictor answered a question in time."""
        self._latency.record(latency_ms / 1000)

    def not_predicted(self, reason: str) -> None:
        """A question got no usable answer in time."""
        self._missing[reason] += 1

    # -- read when asked

    def observe_tenants(self, tenants: Tenants) -> None:
        """Reads from now on how many tenants there are, and how their file and usage fare."""
        meter, registry, watch = self._meter, tenants.registry, tenants.watch

        def states() -> Readings:
            disabled = sum(entry.tenant.disabled for entry in registry.entries())
            return [(len(registry.entries()) - disabled, {"state": "enabled"}), (disabled, {"state": "disabled"})]

        gauge(meter, "fairlead.tenants", "{tenant}", "Tenants by state.", states)
        counter(
            meter, "fairlead.tenants.reloads", "{reload}", "Changed tenants files that were taken, or refused.",
            lambda: [(number, {"result": result}) for result, number in list(watch.reloads.items())],
        )  # fmt: skip
        gauge(
            meter, "fairlead.tenants.problems", "{problem}", "1 while the tenants file is refused, or usage not kept.",
            lambda: [
                (int(bool(problem)), {"what": what})  # OTLP takes no booleans
                for what, problem in (("file", watch.problem), ("usage", tenants.usage.problem))
            ],
        )  # fmt: skip

    def observe(self, shell: Shell, pool: WorkerPool, predictor: PredictorLink | None) -> None:
        """Reads the scheduler's state from now on."""
        meter = self._meter

        def accounts() -> list[tuple[tuple[str, str], Account]]:
            found = list(shell.core.ledger.accounts.items())
            return [(self._labels(tenant, sensitive), account) for (tenant, sensitive), account in found]

        def of(read: str) -> Readings:
            return summed(((getattr(account, read), labels) for labels, account in accounts()), LABELS)

        def outcomes() -> Readings:
            ended = (
                (number, (*labels, outcome.value))
                for labels, account in accounts()
                for outcome, number in list(account.outcomes.items())
            )
            return summed(ended, (*LABELS, "outcome"))

        def workers() -> Readings:
            states = Counter({"connected": 0, "draining": 0, "unreachable": 0})
            for link in list(pool.links.values()):
                states["unreachable" if not link.connected else "draining" if link.draining else "connected"] += 1
            return [(number, {"state": state}) for state, number in states.items()]

        counter(meter, "fairlead.requests.accepted", "{request}", "Requests accepted.", lambda: of("accepted"))
        counter(meter, "fairlead.requests.ended", "{request}", "Requests ended, by outcome.", outcomes)
        counter(meter, "fairlead.output.tokens", "{token}", "Output tokens sent.", lambda: of("output_tokens"))
        gauge(meter, "fairlead.requests.waiting", "{request}", "Queue depth.", lambda: of("waiting"))
        gauge(meter, "fairlead.requests.running", "{request}", "Requests placed on workers.", lambda: of("running"))
        gauge(
            meter, "fairlead.requests.preparing", "{request}", "Arrived, not accepted yet.",
            lambda: [(len(shell.book.preparing), {})],
        )  # fmt: skip
        gauge(meter, "fairlead.workers", "{worker}", "Workers by state.", workers)
        if predictor is not None:
            counter(
                meter, "fairlead.predictions", "{prediction}", "Predictions that came in time.",
                lambda: [(predictor.answered, {})],
            )  # fmt: skip
            gauge(
                meter, "fairlead.predictions.in_flight", "{prediction}", "Questions that wait for an answer.",
                lambda: [(predictor.in_flight, {})],
            )  # fmt: skip

    def _counters(self) -> None:
        """Counters of what is noted here."""

        def named(counts: Counter[tuple[str, str]], second: str) -> Readings:
            return [(number, {names.TENANT_LABEL: one, second: two}) for (one, two), number in list(counts.items())]

        def plain(counts: Counter[str], name: str) -> Readings:
            return [(number, {name: value}) for value, number in list(counts.items())]

        meter, by_class = self._meter, names.CLASS_LABEL
        counter(
            meter, "fairlead.requests.refused", "{request}", "Requests refused, by reason.",
            lambda: named(self._refused, "reason"),
        )  # fmt: skip
        counter(
            meter, "fairlead.calls.refused", "{call}", "Calls refused that asked for no new answer, by reason.",
            lambda: [
                (number, {"service": service, "reason": reason})
                for (service, reason), number in list(self._calls_refused.items())
            ],
        )  # fmt: skip
        counter(
            meter, "fairlead.requests.clamped", "{request}", "Requests that asked for a class beyond their right.",
            lambda: plain(self._clamped, names.TENANT_LABEL),
        )  # fmt: skip
        counter(
            meter, "fairlead.slo.offered", "{request}", "Requests with targets: LS, and BE that state a completion.",
            lambda: named(self._offered, by_class),
        )  # fmt: skip
        counter(
            meter, "fairlead.slo.met", "{request}", "Of these, those that met all of their targets.",
            lambda: [(self._met[labels], dict(zip(LABELS, labels, strict=True))) for labels in _keys(self._offered)],
        )  # fmt: skip
        counter(
            meter, "fairlead.prompt.tokens", "{token}", "Prompt tokens accepted.",
            lambda: named(self._prompt_tokens, by_class),
        )  # fmt: skip
        counter(
            meter, "fairlead.predictions.missing", "{prediction}", "Questions without a usable answer in time.",
            lambda: plain(self._missing, "reason"),
        )  # fmt: skip
        counter(
            meter, "fairlead.predictions.checked", "{prediction}", "First predictions against the true length.",
            lambda: plain(self._within, "within_p90"),
        )  # fmt: skip

    def _labels(self, tenant: str, latency_sensitive: bool) -> tuple[str, str]:
        return self._tenant(tenant), "ls" if latency_sensitive else "be"


def tpot_ms(job: Job) -> float | None:
    """Mean time per output token after the first; None where there are not two tokens to measure between."""
    made_here = job.output_tokens - job.spec.received_tokens
    if job.first_token_ms is None or job.last_token_ms is None or made_here < 2:
        return None
    return (job.last_token_ms - job.first_token_ms) / (made_here - 1)


def targets_met(job: Job, *, complete: bool, now_ms: float) -> bool | None:
    """Whether a request met its targets as `fairlead replay` reckons attainment; None where it has none.

    LS: TTFT and mean TPOT, at the scheduler. BE: the completion target, if it states one.
    """
    spec = job.spec
    if not spec.latency_sensitive:
        if spec.completion_ms is None:
            return None
        return complete and now_ms - job.arrival_ms <= spec.completion_ms
    if not complete or job.first_token_ms is None:
        return False
    tpot = tpot_ms(job)
    in_time = job.first_token_ms - job.arrival_ms <= spec.ttft_ms
    return in_time and (tpot is None or tpot <= spec.tpot_ms)


def _keys(counts: Counter[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return list(counts)
