"""What a predictor tells of its questions: a span for each that came with a trace, and how long answers take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from fairlead import telemetry_names as names
from fairlead.telemetry.metrics import LATENCY_BUCKETS_S, counter, gauge, histogram
from fairlead.telemetry.opening import Telemetry
from fairlead.telemetry.traces import Trace
from fairlead.v1 import predictor_pb2
from predictor_svc.batching import Batcher
from predictor_svc.calibration import EVERYONE, CalibratedPredictor, Standing

MAX_MODELS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: when it came, and its span."""

    at_ms: float
    trace: Trace | None


class PredictorTelemetry:
    """Spans and metrics of one predictor; where telemetry is off, every call here returns at once.

    Args:
        telemetry: of this process.
        batcher: whose counts are read.
        predictor: its name.
        now_ms: monotonic.
    """

    def __init__(self, telemetry: Telemetry, batcher: Batcher, predictor: str, now_ms: Callable[[], float]) -> None:
        self._tracing = telemetry.tracing
        self._predictor = predictor
        self._now_ms = now_ms
        self._duration = None
        meter = telemetry.meter
        if meter is None:
            return
        self._duration = histogram(
            meter, "fairlead.predictor.question.duration", "s", LATENCY_BUCKETS_S, "A question until its answer."
        )
        counter(
            meter, "fairlead.predictor.questions", "{question}", "Questions, by what became of them.",
            lambda: [
                (batcher.answered - batcher.failed - batcher.late, {"result": "answered"}),
                (batcher.late, {"result": "late"}),
                (batcher.refused, {"result": "refused"}),
                (batcher.failed, {"result": "failed"}),
            ],
        )  # fmt: skip
        gauge(
            meter, "fairlead.predictor.questions.waiting", "{question}", "Questions that wait for the model.",
            lambda: [(batcher.waiting, {})],
        )  # fmt: skip
        gauge(
            meter, "fairlead.predictor.coverage_90", "1", "Told 90 % intervals that held, of about the last 500.",
            lambda: [(one.coverage_90, {"model": one.model}) for one in _of_all(batcher)],
        )  # fmt: skip
        counter(
            meter, "fairlead.predictor.drifts", "{drift}", "How often answers drifted from predictions.",
            lambda: [(one.drifts, {"model": one.model}) for one in _of_all(batcher)],
        )  # fmt: skip
        gauge(
            meter, "fairlead.predictor.put_aside", "1", "Worse than history, which answers in its place.",
            lambda: [(one.put_aside, {"model": one.model}) for one in _of_all(batcher)],
        )  # fmt: skip

    def asked(self, request: predictor_pb2.PredictRequest) -> Asked | None:
        """A question came; None where nothing is told of it."""
        if self._tracing is None or not request.traceparent:
            return None if self._duration is None else Asked(self._now_ms(), None)
        now_ms = self._now_ms()
        told = {
            names.PREDICTOR: self._predictor,
            names.PROMPT_TOKENS: request.prompt_tokens,
            names.GENERATED_TOKENS: request.generated_tokens,
        }
        trace = self._tracing.start(
            names.PREDICT,
            SpanKind.SERVER,
            traceparent=request.traceparent,
            tracestate=request.tracestate,
            start_ms=now_ms,
            attributes=told,
        )
        return Asked(now_ms, trace)

    def answered(self, asked: Asked | None, *, error: str = "") -> None:
        """A question has its answer, or `error`."""
        if asked is None:
            return
        now_ms = self._now_ms()
        if self._duration is not None and not error:
            self._duration.record((now_ms - asked.at_ms) / 1000)
        if asked.trace is not None:
            asked.trace.end(now_ms, error=error)


def _of_all(batcher: Batcher) -> list[Standing]:
    """By model, all tenants together; few models, so that no asker can fill a metrics store."""
    predictor = batcher.predictor
    if not isinstance(predictor, CalibratedPredictor):
        return []
    return [one for one in predictor.standings() if one.tenant == EVERYONE][:MAX_MODELS]
