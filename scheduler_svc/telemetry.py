"""What the scheduler tells of each request: its spans and its share in the metrics. One call a phase, none a token.

The span of a request begins with the call and ends with its outcome, not with the client's stream. `admit` and
`queue` hang below it, made from times that are known already; `predict` is the first question to the predictor; the
worker's own span comes below it through the `traceparent` of Admit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry.trace import SpanKind

from fairlead import telemetry_names as names
from fairlead.config import TelemetryConfig, Tenant
from fairlead.lengths import LengthDistribution
from fairlead.rpc import Refusal, ServicerContext, reason_of
from fairlead.telemetry import get_logger
from fairlead.telemetry.logs import InTrace
from fairlead.telemetry.metrics import TenantLabels
from fairlead.telemetry.opening import Telemetry
from fairlead.telemetry.traces import Trace
from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.core.admission import RefusalReason
from scheduler_svc.core.types import End, Job
from scheduler_svc.metrics import COMPLETE, SchedulerMetrics, tpot_ms
from scheduler_svc.requests import Request

if TYPE_CHECKING:
    from scheduler_svc.tenants.usage import UsageMeter

NOT_LOAD = frozenset(
    {
        "INVALID_FIELD",
        "ID_IN_USE",
        "UNKNOWN_MODEL",
        RefusalReason.TENANT_IN_FLIGHT.value,
        RefusalReason.TENANT_QUEUED_TOKENS.value,
        RefusalReason.TENANT_TOKEN_RATE.value,
    }
)
"""Refusals that are the client's own doing: no promise of the service was missed."""
UNKNOWN_TENANT = "unknown"
_SAMPLING = {
    names.REQUEST_TEMPERATURE: "temperature",
    names.REQUEST_TOP_P: "top_p",
    names.REQUEST_TOP_K: "top_k",
    names.REQUEST_PRESENCE_PENALTY: "presence_penalty",
    names.REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    names.REQUEST_SEED: "seed",
    names.REQUEST_MAX_TOKENS: "max_tokens",
}


class SchedulerTelemetry:
    """Spans and metrics of one scheduler; where telemetry is off, every call here returns at once.

    Args:
        telemetry: of this process.
        config: what may be told.
        tenants: names, those first that metrics are to name first.
        clock_ms: the shell's.
        usage: counts what each tenant uses; None: nobody does.

    Attributes:
        metrics: None where they are off.
        captures_content: prompts and answers go into spans.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        config: TelemetryConfig,
        tenants: Sequence[str],
        clock_ms: Callable[[], float],
        usage: UsageMeter | None = None,
    ) -> None:
        self.metrics: SchedulerMetrics | None = None
        if telemetry.meter is not None:
            labels = TenantLabels(tenants, config.tenant_labels)
            self.metrics = SchedulerMetrics(telemetry.meter, labels)
        self._tracing = telemetry.tracing
        self._clock_ms = clock_ms
        self._usage = usage
        self._content_chars = config.max_content_chars if config.capture_content else 0
        self.captures_content = self._content_chars > 0
        self._log = get_logger("requests")

    def asked(self, request: inference_pb2.GenerateRequest, context: ServicerContext) -> Asked:
        """A call came in: to be used as `with`, around all that may refuse it."""
        trace = None
        if self._tracing is not None:
            sent = {key: value for key, value in context.invocation_metadata() or () if key in _W3C}
            trace = self._tracing.start(
                names.GENERATE_RPC,
                SpanKind.SERVER,
                traceparent=str(sent.get("traceparent", "")),
                tracestate=str(sent.get("tracestate", "")),
                start_ms=self._clock_ms(),
                attributes=_asked_for(request),
            )
        return Asked(self, trace, request, self._clock_ms())

    def asked_inside(self, request: inference_pb2.GenerateRequest, tenant: Tenant) -> Asked:
        """A job asks for one of its lines: a trace of its own, and a refusal is no client's."""
        trace = None
        if self._tracing is not None:
            trace = self._tracing.start(
                names.JOB_LINE, SpanKind.INTERNAL, start_ms=self._clock_ms(), attributes=_asked_for(request)
            )
        asked = Asked(self, trace, request, self._clock_ms())
        asked.tenant = tenant
        return asked

    def accepted(self, request: Request, asked_ms: float, *, clamped: bool = False) -> None:
        """A request was accepted; `clamped`: in another class than it asked for."""
        accepted = request.accepted
        if self._usage is not None:
            self._usage.accepted(request, clamped=clamped)
        if self.metrics is not None:
            self.metrics.accepted(accepted.tenant, request.latency_sensitive, accepted.prompt_tokens)
            if clamped:
                self.metrics.clamped(accepted.tenant)
        trace = request.trace
        if trace is not None and trace.recording:
            trace.set(_of(request))
            trace.phase(names.ADMIT, asked_ms, self._clock_ms(), {names.PROMPT_TOKENS: accepted.prompt_tokens})

    def refused(self, asked: Asked, refusal: Refusal) -> None:
        """A request was refused before it was accepted."""
        reason = reason_of(refusal)
        if self._usage is not None and asked.tenant is not None:
            self._usage.refused(asked.tenant.name, reason)
        tenant = asked.tenant.name if asked.tenant else UNKNOWN_TENANT
        if self.metrics is not None:
            owed = asked.tenant is not None and reason not in NOT_LOAD and _latency_sensitive(asked)
            self.metrics.refused(tenant, reason, latency_sensitive=owed)
        if asked.trace is not None:
            asked.trace.set({names.TENANT: tenant})
            asked.trace.end(self._clock_ms(), error=reason, detail=refusal.message)
        self._log.debug("request refused", tenant=tenant, reason=reason)

    def not_let_in(self, refusal: Refusal) -> None:
        """Somebody asked who is no tenant, or has too many calls open; it was not looked at what."""
        reason = reason_of(refusal)
        if self.metrics is not None:
            self.metrics.refused(UNKNOWN_TENANT, reason, latency_sensitive=False)
        self._log.debug("call refused", reason=reason)

    def call_refused(self, service: str, refusal: Refusal) -> None:
        """Another call than Generate was refused, or a stream of a request that goes on was cut."""
        if self.metrics is not None:
            self.metrics.call_refused(service, reason_of(refusal))

    def placed(self, request: Request, attempt: int, worker_id: str) -> None:
        """A request was given to a worker."""
        if request.trace is not None:
            told = {names.WORKER_ID: worker_id, names.ATTEMPT: attempt}
            request.trace.event(names.PLACED, self._clock_ms(), told)

    def question(self, request: Request, generated_tokens: int) -> Trace | None:
        """The predictor is asked: a span for the first question, an event for each later one."""
        trace = request.trace
        if trace is None:
            return None
        if generated_tokens:
            trace.event(names.PREDICTED_AGAIN, self._clock_ms(), {names.GENERATED_TOKENS: generated_tokens})
            return None
        return trace.child(names.PREDICT, SpanKind.CLIENT, self._clock_ms())

    def predicted(self, question: Trace | None, latency_ms: float, distribution: LengthDistribution) -> None:
        """A question was answered in time."""
        if self.metrics is not None:
            self.metrics.predicted(latency_ms)
        if question is not None and question.recording:
            question.set(_predicted(distribution))
            question.end(self._clock_ms())

    def not_predicted(self, question: Trace | None, reason: str) -> None:
        """A question got no usable answer in time."""
        if self.metrics is not None:
            self.metrics.not_predicted(reason)
        if question is not None:
            question.end(self._clock_ms(), error=reason)

    def ended(self, request: Request, job: Job, end: End) -> None:
        """A request has its outcome."""
        now_ms = self._clock_ms()
        if self._usage is not None:
            self._usage.ended(request, job, end)
        if self.metrics is not None:
            self.metrics.ended(job, end, now_ms)
        trace = request.trace
        if trace is not None and trace.recording:
            self._end_span(trace, request, job, end, now_ms)
        ids = {} if trace is None else {"trace_id": trace.trace_id, "span_id": trace.span_id}
        tenant, request_id = request.key
        self._log.debug(
            "request ended", tenant=tenant, request_id=request_id, outcome=end.outcome.value,
            output_tokens=job.output_tokens, **ids,
        )  # fmt: skip

    def _end_span(self, trace: Trace, request: Request, job: Job, end: End, now_ms: float) -> None:
        queue_end_ms = now_ms if job.first_assigned_ms is None else job.first_assigned_ms
        trace.phase(names.QUEUE, job.arrival_ms, queue_end_ms)
        if job.first_token_ms is not None:
            trace.event(names.FIRST_TOKEN, job.first_token_ms)
        told = _decided(request, job, end, queue_end_ms)
        if self._content_chars:
            told[names.INPUT_MESSAGES] = _message("user", request.prompt_text, self._content_chars)
            told[names.OUTPUT_MESSAGES] = _message("assistant", request.answer.text(), self._content_chars)
        trace.set(told)
        failed = "" if end.outcome in COMPLETE else end.outcome.value
        trace.end(now_ms, error=failed, detail=end.detail)


class Asked:
    """One call until its request is accepted, found or refused; while inside `with`, logs carry its trace.

    Attributes:
        trace: its span; None where there is none.
        request: as it came.
        tenant: who asks, once known.
    """

    __slots__ = ("_asked_ms", "_in_trace", "_taken", "_telemetry", "request", "tenant", "trace")

    def __init__(
        self,
        telemetry: SchedulerTelemetry,
        trace: Trace | None,
        request: inference_pb2.GenerateRequest,
        asked_ms: float,
    ) -> None:
        self.trace = trace
        self.request = request
        self.tenant: Tenant | None = None
        self._telemetry = telemetry
        self._asked_ms = asked_ms
        self._taken = False
        self._in_trace = InTrace("", "") if trace is None else InTrace(trace.trace_id, trace.span_id)

    def accept(self, request: Request, *, clamped: bool = False) -> None:
        """It became this request, which ends the span from now on; `clamped`: in another class than it asked for."""
        self._taken = True
        request.trace = self.trace
        self._telemetry.accepted(request, self._asked_ms, clamped=clamped)

    def __enter__(self) -> Self:
        self._in_trace.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_trace.__exit__(kind, error, traceback)
        if self._taken:
            return
        if isinstance(error, Refusal):
            self._telemetry.refused(self, error)
        elif self.trace is not None:
            self.trace.event(names.ATTACHED, self._asked_ms)
            self.trace.end(self._asked_ms, error="" if error is None else type(error).__name__)


_W3C = ("traceparent", "tracestate")


def _latency_sensitive(asked: Asked) -> bool:
    wanted = asked.request.service_class
    if wanted == types_pb2.SERVICE_CLASS_UNSPECIFIED and asked.tenant is not None:
        return asked.tenant.default_class == "ls"
    return wanted == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE


def _asked_for(request: inference_pb2.GenerateRequest) -> dict[str, str | int | float | bool]:
    """What the call asks for, under the names of the GenAI conventions."""
    chat = request.WhichOneof("input") == "messages"
    told: dict[str, str | int | float | bool] = {
        names.OPERATION_NAME: names.CHAT if chat else names.TEXT_COMPLETION,
        names.PROVIDER_NAME: names.PROVIDER,
        names.REQUEST_STREAM: True,
    }
    if request.HasField("model"):
        told[names.REQUEST_MODEL] = request.model[:256]
    for name, field in _SAMPLING.items():
        if request.sampling.HasField(field):
            told[name] = getattr(request.sampling, field)
    return told


def _of(request: Request) -> dict[str, str | int | float]:
    accepted, slo = request.accepted, request.accepted.effective_slo
    told: dict[str, str | int | float] = {
        names.TENANT: accepted.tenant,
        names.SERVICE_CLASS: "ls" if request.latency_sensitive else "be",
        names.RESPONSE_ID: accepted.request_id,
        names.RESPONSE_MODEL: accepted.model,
        names.USAGE_INPUT_TOKENS: accepted.prompt_tokens,
    }
    targets = ("ttft_ms", names.TTFT_TARGET_MS), ("tpot_ms", names.TPOT_TARGET_MS), (
        "completion_ms", names.COMPLETION_TARGET_MS,
    )  # fmt: skip
    for field, name in targets:
        if slo.HasField(field):
            told[name] = getattr(slo, field)
    return told


def _decided(
    request: Request, job: Job, end: End, queue_end_ms: float
) -> dict[str, str | int | float | tuple[str, ...]]:
    told: dict[str, str | int | float | tuple[str, ...]] = {
        names.OUTCOME: end.outcome.value,
        names.RESPONSE_FINISH_REASONS: (end.outcome.value.lower(),),
        names.USAGE_OUTPUT_TOKENS: len(request.answer),
        names.USAGE_CACHE_READ_INPUT_TOKENS: request.cached_prompt_tokens,
        names.QUEUE_MS: queue_end_ms - job.arrival_ms,
        names.PAUSES: job.pauses,
        names.EVICTIONS: job.evictions,
        names.ATTEMPTS: job.attempt,
        names.WORKER_ID: request.worker_id,
    }
    if job.first_token_ms is not None:
        told[names.TTFT_MS] = job.first_token_ms - job.arrival_ms
        told[names.RESPONSE_TIME_TO_FIRST_CHUNK] = (job.first_token_ms - job.arrival_ms) / 1000
    pace = tpot_ms(job)
    if pace is not None:
        told[names.TPOT_MS] = pace
    if job.predicted is not None:
        told.update(_predicted(job.predicted))
    return told


def _predicted(distribution: LengthDistribution) -> dict[str, str | float]:
    return {
        names.PREDICTED_P50_TOKENS: distribution.quantile(0.5),
        names.PREDICTED_P90_TOKENS: distribution.quantile(0.9),
        names.PREDICTOR: distribution.source,
    }


def _message(role: str, text: str, most_chars: int) -> str:
    """One message as the GenAI conventions have it, in JSON."""
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text[:most_chars]}]}], ensure_ascii=False)
