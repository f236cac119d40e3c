"""Structured logs of every service, on standard error. Prompts and answers never enter them."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from fairlead.config import LogConfig

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_WITHHELD = frozenset({"prompt", "text", "texts", "messages", "content", "token_ids", "answer", "key", "authorization"})


def configure_logging(config: LogConfig, service: str) -> None:
    """Sets up this process's logs, once, at its start.

    Args:
        config: level and format.
        service: name that every line carries, e.g. "worker".
    """
    level = _LEVELS[config.level]
    as_json = config.format == "json"
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    processors: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _withhold,
    ]
    if as_json:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    # Libraries log through the standard module: the same stream, and only what an operator should act on.
    line = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, format=line)


def get_logger(name: str) -> Any:
    """A structured logger: `log.info("event", field=value)`; `name` is the part of the service that speaks."""
    return structlog.get_logger(part=name)


def _withhold(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keeps what a tenant wrote or was answered, and credentials, out of the logs whatever a call passes."""
    for name in _WITHHELD & event.keys():
        event[name] = "<withheld>"
    return event
