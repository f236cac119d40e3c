"""What a worker tells of its requests and steps: one call when a request is admitted, one for each engine batch.

The span `execute` lasts from Admit to the end in the engine, below the scheduler's; `queue`, `prefill` and `decode`
lie in it, made at its end. They are told from what the engine's batches say, in this process: nothing runs inside the
engine for them, and no token costs anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from fairlead import telemetry_names as names
from fairlead.telemetry.logs import InTrace
from fairlead.telemetry.metrics import STEP_BUCKETS_S, Readings, counter, gauge, histogram
from fairlead.telemetry.opening import Telemetry
from fairlead.telemetry.traces import Trace
from fairlead.v1 import types_pb2, worker_pb2
from worker_svc.engines.base import ChangeKind, EndReason, Engine, EngineEnd, EngineInfo, StepBatch
from worker_svc.held import Ledger

_PREEMPTIONS = {ChangeKind.PAUSED: "pause", ChangeKind.EVICTED: "eviction"}
_NO_TRACE = InTrace("", "")


@dataclass(slots=True)
class _Open:
    """A request that the engine has; times in ms, None before."""

    trace: Trace | None
    service_class: str
    admitted_ms: float
    started_ms: float | None = None
    first_token_ms: float | None = None
    pauses: int = 0
    evictions: int = 0


class WorkerTelemetry:
    """Spans and metrics of one worker; where telemetry is off, every call here returns at once.

    Args:
        telemetry: of this process.
        now_ms: the engine's clock.
    """

    def __init__(self, telemetry: Telemetry, now_ms: Callable[[], float]) -> None:
        self._tracing = telemetry.tracing
        self._meter = telemetry.meter
        self._on = telemetry.tracing is not None or telemetry.meter is not None
        self._now_ms = now_ms
        self._open: dict[int, _Open] = {}
        self._no_token_yet: set[int] = set()
        self._steps = 0
        self._preempted: Counter[tuple[str, str]] = Counter()
        self._ended: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._step_time = None
        if self._meter is not None:
            self._step_time = histogram(
                self._meter, "fairlead.worker.step.duration", "s", STEP_BUCKETS_S, "Time of an engine step."
            )

    def admitted(self, admit: worker_pb2.Admit) -> InTrace:
        """The engine is given a request; lines that are logged in the result's `with` carry its trace."""
        if not self._on:
            return _NO_TRACE
        now_ms = self._now_ms()
        trace = None
        if self._tracing is not None:
            trace = self._tracing.start(
                names.EXECUTE,
                SpanKind.SERVER,
                traceparent=admit.traceparent,
                tracestate=admit.tracestate,
                start_ms=now_ms,
                attributes={
                    names.ATTEMPT: admit.attempt,
                    names.USAGE_INPUT_TOKENS: len(admit.token_ids) - admit.forced_tokens,
                    names.FORCED_TOKENS: admit.forced_tokens,
                },
            )
        sensitive = admit.service_class == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE
        self._open[admit.handle] = _Open(trace, "ls" if sensitive else "be", now_ms)
        if trace is None:
            return _NO_TRACE
        if trace.recording:
            self._no_token_yet.add(admit.handle)
        return InTrace(trace.trace_id, trace.span_id)

    def refused(self, handle: int, reason: str, detail: str, *, is_held: bool) -> None:
        """A request was not taken; `is_held`: an earlier placement of it goes on."""
        if not self._on:
            return
        self._refused[reason] += 1
        found = None if is_held else self._open.pop(handle, None)
        self._no_token_yet.discard(handle)
        if found is not None and found.trace is not None:
            found.trace.end(self._now_ms(), error=reason, detail=detail)

    def batch(self, batch: StepBatch, ledger: Ledger) -> None:
        """The engine did a step, and `ledger` has entered it."""
        if not self._on:
            return
        now_ms = self._now_ms()
        if self._step_time is not None and batch.step_count != self._steps and batch.step_ms > 0:
            self._step_time.record(batch.step_ms / 1000)
        self._steps = batch.step_count
        for handle, kind in batch.changes:
            # Who takes part was decided when the step began; its batch comes when it has ended.
            self._changed(handle, kind, now_ms - batch.step_ms)
        if self._no_token_yet:
            for handle in self._no_token_yet & batch.tokens.keys():
                self._no_token_yet.discard(handle)
                self._open[handle].first_token_ms = now_ms
        for end in batch.ends:
            self._end(end, ledger, now_ms)

    def engine_died(self, detail: str) -> None:
        """Nothing that the engine had goes on."""
        now_ms = self._now_ms()
        for found in self._open.values():
            self._ended[EndReason.FAILED.value] += 1
            if found.trace is not None:
                found.trace.end(now_ms, error=EndReason.FAILED.value, detail=detail)
        self._open.clear()
        self._no_token_yet.clear()

    def observe(self, engine: Engine, info: EngineInfo, ledger: Ledger, draining: Callable[[], bool]) -> None:
        """Reads the worker's state from now on."""
        meter = self._meter
        if meter is None:
            return

        def model_error() -> Readings:
            error = engine.step_model()[1]
            return [] if error is None else [(error, {})]

        counter(meter, "fairlead.worker.steps", "{step}", "Engine steps.", lambda: [(ledger.state.step_count, {})])
        gauge(
            meter, "fairlead.worker.kv_blocks.used", "{block}", "KV cache blocks in use.",
            lambda: [(ledger.state.kv_blocks_used, {})],
        )  # fmt: skip
        gauge(
            meter, "fairlead.worker.kv_blocks.total", "{block}", "KV cache blocks that there are.",
            lambda: [(info.kv_blocks, {})],
        )  # fmt: skip
        gauge(
            meter, "fairlead.worker.sequences", "{sequence}", "Sequences in the engine, by state.",
            lambda: [(ledger.state.running, {"state": "running"}), (ledger.state.waiting, {"state": "waiting"})],
        )  # fmt: skip
        gauge(
            meter, "fairlead.worker.slots", "{sequence}", "Sequences that can be resident at once.",
            lambda: [(info.slots, {})],
        )  # fmt: skip
        gauge(meter, "fairlead.worker.draining", "1", "1 while it takes nothing new.", lambda: [(int(draining()), {})])
        gauge(
            meter, "fairlead.worker.step_model.error.ratio", "1",
            "Mean |measured - predicted| / measured step time of the fitted model, recent steps.", model_error,
        )  # fmt: skip
        counter(
            meter, "fairlead.worker.preemptions", "{preemption}", "Sequences that lost their seat or their KV cache.",
            lambda: [(n, {"kind": kind, "class": each}) for (kind, each), n in list(self._preempted.items())],
        )  # fmt: skip
        counter(
            meter, "fairlead.worker.executions.ended", "{execution}", "Placements that ended, by reason.",
            lambda: [(n, {"reason": reason}) for reason, n in list(self._ended.items())],
        )  # fmt: skip
        counter(
            meter, "fairlead.worker.executions.refused", "{execution}", "Placements that were not taken, by reason.",
            lambda: [(n, {"reason": reason}) for reason, n in list(self._refused.items())],
        )  # fmt: skip
        # Known from the start, so that a query of a worker that never preempted finds 0 and not nothing.
        self._preempted.update({(kind, each): 0 for kind in _PREEMPTIONS.values() for each in ("ls", "be")})

    def _changed(self, handle: int, kind: ChangeKind, at_ms: float) -> None:
        found = self._open.get(handle)
        if found is None:
            return
        if kind in _PREEMPTIONS:
            self._preempted[_PREEMPTIONS[kind], found.service_class] += 1
            found.pauses += kind is ChangeKind.PAUSED
            found.evictions += kind is ChangeKind.EVICTED
        if found.started_ms is None:
            found.started_ms = max(found.admitted_ms, at_ms)
        elif found.trace is not None:
            found.trace.event(kind.value, at_ms)

    def _end(self, end: EngineEnd, ledger: Ledger, now_ms: float) -> None:
        found = self._open.pop(end.handle, None)
        self._no_token_yet.discard(end.handle)
        if found is None:
            return
        self._ended[end.reason.value] += 1
        trace = found.trace
        if trace is None or not trace.recording:
            return
        _phases(trace, found, now_ms)
        told: dict[str, str | int] = {
            names.OUTCOME: end.reason.value,
            names.USAGE_CACHE_READ_INPUT_TOKENS: end.cached_prompt_tokens,
            names.PAUSES: found.pauses,
            names.EVICTIONS: found.evictions,
        }
        held = ledger.get(end.handle)
        if held is not None:
            told[names.USAGE_OUTPUT_TOKENS] = held.output_tokens
        trace.set(told)
        whole = end.reason in (EndReason.STOP, EndReason.LENGTH)
        trace.end(now_ms, error="" if whole else end.reason.value, detail=end.detail)


def _phases(trace: Trace, found: _Open, end_ms: float) -> None:
    started_ms, first_ms = found.started_ms, found.first_token_ms
    trace.phase(names.QUEUE, found.admitted_ms, end_ms if started_ms is None else started_ms)
    if started_ms is not None:
        trace.phase(names.PREFILL, started_ms, end_ms if first_ms is None else first_ms)
    if first_ms is not None:
        trace.event(names.FIRST_TOKEN, first_ms)
        trace.phase(names.DECODE, first_ms, end_ms)
