"""The whole configuration, and where it is read from."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from fairlead.config.base import ConfigError
from fairlead.config.predictor import PredictorConfig
from fairlead.config.scheduler import SchedulerConfig
from fairlead.config.security import SecurityConfig
from fairlead.config.telemetry import LogConfig, TelemetryConfig
from fairlead.config.tenants import ClassDefaults, Tenant
from fairlead.config.worker import WorkerConfig


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="FAIRLEAD_", env_nested_delimiter="__", extra="forbid", frozen=True, yaml_file=None
    )

    scheduler: SchedulerConfig = SchedulerConfig()
    """Read by the scheduler."""
    predictor: PredictorConfig = PredictorConfig()
    """Read by the predictor."""
    worker: WorkerConfig = WorkerConfig()
    """Read by each worker."""
    defaults: ClassDefaults = ClassDefaults()
    """Read by the scheduler."""
    tenants: tuple[Tenant, ...] = ()
    """Read by the scheduler."""
    security: SecurityConfig = SecurityConfig()
    """Read by all services."""
    log: LogConfig = LogConfig()
    """Read by all services."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Read by all services."""

    @field_validator("tenants")
    @classmethod
    def _names_differ(cls, value: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
        names = [tenant.name for tenant in value]
        if len(set(names)) != len(names):
            raise ValueError("two tenants have one name")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_config(path: Path | None = None) -> Config:
    """Reads `path` (or the file that FAIRLEAD_CONFIG names, or none) and the environment.

    Raises:
        ConfigError: the file is missing or not YAML, or a value does not fit; the message names each field.
    """
    chosen = path or (Path(os.environ["FAIRLEAD_CONFIG"]) if os.environ.get("FAIRLEAD_CONFIG") else None)
    if chosen is not None and not chosen.is_file():
        raise ConfigError(f"configuration file {chosen} does not exist; give another with --config")

    class Sourced(Config):
        model_config = SettingsConfigDict(yaml_file=chosen)

    try:
        return Sourced()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'configuration'}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{chosen or 'environment'}: " + "; ".join(lines)) from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{chosen}: {error}") from None
