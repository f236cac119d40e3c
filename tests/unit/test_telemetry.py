"""Telemetry without processes: names, bounds, what is sampled, what is told, and what a configuration is told."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, server_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind

from fairlead import telemetry_names as names
from fairlead.config import Config, ConfigError, PrometheusConfig, TelemetryConfig
from fairlead.lengths import LengthDistribution
from fairlead.telemetry import exporting, logs
from fairlead.telemetry.encoding import SpanSender
from fairlead.telemetry.exporting import WARN_EVERY_S, BoundedSpans, GuardedSpans, Losses
from fairlead.telemetry.metrics import TenantLabels, summed
from fairlead.telemetry.opening import Telemetry, open_telemetry
from fairlead.telemetry.traces import MAX_EVENTS, Tracing
from fairlead.v1 import inference_pb2, types_pb2, worker_pb2
from scheduler_svc.answer import Answer
from scheduler_svc.core.types import Arrived, End, Job, Outcome
from scheduler_svc.metrics import targets_met, tpot_ms
from scheduler_svc.requests import Request
from scheduler_svc.telemetry import SchedulerTelemetry
from worker_svc.engines.base import ChangeKind, EndReason, EngineEnd, StepBatch
from worker_svc.held import Ledger
from worker_svc.telemetry import WorkerTelemetry

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def clock() -> float:
    return 1000.0


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracing(provider.get_tracer("test"), clock)


# -- names


def test_names_are_those_of_the_semantic_conventions() -> None:
    ours = {
        value
        for name, value in vars(names).items()
        if isinstance(value, str) and value.startswith(("gen_ai.", "server.", "error."))
    }
    modules = (gen_ai_attributes, server_attributes, error_attributes, gen_ai_metrics)
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    assert ours
    assert ours - known == set()


# -- off


def test_off_imports_nothing_of_opentelemetry_in_the_client() -> None:
    program = "import sys, fairlead.client; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_off_opens_nothing_and_imports_no_sdk() -> None:
    program = (
        "import sys; from fairlead.config import TelemetryConfig; from fairlead.telemetry.opening import *\n"
        "assert open_telemetry(TelemetryConfig(), 'worker', lambda: 0.0) == Telemetry(_close=Telemetry()._close)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_defaults_are_off() -> None:
    told = TelemetryConfig()
    assert not told.traces
    assert not told.metrics
    assert not told.capture_content
    assert told.prometheus == PrometheusConfig(scheduler=None, predictor=None, worker=None)


# -- errors of a configuration


def test_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("providers", "encoding"):
        monkeypatch.delitem(sys.modules, f"fairlead.telemetry.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"pip install 'fairlead\[telemetry\]'"):
        open_telemetry(TelemetryConfig(traces=True), "worker", clock)


def test_protocol_that_is_not_spoken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with pytest.raises(ConfigError, match="OTLP over grpc only"):
        open_telemetry(TelemetryConfig(traces=True), "worker", clock)


def test_taken_port_of_a_page_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"telemetry\.prometheus\.worker: cannot listen on 127\.0\.0\.1"):
            open_telemetry(TelemetryConfig(prometheus=PrometheusConfig(worker=page)), "worker", clock)


@pytest.mark.parametrize(
    ("telemetry", "field"),
    [
        ({"endpoint": "localhost:4317"}, "telemetry.endpoint"),
        ({"sample_ratio": 1.5}, "telemetry.sample_ratio"),
        ({"prometheus": {"worker": "9464"}}, "telemetry.prometheus.worker"),
        ({"protocol": "http"}, "telemetry.protocol"),
    ],
)
def test_a_wrong_value_names_its_field(telemetry: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Config.model_validate({"telemetry": telemetry})


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
async def test_standard_variables_turn_it_off(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    opened = open_telemetry(TelemetryConfig(traces=True), "worker", clock)
    assert opened.tracing is None
    await opened.close()


# -- spans


def test_a_sent_context_is_continued_and_passed_on(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    trace = tracing.start("request", SpanKind.SERVER, traceparent=PARENT, tracestate="vendor=1")
    assert trace.traceparent == f"00-{PARENT.split('-')[1]}-{trace.span_id}-01"
    assert trace.tracestate == "vendor=1"
    trace.end(clock() + 5)
    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == int(PARENT.split("-")[2], 16)


@pytest.mark.parametrize("sent", ["", "00-zz-yy-01", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 9000])
def test_a_context_that_is_none_begins_a_trace(tracing: Tracing, sent: str) -> None:
    trace = tracing.start("request", SpanKind.SERVER, traceparent=sent, tracestate="a=" + "b" * 2000)
    assert trace.recording
    assert int(trace.trace_id, 16)
    assert trace.tracestate == ""


def test_what_the_client_left_out_is_left_out_everywhere(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    trace = tracing.start("request", SpanKind.SERVER, traceparent=PARENT[:-2] + "00")
    child = trace.child("predict", SpanKind.CLIENT, clock())
    assert not trace.recording
    assert not child.recording
    assert child.traceparent.endswith("-00")
    trace.phase("queue", 0, 1)
    child.end(clock())
    trace.end(clock())
    assert spans.get_finished_spans() == ()


def test_times_of_the_services_clock_become_wall_time(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    trace = tracing.start("request", SpanKind.SERVER, start_ms=clock() - 50)
    trace.phase("queue", clock() - 40, clock() - 10)
    trace.event("first_token", clock() - 10)
    trace.end(clock(), error="EXPIRED", detail="too late")
    queue, request = spans.get_finished_spans()

    def after_start(at_ns: int | None) -> float:
        assert at_ns is not None
        assert request.start_time is not None
        return (at_ns - request.start_time) / 1e6

    assert [after_start(at) for at in (queue.start_time, queue.end_time, request.end_time)] == [10, 40, 50]
    assert after_start(request.events[0].timestamp) == 40
    assert request.attributes is not None
    assert request.attributes[names.ERROR_TYPE] == "EXPIRED"


# -- encoding


def test_spans_are_encoded_as_the_library_would(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    trace = tracing.start(
        "generate", SpanKind.SERVER, traceparent=PARENT, tracestate="vendor=1", attributes={"text": "ä", "whole": 7}
    )
    trace.phase("queue", 1.0, 2.0)
    trace.event("placed", 3.0, {"attempt": 1})
    trace.event("first_token", 4.0)
    trace.set({"real": 0.5, "true": True, "texts": ("a", "b")})
    trace.child("predict", SpanKind.CLIENT, 5.0, {"p50": 1.5}).end(6.0)
    trace.end(7.0, error="EXPIRED", detail="its deadline passed")
    tracing.start("alone", SpanKind.INTERNAL).end(1.0)
    made = spans.get_finished_spans()
    assert len(made) == 4
    sender = SpanSender(endpoint="http://127.0.0.1:1")
    for batch in (made, made[1:]):  # the second one has the resource from the first
        assert sender._translate_data(batch) == encode_spans(batch)
    sender.shutdown()


def test_a_span_that_is_over_takes_nothing_more(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    trace = tracing.start("generate", SpanKind.SERVER)
    for number in range(3 * MAX_EVENTS):
        trace.event("paused", float(number))
    trace.end(7.0)
    trace.set({"late": 1})
    trace.phase("late", 1.0, 2.0)
    trace.end(8.0)
    (span,) = spans.get_finished_spans()
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.attributes == {}
    assert len(span.events) == MAX_EVENTS


# -- bounds


class Stuck(SpanExporter):
    """A collector that takes a batch and never answers, until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        del spans
        self.go.wait(20)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.go.set()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    exporter = Stuck()
    yield exporter
    exporter.shutdown()


def test_a_stuck_collector_costs_spans_and_never_waits(monkeypatch: pytest.MonkeyPatch, stuck: Stuck) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "64")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    losses = Losses("http://nowhere")
    bounded = BoundedSpans(GuardedSpans(stuck, losses), losses)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(bounded)
    tracer = provider.get_tracer("test")
    for _ in range(1000):
        tracer.start_span("request").end()
    # At most one batch is with the exporter and 64 wait; the rest is dropped, and counted.
    assert 1000 - 64 - 16 <= losses.spans <= 1000 - 64
    stuck.shutdown()
    provider.shutdown()


class Refusing(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        del spans
        raise ConnectionError("no")

    def shutdown(self) -> None:
        pass


def test_lost_batches_are_counted_and_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []

    class Log:
        def warning(self, _event: str, **fields: Any) -> None:
            told.append(fields)

    monkeypatch.setattr(exporting, "get_logger", lambda _name: Log())
    now = 0.0
    losses = Losses("http://nowhere", lambda: now)
    guarded = GuardedSpans(Refusing(), losses)
    batch: list[Any] = [object()] * 5
    for _ in range(10):
        assert guarded.export(batch) is SpanExportResult.FAILURE
    assert (len(told), losses.spans, losses.exports["traces"]) == (1, 50, 10)
    now = WARN_EVERY_S
    guarded.export(batch)
    assert len(told) == 2
    assert told[1]["dropped_spans"] == 55


def test_tenants_beyond_the_bound_count_together() -> None:
    label = TenantLabels(["a", "b", "c"], 2)
    assert [label(name) for name in ("a", "b", "c", "stranger")] == ["a", "b", "other", "other"]
    readings = summed(((1.0, (label(name), "ls")) for name in ("a", "b", "c", "stranger")), ("tenant", "class"))
    found = {labels["tenant"]: value for value, labels in readings}
    assert found == {"a": 1.0, "b": 1.0, "other": 2.0}


# -- attainment


def job(**changes: Any) -> Job:
    spec = Arrived(
        job_id=1, tenant="t", model="m", latency_sensitive=True, ttft_ms=100, tpot_ms=10, prompt_tokens=5, max_tokens=50
    )  # fmt: skip
    told = Job(spec, 0.0, LengthDistribution.from_point(20))
    told.first_token_ms, told.last_token_ms, told.output_tokens = 90.0, 280.0, 20
    for name, value in changes.items():
        setattr(told, name, value)
    return told


def test_attainment_needs_both_targets_and_a_whole_answer() -> None:
    assert tpot_ms(job()) == 10
    assert targets_met(job(), complete=True, now_ms=300) is True
    assert targets_met(job(), complete=False, now_ms=300) is False
    assert targets_met(job(first_token_ms=101.0), complete=True, now_ms=300) is False
    assert targets_met(job(last_token_ms=300.0), complete=True, now_ms=300) is False
    assert targets_met(job(first_token_ms=None), complete=True, now_ms=300) is False
    assert targets_met(job(output_tokens=1, last_token_ms=90.0), complete=True, now_ms=300) is True


# -- logs


def test_lines_inside_a_trace_carry_its_ids() -> None:
    event = {"event": "x"}
    with logs.InTrace("a" * 32, "b" * 16):
        inside = logs._with_trace(None, "info", dict(event))
    assert inside["trace_id"] == "a" * 32
    assert inside["span_id"] == "b" * 16
    assert logs._with_trace(None, "info", dict(event)) == event
    with logs.InTrace("", ""):
        assert logs._with_trace(None, "info", dict(event)) == event


# -- a worker's spans


def test_a_workers_phases_begin_when_their_steps_began(spans: InMemorySpanExporter) -> None:
    now = 0.0
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = WorkerTelemetry(Telemetry(tracing=Tracing(provider.get_tracer("test"), lambda: now)), lambda: now)
    ledger = Ledger()
    admit = worker_pb2.Admit(handle=3, token_ids=[1, 2], traceparent=PARENT)
    ledger.add(admit)

    def at(ms: float, batch: StepBatch) -> None:
        nonlocal now
        now = ms
        ledger.record(batch)
        telemetry.batch(batch, ledger)

    with telemetry.admitted(admit):
        pass
    at(50, StepBatch(1, 20.0, changes=[(3, ChangeKind.STARTED)], tokens={3: [7]}))
    at(60, StepBatch(2, 10.0, changes=[(3, ChangeKind.PAUSED)]))
    at(80, StepBatch(3, 10.0, changes=[(3, ChangeKind.RESUMED)], tokens={3: [8]}))
    at(90, StepBatch(4, 10.0, tokens={3: [9]}, ends=[EngineEnd(3, EndReason.STOP)]))
    found = {span.name: span for span in spans.get_finished_spans()}
    began_ns = found["execute"].start_time
    assert began_ns is not None

    def ms(at_ns: int | None) -> float:
        assert at_ns is not None
        return round((at_ns - began_ns) / 1e6, 3)

    lasted = {name: (ms(span.start_time), ms(span.end_time)) for name, span in found.items()}
    assert lasted == {"queue": (0, 30), "prefill": (30, 50), "decode": (50, 90), "execute": (0, 90)}
    events = {event.name: ms(event.timestamp) for event in found["execute"].events}
    assert events == {"paused": 50, "resumed": 70, "first_token": 50}
    assert found["execute"].attributes is not None
    assert found["execute"].attributes[names.USAGE_OUTPUT_TOKENS] == 3
    at(100, StepBatch(5, 10.0, tokens={4: [1]}, ends=[EngineEnd(4, EndReason.STOP)]))  # a stranger's


# -- content


@pytest.mark.parametrize("capture", [False, True])
def test_prompts_and_answers_are_told_only_if_asked_for(
    tracing: Tracing, spans: InMemorySpanExporter, capture: bool
) -> None:
    config = TelemetryConfig(capture_content=capture, max_content_chars=12)
    telemetry = SchedulerTelemetry(Telemetry(tracing=tracing), config, (), clock)
    request = Request(
        handle=1,
        accepted=inference_pb2.Accepted(request_id="r", tenant="t", model="m", prompt_tokens=3, max_tokens=50),
        digest=b"", latency_sensitive=True, prompt_ids=array("I", [1]), prompt_text="a secret prompt",
        sampling=types_pb2.SamplingParams(), slo=types_pb2.Slo(), arrived_ms=0.0, expires_ms=1e9, resume_grace_ms=0,
        return_token_ids=False, length_hint=None, answer=Answer(),
    )  # fmt: skip
    request.answer.append([7], "a secret answer")
    request.trace = tracing.start("request", SpanKind.SERVER)
    telemetry.accepted(request, clock())
    telemetry.ended(request, job(), End(1, Outcome.STOP, ""))
    told = repr([(span.attributes, span.events) for span in spans.get_finished_spans()])
    assert ("a secret pro" in told) is capture
    assert "a secret prompt" not in told
    assert ("a secret ans" in told) is capture
    assert {span.name for span in spans.get_finished_spans()} == {"admit", "queue", "request"}
