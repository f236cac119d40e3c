"""Telemetry: structured logs always; traces and metrics (OpenTelemetry) where `telemetry` in the configuration asks.

Reading guide: `logs.py` are the logs, with the trace they belong to. `opening.py` makes of the configuration one
`Telemetry` a process: all of it None where it is off, and nothing of OpenTelemetry imported. `traces.py` is a request's
span in one service and the spans below it, made with times that are known already, so that the hot path only notes
times. `metrics.py` has what the services' instruments share. `providers.py` and `exporting.py` are the SDK, bounded.
Names of spans and attributes are in `fairlead.telemetry_names`, which the light client reads too.
"""

from fairlead.telemetry.logs import configure_logging, get_logger

__all__ = ["configure_logging", "get_logger"]
