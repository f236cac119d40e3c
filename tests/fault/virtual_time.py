"""An event loop whose clock leaps to the next thing due, and processes on it that can be frozen or die at any point."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
TURN_S = 1e-6
"""What one turn of the loop takes: a clock that stood still would have a wait of no length go on for ever."""


class NothingLeft(Exception):
    """Something is waited for, and nothing is left that could bring it about: a deadlock."""


class Node:
    """One process: everything that runs in its context stops when it is frozen (SIGSTOP) or dead (SIGKILL).

    Attributes:
        name: as the fault log calls it.
        alive: False once it is dead; nothing of it ever runs again.
        frozen: what came due while it is frozen; None while it runs.
        context: of whatever the world calls in it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen: list[asyncio.Handle] | None = None
        self.context = contextvars.Context()
        self.context.run(_NODE.set, self)


_NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("node", default=None)


def current_node() -> Node:
    """The process that runs now."""
    node = _NODE.get()
    assert node is not None, "outside any process"
    return node


class _NodeHandle(asyncio.Handle):
    def _run(self) -> None:
        if _may_run(self):
            super()._run()


class _NodeTimer(asyncio.TimerHandle):
    def _run(self) -> None:
        if _may_run(self):
            super()._run()


def _may_run(handle: Any) -> bool:
    node: Node | None = handle._context.get(_NODE)
    if node is None or (node.alive and node.frozen is None):
        return True
    if node.frozen is not None and node.alive:
        node.frozen.append(handle)
    return False


class _NoWait(selectors.SelectSelector):
    """Leaps instead of waiting; there is no socket to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Moves the clock on by `timeout`."""
        assert self.loop is not None
        if timeout is None:
            raise NothingLeft("something is waited for that nothing brings about")
        self.loop.now_s += max(timeout, TURN_S)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs everything in one thread and in one order: the same calls give the same run.

    Attributes:
        now_s: virtual time.
    """

    def __init__(self) -> None:
        self.now_s = 1000.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_s

    def now_ms(self) -> float:
        """Virtual milliseconds."""
        return self.now_s * 1000

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Within this turn of the loop or the next."""
        handle = _NodeHandle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """At `when`, virtual seconds."""
        timer = _NodeTimer(when, callback, args, self, context)
        self._add_timer(timer)
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """In `delay` virtual seconds."""
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self,
        executor: Any,
        func: Callable[..., _T],
        *args: Any,
    ) -> asyncio.Future[_T]:
        """Work of other threads is done at once: it takes no virtual time, and its order is fixed."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def spawn(self, node: Node, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """A task of that process."""
        return self.create_task(work, context=node.context.copy())

    def freeze(self, node: Node) -> None:
        """SIGSTOP."""
        if node.frozen is None:
            node.frozen = []

    def thaw(self, node: Node) -> None:
        """SIGCONT: what came due meanwhile runs now, in the order in which it came due."""
        waiting, node.frozen = node.frozen or [], None
        if node.alive:
            self._ready.extend(waiting)  # type: ignore[attr-defined]

    def kill(self, node: Node) -> None:
        """SIGKILL: no clean-up, no last word."""
        node.alive = False
        node.frozen = None

    def _add_timer(self, timer: asyncio.TimerHandle) -> None:
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    task: Any = asyncio.Task(work, loop=loop, **options)
    task._log_destroy_pending = False  # a process that was killed leaves tasks behind
    return task
