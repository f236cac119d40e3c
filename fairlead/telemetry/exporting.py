"""Exporters with bounds: what a collector does not take is counted and told once a minute, and costs nothing else."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from fairlead.telemetry.logs import get_logger

WARN_EVERY_S = 60.0
MAX_QUEUED_SPANS = 8192
_LIBRARY_LOG = "opentelemetry"


class Losses:
    """What did not reach the collector, counted, and told at most once in `WARN_EVERY_S`.

    Attributes:
        spans: dropped because the queue was full, or because the collector did not take them.
        exports: by signal, exports that failed.
    """

    def __init__(self, endpoint: str, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.spans = 0
        self.exports = {"traces": 0, "metrics": 0}
        self._endpoint = endpoint
        self._clock_s = clock_s
        self._warned_s = -WARN_EVERY_S
        self._lock = threading.Lock()
        self._reason = _LastWords()
        self._log = get_logger("telemetry")

    def failed(self, signal: str) -> None:
        """An export failed."""
        with self._lock:
            self.exports[signal] += 1
            now_s = self._clock_s()
            if now_s - self._warned_s < WARN_EVERY_S:
                return
            self._warned_s = now_s
        self._log.warning(
            "the collector takes no telemetry; serving goes on without",
            signal=signal,
            endpoint=self._endpoint,
            failed_exports=dict(self.exports),
            dropped_spans=self.spans,
            reason=self._reason.take(),
        )


class _LastWords(logging.Handler):
    """Keeps what the SDK says of its last failure, instead of letting it say so each time."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._words = ""
        library = logging.getLogger(_LIBRARY_LOG)
        library.handlers = [self]
        library.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self._words = record.getMessage()[:300]

    def take(self) -> str:
        """The last message."""
        return self._words


class GuardedSpans(SpanExporter):
    """Counts what the collector does not take. `taken` counts the spans handed over, whatever became of them."""

    def __init__(self, exporter: SpanExporter, losses: Losses) -> None:
        self.taken = 0
        self._exporter = exporter
        self._losses = losses

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Passes a batch on; never raises."""
        self.taken += len(spans)
        try:
            result = self._exporter.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._losses.spans += len(spans)
            self._losses.failed("traces")
        return result

    def shutdown(self) -> None:
        """Ends the exporter; an export under way gives up."""
        self._exporter.shutdown()


class BoundedSpans(SpanProcessor):
    """The SDK's batches, with a queue that drops the newest span when it is full, and counts it."""

    def __init__(self, exporter: GuardedSpans, losses: Losses) -> None:
        self._exporter = exporter
        self._losses = losses
        self._queued = 0
        self._most = int(os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE) or MAX_QUEUED_SPANS)
        self._batches = BatchSpanProcessor(exporter, max_queue_size=self._most)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: D102
        del span, parent_context

    def on_end(self, span: ReadableSpan) -> None:
        """Queues a span for the next batch."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._queued - self._exporter.taken >= self._most:
            self._losses.spans += 1
            return
        self._queued += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Sends what is queued, then ends."""
        self._batches.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Sends what is queued."""
        return self._batches.force_flush(timeout_millis)


class GuardedMetrics(MetricExporter):
    """Counts the exports that the collector does not take."""

    def __init__(self, exporter: MetricExporter, losses: Losses) -> None:
        # The reader asks these two of whatever exporter it is given.
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._losses = losses

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Passes a reading on; never raises."""
        try:
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
        except Exception:
            result = MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS:
            self._losses.failed("metrics")
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Ends the exporter; an export under way gives up."""
        self._exporter.shutdown(timeout_millis, **kwargs)
