"""One typed configuration for all services; every default is stated here, once.

Read from a YAML file (`FAIRLEAD_CONFIG` or `--config`) and from the environment, which wins:
`FAIRLEAD_SCHEDULER__POLICY=fcfs` sets `scheduler.policy`. Unknown names are errors, not surprises.

Reading guide: `whole.py` puts the sections together and reads them; each other file is a section or two.
"""

from fairlead.config.base import ClassName, ConfigError
from fairlead.config.credentials import Credential
from fairlead.config.jobs import JobsConfig
from fairlead.config.predictor import PredictorConfig
from fairlead.config.scheduler import SchedulerConfig
from fairlead.config.security import CertificateFiles, SecurityConfig, ServiceName
from fairlead.config.telemetry import LogConfig, PrometheusConfig, TelemetryConfig
from fairlead.config.tenants import ClassDefaults, Tenant, TenantLimits, TenantSlo
from fairlead.config.whole import Config, load_config
from fairlead.config.worker import WorkerConfig

PROTOCOL_VERSION = 1
"""Version of the worker and predictor protocols; a peer of another version is refused at the first message."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest gRPC message any service takes; a longer prompt is refused by the transport before it is parsed."""

__all__ = [
    "MAX_MESSAGE_BYTES",
    "PROTOCOL_VERSION",
    "CertificateFiles",
    "ClassDefaults",
    "ClassName",
    "Config",
    "ConfigError",
    "Credential",
    "JobsConfig",
    "LogConfig",
    "PredictorConfig",
    "PrometheusConfig",
    "SchedulerConfig",
    "SecurityConfig",
    "ServiceName",
    "TelemetryConfig",
    "Tenant",
    "TenantLimits",
    "TenantSlo",
    "WorkerConfig",
    "load_config",
]
