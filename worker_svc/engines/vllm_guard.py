"""Keeps vLLM's EngineCore process alive through a drain, and no longer than its parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

_POLL_S = 1.0


@cache
def keep_signals_apart() -> None:
    """Called in the parent before it forks: the child's signals are not told to the parent's event loop.

    asyncio hears of signals through a file descriptor that a forked child inherits: what EngineCore is sent would
    reach our own handlers as well.
    """
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


class ProcessGuard:
    """Installed in the EngineCore process, on its main thread.

    A terminal sends Ctrl-C to the whole process group, and some supervisors send SIGTERM to every process: here both
    do nothing until `release`, since the parent decides when the drain is over. If the parent dies in whatever way,
    this process ends at once.
    """

    def __init__(self) -> None:
        self._saved: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}
        if multiprocessing.parent_process() is None or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            self._saved[number] = signal.signal(number, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, name="fairlead-parent-watch", daemon=True).start()

    def release(self) -> None:
        """The parent is about to stop this process: signals do again what vLLM wants."""
        while self._saved:
            number, handler = self._saved.popitem()
            signal.signal(number, handler)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    parent_pid = parent.pid if parent is not None else None
    while parent is not None and os.getppid() == parent_pid:
        parent.join(_POLL_S)
    os.kill(os.getpid(), signal.SIGKILL)
