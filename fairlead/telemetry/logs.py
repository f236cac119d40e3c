"""Structured logs of every service, on standard error. Prompts and answers never enter them.

What is logged inside `with InTrace(...)` carries the ids of the trace that it belongs to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar, Token
from typing import Any, Self

import structlog

from fairlead.config import LogConfig

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_WITHHELD = frozenset({"prompt", "text", "texts", "messages", "content", "token_ids", "answer", "key", "authorization"})

_TRACE: ContextVar[tuple[str, str]] = ContextVar("fairlead_trace", default=("", ""))


class InTrace:
    """Lines that are logged inside `with` carry these ids, in hex; none where they are ""."""

    __slots__ = ("_ids", "_token")

    def __init__(self, trace_id: str, span_id: str) -> None:
        self._ids = (trace_id, span_id)
        self._token: Token[tuple[str, str]] | None = None

    def __enter__(self) -> Self:
        if self._ids[0]:
            self._token = _TRACE.set(self._ids)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _TRACE.reset(self._token)
            self._token = None


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
        _with_trace,
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


def _with_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    trace_id, span_id = _TRACE.get()
    if trace_id:
        event.setdefault("trace_id", trace_id)
        event.setdefault("span_id", span_id)
    return event


def _withhold(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keeps what a tenant wrote or was answered, and credentials, out of the logs whatever a call passes."""
    for name in _WITHHELD & event.keys():
        event[name] = "<withheld>"
    return event
