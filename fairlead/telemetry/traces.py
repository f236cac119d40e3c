"""A request's span in one service, and the phases below it.

Spans are made when their times are known, mostly all at the end of the request: while it runs, only times are noted.
A span that its trace's sampler left out costs nothing but its context, which is passed on so that the next service
leaves it out as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from opentelemetry.context import Context
from opentelemetry.trace import (
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fairlead.telemetry_names import ERROR_TYPE

Attributes = Mapping[str, str | bool | int | float | tuple[str, ...]]

MAX_TRACESTATE_CHARS = 512
"""The least that W3C asks of who passes it on; a longer one is dropped."""
_W3C = TraceContextTextMapPropagator()


class Tracing:
    """Starts the spans of one service.

    Args:
        tracer: of the SDK.
        clock_ms: the service's own monotonic clock, in whose readings all times are given here.
    """

    def __init__(self, tracer: Tracer, clock_ms: Callable[[], float]) -> None:
        self._tracer = tracer
        self._clock_ms = clock_ms

    def start(
        self,
        name: str,
        kind: SpanKind,
        *,
        traceparent: str = "",
        tracestate: str = "",
        start_ms: float | None = None,
        attributes: Attributes | None = None,
    ) -> Trace:
        """The span of a request in this service, below the caller's; a context that is none begins a trace of its own.

        Args:
            name: of the span.
            kind: SERVER where the request came from another process.
            traceparent, tracestate: as the caller sent them, or "".
            start_ms: when it began; None: now.
            attributes: known at the start, for samplers to see.
        """
        carrier = {"traceparent": traceparent}
        if tracestate and len(tracestate) <= MAX_TRACESTATE_CHARS:
            carrier["tracestate"] = tracestate
        parent = _W3C.extract(carrier, Context()) if traceparent else Context()
        # Anchored at each request: wall clocks are adjusted while a service runs for months.
        offset_ns = time.time_ns() - int(self._clock_ms() * 1e6)
        return Trace(self._tracer, name, kind, parent, offset_ns, start_ms, attributes)


class Trace:
    """One span that phases, children and events hang below; times in ms of the service's own clock.

    Attributes:
        recording: it is sampled; what is false costs nothing more.
        trace_id, span_id: in hex, for logs.
    """

    __slots__ = ("_context", "_offset_ns", "_span", "_tracer", "recording", "span_id", "trace_id")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        parent: Context,
        offset_ns: int,
        start_ms: float | None,
        attributes: Attributes | None,
    ) -> None:
        self._tracer = tracer
        self._offset_ns = offset_ns
        start_ns = None if start_ms is None else self._ns(start_ms)
        self._span: Span = tracer.start_span(name, parent, kind, attributes, start_time=start_ns)
        self._context = set_span_in_context(self._span, Context())
        self.recording: bool = self._span.is_recording()
        own = self._span.get_span_context()
        self.trace_id = format_trace_id(own.trace_id)
        self.span_id = format_span_id(own.span_id)

    @property
    def traceparent(self) -> str:
        """W3C context for the next service, which then stands below this span."""
        return f"00-{self.trace_id}-{self.span_id}-{self._own.trace_flags:02x}"

    @property
    def tracestate(self) -> str:
        """What other vendors along the way want passed on, or ""."""
        state = self._own.trace_state.to_header()
        return state if len(state) <= MAX_TRACESTATE_CHARS else ""

    def child(self, name: str, kind: SpanKind, start_ms: float, attributes: Attributes | None = None) -> Trace:
        """A span below this one that is ended by its own `end`."""
        return Trace(self._tracer, name, kind, self._context, self._offset_ns, start_ms, attributes)

    def phase(self, name: str, start_ms: float, end_ms: float, attributes: Attributes | None = None) -> None:
        """A span below this one that is over already."""
        if self.recording:
            span = self._tracer.start_span(name, self._context, attributes=attributes, start_time=self._ns(start_ms))
            span.end(self._ns(max(start_ms, end_ms)))

    def event(self, name: str, at_ms: float, attributes: Attributes | None = None) -> None:
        """A moment within the span."""
        if self.recording:
            self._span.add_event(name, attributes, self._ns(at_ms))

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""
        if self.recording:
            self._span.set_attributes(attributes)

    def end(self, at_ms: float, *, error: str = "", detail: str = "") -> None:
        """Ends it; `error` is the machine-readable reason of one that failed, `detail` a sentence."""
        if not self.recording:
            return
        if error:
            self._span.set_attribute(ERROR_TYPE, error)
            self._span.set_status(Status(StatusCode.ERROR, detail or error))
        self._span.end(self._ns(at_ms))

    @property
    def _own(self) -> SpanContext:
        return self._span.get_span_context()

    def _ns(self, at_ms: float) -> int:
        return self._offset_ns + int(at_ms * 1e6)
