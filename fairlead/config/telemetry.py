"""Settings of logs, traces and metrics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fairlead.config.base import Count, Positive, Section


class LogConfig(Section):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written; `debug` has a line for each request's end."""
    format: Literal["console", "json"] = "console"
    """`console` for people, `json` for programs."""


class PrometheusConfig(Section):
    """Where each service shows its metrics page to Prometheus, host:port (port 0: a free one); null: nowhere."""

    scheduler: str | None = None
    """Page of the scheduler."""
    predictor: str | None = None
    """Page of the predictor."""
    worker: str | None = None
    """Page of a worker; `fairlead up --workers N` takes N ports from this one on."""

    @field_validator("scheduler", "predictor", "worker")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        host, _, port = (value or "127.0.0.1:0").rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{value!r} is not host:port, e.g. 127.0.0.1:9464")
        return value


class TelemetryConfig(Section):
    """Traces and metrics by OpenTelemetry, all off by default. The standard OTEL_* variables fill in what is null."""

    traces: bool = False
    """Send one trace a request by OTLP."""
    metrics: bool = False
    """Send metrics by OTLP; a page for Prometheus needs only `prometheus`."""
    endpoint: str | None = None
    """OTLP receiver, http://host:4317 (https:// for TLS); null: OTEL_EXPORTER_OTLP_ENDPOINT, else this host."""
    protocol: Literal["grpc"] = "grpc"
    """OTLP over gRPC is the only one."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of requests traced where the client has not decided; null: OTEL_TRACES_SAMPLER, else all."""
    metrics_every_s: Positive | None = None
    """Between two exports; null: OTEL_METRIC_EXPORT_INTERVAL, else 60 s."""
    prometheus: PrometheusConfig = PrometheusConfig()
    """Pages for Prometheus, one a service."""
    tenant_labels: Annotated[int, Field(ge=0, le=1000)] = 20
    """Tenants, in the order of the configuration, that metrics name; all others count together as `other`."""
    capture_content: bool = False
    """Put prompts and answers into traces: whoever reads the traces then reads what tenants wrote."""
    max_content_chars: Count = 4096
    """Of a prompt or answer in a trace."""

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} must begin with http:// (or https:// for TLS), e.g. http://localhost:4317")
        return value
