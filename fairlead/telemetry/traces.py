"""A request's span in one service, and the phases below it.

Spans are made when they are over: while a request runs, only times and attributes are noted, and what goes to the
processor at its end is the SDK's `ReadableSpan`, without the locks and copies of a span that others could write to. A
trace that its sampler left out costs nothing but its context, which is passed on so that the next service leaves it
out as well.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from opentelemetry.context import Context
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fairlead.telemetry_names import ERROR_TYPE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event, Tracer

Attributes = Mapping[str, str | bool | int | float | tuple[str, ...]]

MAX_TRACESTATE_CHARS = 512
"""The least that W3C asks of who passes it on; a longer one is dropped."""
MAX_EVENTS = 128
"""Of one span, as in the SDK: a request that is paused again and again keeps the newest."""
_W3C = TraceContextTextMapPropagator()
_UNSET = Status(StatusCode.UNSET)


class Tracing:
    """Starts the spans of one service.

    Args:
        tracer: of the SDK: its sampler, ids, resource and processors are used.
        clock_ms: the service's own monotonic clock, in whose readings all times are given here.
    """

    def __init__(self, tracer: Tracer, clock_ms: Callable[[], float]) -> None:
        from opentelemetry.sdk.trace import Event, ReadableSpan  # noqa: PLC0415 - installed where there is a tracer

        self._tracer = tracer
        self._clock_ms = clock_ms
        self._make_span = ReadableSpan
        self.make_event = Event

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
        context = _W3C.extract(carrier, Context()) if traceparent else Context()
        ids = self._tracer.id_generator
        parent: SpanContext | None = get_current_span(context).get_span_context()
        if parent.is_valid:
            trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
        else:
            parent, trace_id, random = None, ids.generate_trace_id(), ids.is_trace_id_random()
        decided = self._tracer.sampler.should_sample(context, trace_id, name, kind, attributes, ())
        flags = TraceFlags.SAMPLED if decided.decision.is_sampled() else TraceFlags.DEFAULT
        own = SpanContext(
            trace_id,
            ids.generate_span_id(),
            is_remote=False,
            trace_flags=TraceFlags(flags | TraceFlags.RANDOM_TRACE_ID if random else flags),
            trace_state=decided.trace_state,
        )
        now_ms = self._clock_ms()
        # Anchored at each request: wall clocks are adjusted while a service runs for months.
        offset_ns = time.time_ns() - int(now_ms * 1e6)
        begun_ms = now_ms if start_ms is None else start_ms
        trace = Trace(self, name, kind, own, parent, offset_ns, begun_ms, attributes or {})
        if decided.attributes:
            trace.set(cast(Attributes, decided.attributes))
        return trace

    def below(self, own: SpanContext) -> SpanContext:
        """Ids of a span below this one; what was decided of its trace holds for it."""
        return SpanContext(
            own.trace_id,
            self._tracer.id_generator.generate_span_id(),
            is_remote=False,
            trace_flags=own.trace_flags,
            trace_state=own.trace_state,
        )

    def over(
        self,
        name: str,
        kind: SpanKind,
        own: SpanContext,
        parent: SpanContext | None,
        start_ns: int,
        end_ns: int,
        attributes: Attributes | None,
        events: tuple[Event, ...] = (),
        status: Status = _UNSET,
    ) -> None:
        """Hands a span that is over to the processors."""
        tracer = self._tracer
        self._tracer.span_processor.on_end(
            self._make_span(
                name=name, context=own, parent=parent, resource=tracer.resource, attributes=attributes, events=events,
                kind=kind, status=status, start_time=start_ns, end_time=end_ns,
                instrumentation_scope=tracer._instrumentation_scope,  # pyright: ignore[reportPrivateUsage]: told nowhere else
            )
        )  # fmt: skip


class Trace:
    """One span that phases, children and events hang below; times in ms of the service's own clock.

    Attributes:
        recording: it is sampled and not over; what is false costs nothing more.
        trace_id, span_id: in hex, for logs.
    """

    __slots__ = (
        "_attributes", "_events", "_kind", "_name", "_offset_ns", "_own", "_parent", "_start_ms", "_tracing",
        "recording", "span_id", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        tracing: Tracing,
        name: str,
        kind: SpanKind,
        own: SpanContext,
        parent: SpanContext | None,
        offset_ns: int,
        start_ms: float,
        attributes: Attributes,
    ) -> None:
        self._tracing = tracing
        self._name, self._kind = name, kind
        self._own, self._parent = own, parent
        self._offset_ns = offset_ns
        self._start_ms = start_ms
        self._attributes = dict(attributes)
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self.recording: bool = own.trace_flags.sampled
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
        below = self._tracing.below(self._own)
        return Trace(self._tracing, name, kind, below, self._own, self._offset_ns, start_ms, attributes or {})

    def phase(self, name: str, start_ms: float, end_ms: float, attributes: Attributes | None = None) -> None:
        """A span below this one that is over already."""
        if self.recording:
            start_ns, end_ns = self._ns(start_ms), self._ns(max(start_ms, end_ms))
            below = self._tracing.below(self._own)
            self._tracing.over(name, SpanKind.INTERNAL, below, self._own, start_ns, end_ns, attributes)

    def event(self, name: str, at_ms: float, attributes: Attributes | None = None) -> None:
        """A moment within the span."""
        if self.recording:
            self._events.append(self._tracing.make_event(name, attributes, self._ns(at_ms)))

    def set(self, attributes: Attributes) -> None:
        """Adds attributes."""
        if self.recording:
            self._attributes.update(attributes)

    def end(self, at_ms: float, *, error: str = "", detail: str = "") -> None:
        """Ends it; `error` is the machine-readable reason of one that failed, `detail` a sentence."""
        if not self.recording:
            return
        self.recording = False
        status = _UNSET
        if error:
            self._attributes[ERROR_TYPE] = error
            status = Status(StatusCode.ERROR, detail or error)
        self._tracing.over(
            self._name, self._kind, self._own, self._parent, self._ns(self._start_ms), self._ns(at_ms),
            self._attributes, tuple(self._events), status,
        )  # fmt: skip

    def _ns(self, at_ms: float) -> int:
        return self._offset_ns + int(at_ms * 1e6)
