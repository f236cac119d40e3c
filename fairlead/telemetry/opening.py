"""From the configuration to one process's telemetry."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fairlead.config import ConfigError, TelemetryConfig

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from fairlead.telemetry.traces import Tracing

Service = Literal["scheduler", "predictor", "worker"]
CLOSE_WITHIN_S = 3.0
"""Longest that a collector which does not answer may hold up the end of a process."""


@dataclass(frozen=True)
class Telemetry:
    """One process's traces and metrics.

    Attributes:
        tracing: starts spans; None: no traces.
        meter: makes instruments; None: no metrics.
        page: host:port of the page for Prometheus, as bound; "": there is none.
    """

    tracing: Tracing | None = None
    meter: Meter | None = None
    page: str = ""
    _close: Callable[[], None] = field(default=lambda: None)

    async def close(self) -> None:
        """Sends what is left, for at most `CLOSE_WITHIN_S`, and ends all exporters."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                self._close()
            finally:
                loop.call_soon_threadsafe(done.set)

        # A daemon: an exporter that hangs must not keep the process from ending.
        thread = threading.Thread(target=work, name="telemetry-close", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await done.wait()
        except TimeoutError:
            pass


def open_telemetry(
    config: TelemetryConfig, service: Service, clock_ms: Callable[[], float], *, instance: str = ""
) -> Telemetry:
    """What `config` asks for; where that is nothing, all of it is None and OpenTelemetry is not imported.

    Call it after anything that forks: exporters have threads and connections.

    Args:
        config: the `telemetry` section.
        service: which of ours this is.
        clock_ms: its monotonic clock.
        instance: name of this process among those of its kind; "": host name and process id.

    Raises:
        ConfigError: OpenTelemetry is not installed, a setting is one that this release can't follow, or the page's
            port is taken.
    """
    page = getattr(config.prometheus, service)
    if not (config.traces or config.metrics or page):
        return Telemetry()
    try:
        providers: Any = importlib.import_module("fairlead.telemetry.providers")
    except ImportError as error:
        raise ConfigError(
            f"telemetry: OpenTelemetry is not installed ({error}); pip install 'fairlead[telemetry]', or turn off "
            "telemetry.traces, telemetry.metrics and telemetry.prometheus"
        ) from None
    return providers.open_providers(config, service, clock_ms, instance, page)
