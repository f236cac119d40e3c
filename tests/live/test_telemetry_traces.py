"""Traces and metrics by OTLP from real processes to a real receiver, and what is left when there is none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.client import Client, Delta, FairleadError, Finished
from fairlead.rpc import free_port
from tests.live.otlp_receiver import Receiver, Span, receiving
from tests.live.suite_process import END_S, Up, eventually, up

pytestmark = pytest.mark.live

PROMPT = "Tell of the harbour at dusk."
SCHEDULER, PREDICTOR, WORKER = "fairlead-scheduler", "fairlead-predictor", "fairlead-worker"
GENERATE = "fairlead.v1.InferenceService/Generate"

# A program as a user would write it: it sets OpenTelemetry up for itself, and has a span of its own round the request.
PROGRAM = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from fairlead.client import Client

address, key, endpoint, prompt, tokens = sys.argv[1:]
provider = TracerProvider(resource=Resource.create({"service.name": "program"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
trace.set_tracer_provider(provider)
with Client(address, key) as client, trace.get_tracer("program").start_as_current_span("work") as span:
    options = dict(max_tokens=int(tokens), min_tokens=int(tokens), ignore_eos=True, service_class="ls")
    client.complete(prompt, **options)
    print(format(span.get_span_context().trace_id, "032x"))
provider.shutdown()
"""


def configured(folder: Path, **telemetry: Any) -> Path:
    path = folder / "fairlead.yaml"
    path.write_text(yaml.safe_dump({"telemetry": telemetry, "log": {"level": "debug", "format": "json"}}))
    return path


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def suite(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("traced")
    config = configured(
        folder, traces=True, metrics=True, metrics_every_s=0.5, endpoint=f"http://{receiver.address}"
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with up(folder, "--config", str(config), "--seats", "1") as running:
            yield running


def run_program(suite: Up, receiver: Receiver, tokens: int) -> str:
    done = subprocess.run(
        [
            sys.executable, "-c", PROGRAM, suite.address, suite.session.keys["interactive"],
            f"http://{receiver.address}", PROMPT, str(tokens),
        ],
        capture_output=True, text=True, timeout=END_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def short(suite: Up, receiver: Receiver) -> dict[tuple[str, str], Span]:
    """The trace of a request of 12 tokens, by service and name."""
    return whole_trace(receiver, run_program(suite, receiver, 12))


def whole_trace(receiver: Receiver, trace_id: str) -> dict[tuple[str, str], Span]:
    """The spans of one request, by service and name, once the last has come."""
    ends = {("program", "work"), (SCHEDULER, GENERATE), (PREDICTOR, "predict"), (WORKER, "execute")}
    receiver.until(
        lambda: ends <= {(span.service, span.name) for span in receiver.trace(trace_id)}, "the trace is not whole"
    )
    spans = receiver.trace(trace_id)
    found = {(span.service, span.name): span for span in spans}
    assert len(found) == len(spans), "a span came twice"
    return found


def test_one_trace_has_the_spans_of_client_scheduler_predictor_and_worker(short: dict[tuple[str, str], Span]) -> None:
    found = short
    by_id = {span.span_id: name for name, span in found.items()}
    parents = {name: by_id.get(span.parent_id) for name, span in found.items()}
    request = (SCHEDULER, GENERATE)
    assert parents == {
        ("program", "work"): None,
        ("program", "generate demo"): ("program", "work"),
        request: ("program", "generate demo"),
        (SCHEDULER, "admit"): request,
        (SCHEDULER, "predict"): request,
        (PREDICTOR, "predict"): (SCHEDULER, "predict"),
        (SCHEDULER, "queue"): request,
        (WORKER, "execute"): request,
        (WORKER, "queue"): (WORKER, "execute"),
        (WORKER, "prefill"): (WORKER, "execute"),
        (WORKER, "decode"): (WORKER, "execute"),
    }
    phases = [found[WORKER, name] for name in ("queue", "prefill", "decode")]
    assert all(one.end_ns <= two.start_ns for one, two in pairwise(phases))
    assert found[WORKER, "execute"].start_ns <= phases[0].start_ns
    assert phases[-1].end_ns <= found[WORKER, "execute"].end_ns
    assert found[SCHEDULER, "admit"].end_ns <= found[WORKER, "execute"].start_ns


def test_spans_say_what_the_genai_conventions_ask_and_what_was_decided(short: dict[tuple[str, str], Span]) -> None:
    found = short
    for span in (found["program", "generate demo"], found[SCHEDULER, GENERATE]):
        assert span.attributes["gen_ai.operation.name"] == "text_completion"
        assert span.attributes["gen_ai.provider.name"] == "fairlead"
        assert span.attributes["gen_ai.request.max_tokens"] == 12
        assert span.attributes["gen_ai.response.model"] == "demo"
        assert span.attributes["gen_ai.response.finish_reasons"] == ["length"]
        assert span.attributes["gen_ai.usage.output_tokens"] == 12
        assert span.attributes["gen_ai.usage.input_tokens"] > 0
        assert span.attributes["fairlead.tenant"] == "interactive"
        assert "first_token" in span.events
        assert not span.failed
    told = found[SCHEDULER, GENERATE].attributes
    assert told["fairlead.outcome"] == "LENGTH"
    assert told["fairlead.predicted.p50_tokens"] > 0
    assert told["fairlead.worker_id"] == "worker-0" == found[WORKER, "execute"].resource["service.instance.id"]
    assert told["fairlead.ttft_ms"] >= told["fairlead.queue_ms"] >= 0
    assert found[SCHEDULER, GENERATE].events["placed"]["fairlead.attempt"] == 1


def test_a_longer_answer_has_no_more_spans_and_no_text_is_told(
    suite: Up, receiver: Receiver, short: dict[tuple[str, str], Span]
) -> None:
    long = whole_trace(receiver, run_program(suite, receiver, 90))
    assert set(short) == set(long)
    assert sum(len(span.events) for span in long.values()) <= sum(len(span.events) for span in short.values()) + 1
    told = repr([(span.attributes, span.events, span.name) for span in long.values()])
    assert not any(word in told for word in PROMPT.rstrip(".").split() if len(word) > 3)
    assert not any("messages" in name for span in long.values() for name in span.attributes)


def spans_of(receiver: Receiver, request_id: str) -> list[Span]:
    with receiver.lock:
        traces = [span.trace_id for span in receiver.spans if span.attributes.get("gen_ai.response.id") == request_id]
    return receiver.trace(traces[0]) if traces else []


def test_a_pause_is_an_event_of_the_paused_request(suite: Up, receiver: Receiver) -> None:
    """One seat: the best-effort request gives it up for the latency-sensitive one, and takes it again."""
    with (
        Client(suite.address, suite.session.keys["batch"]) as batch,
        Client(suite.address, suite.session.keys["interactive"]) as interactive,
    ):
        events = batch.generate("Long.", request_id="paused", max_tokens=60, min_tokens=60, ignore_eos=True)
        assert any(isinstance(event, Delta) for event in events), "it never began"
        interactive.complete("Short.", max_tokens=5, service_class="ls")
        last = list(events)[-1]
    assert isinstance(last, Finished)
    assert last.decision.pauses > 0
    receiver.until(lambda: any(s.name == "execute" for s in spans_of(receiver, "paused")), "no span of the paused one")
    (execute,) = (span for span in spans_of(receiver, "paused") if span.name == "execute")
    assert {"paused", "resumed"} <= set(execute.events)
    assert execute.attributes["fairlead.pauses"] == last.decision.pauses


def test_a_request_that_fails_or_is_refused_says_why(suite: Up, receiver: Receiver) -> None:
    with Client(suite.address, suite.session.keys["interactive"]) as client:
        for event in client.generate("x", request_id="cut", max_tokens=400, min_tokens=400, ignore_eos=True):
            if isinstance(event, Delta) and event.first_token == 0:
                client.cancel("cut")
        with pytest.raises(FairleadError):
            client.complete("x", model="nowhere")
    receiver.until(lambda: len(spans_of(receiver, "cut")) >= 7, "no spans of the cancelled one")
    cut = {(span.service, span.name): span for span in spans_of(receiver, "cut")}
    assert cut[SCHEDULER, GENERATE].failed
    assert cut[SCHEDULER, GENERATE].attributes["error.type"] == "CANCELLED_BY_CLIENT"
    assert cut[WORKER, "execute"].attributes["error.type"] == "cancelled"

    def refused() -> list[Span]:
        with receiver.lock:
            return [span for span in receiver.spans if span.attributes.get("gen_ai.request.model") == "nowhere"]

    receiver.until(lambda: bool(refused()), "no span of the refused one")
    assert [(span.failed, span.attributes["error.type"]) for span in refused()] == [(True, "UNKNOWN_MODEL")]


def test_logs_of_a_request_carry_its_trace(suite: Up, short: dict[tuple[str, str], Span]) -> None:
    request = short[SCHEDULER, GENERATE]
    trace_id = request.trace_id

    def lines() -> list[dict[str, Any]]:
        parsed = [
            json.loads(line) for line in (suite.logs / "scheduler.log").read_text().splitlines() if line[0] == "{"
        ]
        return [line for line in parsed if line.get("trace_id") == trace_id]

    eventually(lambda: bool(lines()), "no line of the log has the trace")
    assert {line["span_id"] for line in lines()} == {request.span_id}
    assert [line["outcome"] for line in lines() if line["event"] == "request ended"] == ["LENGTH"]


@pytest.mark.usefixtures("short")
def test_every_service_sends_its_metrics(receiver: Receiver) -> None:
    wanted = {
        SCHEDULER: {"fairlead.requests.ended", "gen_ai.server.time_to_first_token", "fairlead.slo.met"},
        PREDICTOR: {"fairlead.predictor.questions"},
        WORKER: {"fairlead.worker.kv_blocks.used", "fairlead.worker.step.duration"},
    }
    receiver.until(
        lambda: all(names <= receiver.metrics.get(service, {}).keys() for service, names in wanted.items()),
        "metrics are missing",
    )
    assert receiver.metrics[SCHEDULER]["gen_ai.server.time_to_first_token"].unit == "s"


def test_what_is_left_is_sent_when_the_suite_ends(receiver: Receiver, tmp_path: Path) -> None:
    """Batches would go out every 60 s: what comes, comes because the ends of the processes send it."""
    config = configured(tmp_path, traces=True, endpoint=f"http://{receiver.address}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        with up(tmp_path, "--config", str(config)) as running:
            with Client(running.address, running.session.keys["batch"]) as client:
                client.complete("x", request_id="last", max_tokens=3)
            running.interrupt()
            assert running.process.wait(END_S) == 0
    assert {span.service for span in spans_of(receiver, "last")} == {SCHEDULER, PREDICTOR, WORKER}


def test_a_collector_that_is_away_costs_one_warning_and_nothing_else(tmp_path: Path) -> None:
    page = free_port()
    config = configured(
        tmp_path, traces=True, metrics=True, metrics_every_s=0.3, endpoint=f"http://127.0.0.1:{free_port()}",
        prometheus={"scheduler": f"127.0.0.1:{page}"},
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
        with up(tmp_path, "--config", str(config)) as running:
            with Client(running.address, running.session.keys["batch"]) as client:
                for _ in range(5):
                    client.complete("x", max_tokens=3)

            def counted(name: str) -> float:
                text = urllib.request.urlopen(f"http://127.0.0.1:{page}/metrics", timeout=10).read().decode()
                return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

            eventually(lambda: counted("fairlead_telemetry_dropped_spans_total") > 0, "no lost span was counted")
            eventually(
                lambda: counted("fairlead_telemetry_failed_exports_total") > 2, "failed exports were not counted"
            )
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(END_S) == 0
    for service in ("scheduler", "predictor", "worker-0"):
        warnings = [line for line in (running.logs / f"{service}.log").read_text().splitlines() if "collector" in line]
        assert len(warnings) <= 1, f"{service} repeats itself"
    (warning,) = [line for line in (running.logs / "scheduler.log").read_text().splitlines() if "collector" in line]
    assert "UNAVAILABLE" in json.loads(warning)["reason"]
