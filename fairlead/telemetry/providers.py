"""The OpenTelemetry SDK put together for one process. Nothing global is set: a host program's own telemetry stays."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, cast

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk import environment_variables as env
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from fairlead.config import ConfigError, TelemetryConfig
from fairlead.telemetry.encoding import SpanSender
from fairlead.telemetry.exporting import BoundedSpans, GuardedMetrics, GuardedSpans, Losses
from fairlead.telemetry.logs import get_logger
from fairlead.telemetry.metrics import counter
from fairlead.telemetry.opening import Telemetry
from fairlead.telemetry.traces import Tracing

FLUSH_WITHIN_S = 2.0
EXPORT_WITHIN_S = 5.0
"""For one export and its repetitions; OTEL_EXPORTER_OTLP_TIMEOUT where that is set."""
_DEFAULT_ENDPOINT = "http://localhost:4317"
_TIMEOUTS = (
    env.OTEL_EXPORTER_OTLP_TIMEOUT,
    env.OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
    env.OTEL_EXPORTER_OTLP_METRICS_TIMEOUT,
)


def open_providers(
    config: TelemetryConfig, service: str, clock_ms: Callable[[], float], instance: str, page: str | None
) -> Telemetry:
    """Exporters, processors and the page for Prometheus; see `open_telemetry`."""
    disabled = os.environ.get(env.OTEL_SDK_DISABLED, "").strip().lower() == "true"
    traces = config.traces and not disabled and os.environ.get("OTEL_TRACES_EXPORTER") != "none"
    metrics = config.metrics and not disabled and os.environ.get("OTEL_METRICS_EXPORTER") != "none"
    if traces or metrics:
        _check_protocol()
    resource = _resource(service, instance)
    losses = Losses(config.endpoint or os.environ.get(env.OTEL_EXPORTER_OTLP_ENDPOINT) or _DEFAULT_ENDPOINT)
    timeout_s = None if any(os.environ.get(name) for name in _TIMEOUTS) else EXPORT_WITHIN_S
    closing: list[Callable[[], object]] = []
    giving_up: list[Callable[[], object]] = []
    tracing = meter = None
    bound = ""
    if traces:
        exporter = SpanSender(endpoint=config.endpoint, timeout=timeout_s)
        provider = TracerProvider(_sampler(config), resource, shutdown_on_exit=False)
        provider.add_span_processor(BoundedSpans(GuardedSpans(exporter, losses), losses))
        tracing = Tracing(cast(Tracer, provider.get_tracer("fairlead", version("fairlead"))), clock_ms)
        closing.append(provider.shutdown)
        giving_up.append(exporter.shutdown)
    readers: list[MetricReader] = []
    if metrics:
        sender = OTLPMetricExporter(endpoint=config.endpoint, timeout=timeout_s)
        every_ms = None if config.metrics_every_s is None else 1000 * config.metrics_every_s
        readers.append(PeriodicExportingMetricReader(GuardedMetrics(sender, losses), every_ms))
        giving_up.append(sender.shutdown)
    if page and not disabled:
        reader, bound, close_page = _page(page, service)
        readers.append(reader)
        closing.append(close_page)
    if readers:
        meters = MeterProvider(
            readers, resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )  # fmt: skip
        meter = meters.get_meter("fairlead", version("fairlead"))
        _count_losses(meter, losses)
        closing.insert(0, meters.shutdown)
    get_logger("telemetry").info("telemetry on", traces=traces, metrics=metrics, page=bound)
    return Telemetry(tracing, meter, bound, partial(_close, closing, giving_up))


def _check_protocol() -> None:
    asked = os.environ.get(env.OTEL_EXPORTER_OTLP_PROTOCOL, "grpc")
    if asked != "grpc":
        raise ConfigError(
            f"telemetry: OTEL_EXPORTER_OTLP_PROTOCOL is {asked!r}, but fairlead speaks OTLP over grpc only; set it to "
            "grpc and give the collector's gRPC port (4317 by custom)"
        )


def _resource(service: str, instance: str) -> Resource:
    """Who this process is; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before what is made up here."""
    ours = {
        SERVICE_NAMESPACE: "fairlead",
        SERVICE_NAME: f"fairlead-{service}",
        SERVICE_VERSION: version("fairlead"),
        SERVICE_INSTANCE_ID: instance or f"{socket.gethostname()}:{os.getpid()}",
    }
    told = {part.partition("=")[0].strip() for part in os.environ.get(env.OTEL_RESOURCE_ATTRIBUTES, "").split(",")}
    if os.environ.get(env.OTEL_SERVICE_NAME):
        told.add(SERVICE_NAME)
    return Resource.create({key: value for key, value in ours.items() if key not in told})


def _sampler(config: TelemetryConfig) -> ParentBased | None:
    """The client's decision first, then our share; None: what OTEL_TRACES_SAMPLER says, all by default."""
    return None if config.sample_ratio is None else ParentBased(TraceIdRatioBased(config.sample_ratio))


def _page(listen: str, service: str) -> tuple[MetricReader, str, Callable[[], None]]:
    """Serves the page on a thread of its own; the reader, host:port as bound, and what ends it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise ConfigError(
            f"telemetry.prometheus.{service}: cannot listen on {listen} ({error.strerror or error}); stop what holds "
            "it or set another address"
        ) from None

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1.0)

    return reader, f"{host}:{server.server_port}", close


def _count_losses(meter: Any, losses: Losses) -> None:
    counter(
        meter, "fairlead.telemetry.dropped_spans", "{span}", "Spans that never reached the collector.",
        lambda: [(losses.spans, {})],
    )  # fmt: skip
    counter(
        meter, "fairlead.telemetry.failed_exports", "{export}", "Exports that the collector did not take.",
        lambda: [(count, {"signal": signal}) for signal, count in losses.exports.items()],
    )  # fmt: skip


def _close(closing: list[Callable[[], object]], giving_up: list[Callable[[], object]]) -> None:
    """Sends what is left; a collector that does not answer is given up after `FLUSH_WITHIN_S`."""
    timers = [threading.Timer(FLUSH_WITHIN_S, give_up) for give_up in giving_up]
    for timer in timers:
        timer.daemon = True
        timer.start()
    for close in closing:
        close()
    for timer in timers:
        timer.cancel()
