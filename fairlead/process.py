"""What the commands of the services do alike: options that stand above the file, and signals that stop or do work."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fairlead.config import ConfigError

EXIT_FAILED = 1
EXIT_USAGE = 2

_Section = TypeVar("_Section", bound=BaseModel)


def with_options(section: _Section, **given: Any) -> _Section:
    """A section of the configuration with the options that the command line gave; `None` leaves what is there.

    Raises:
        ConfigError: a value that the section refuses; it names the option.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return type(section).model_validate({**section.model_dump(), **chosen})
    except ValidationError as error:
        raise ConfigError("; ".join(f"--{item['loc'][0]}: {item['msg']}" for item in error.errors())) from None


def stop_on_signals() -> asyncio.Future[None]:
    """Done at the first SIGTERM or Ctrl-C; the second ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal(number: int) -> None:
        if stop.done():
            os._exit(128 + number)
        stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def work_on_signal(number: signal.Signals, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Each `number` that the process gets begins `work` once more, beside what it does."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[object]] = set()

    def on_signal() -> None:
        task = loop.create_task(work())
        running.add(task)
        task.add_done_callback(running.discard)

    loop.add_signal_handler(number, on_signal)
