"""The event loop of a service: what makes a message over gRPC cost less CPU there. `docs/overhead.md` has the figures.

Three things, each by itself: uvloop where it is installed; gRPC's older poller, whose one thread sees to the sockets
itself where the newer one hands every message from thread to thread; and gRPC's wake-ups taken in bulk. As to the last:
gRPC's asyncio layer tells the loop through a socket what has finished: a thread of its own writes one byte for each
operation, and the loop's reader takes one byte, then finishes every operation that is there. After a step of 64 tokens
63 bytes are thus left, each of which wakes the loop once more to find nothing. `ease_grpc` takes them away first.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

_T = TypeVar("_T")
_EXPERIMENTS = "GRPC_EXPERIMENTS"
_ONE_THREAD = "-event_engine_client,-event_engine_listener"
_GRPC_READER = "_handle_events"
"""The method of gRPC's that it gives to `add_reader`; where a release names it otherwise, nothing is eased."""
_MOST_BYTES = 4096
_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT

_eased: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""Loops that read gRPC's socket."""


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run` for a process that lives by gRPC; to be called before its first channel or server is made.

    What the environment says of gRPC's experiments stays.
    """
    os.environ.setdefault(_EXPERIMENTS, _ONE_THREAD)
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def settle() -> None:
    """To be called once a service serves: what it holds then lives as long as it does.

    No collection goes through it again: a full one stops every stream, in the scheduler for 0.1 s and more.
    """
    gc.collect()
    gc.freeze()


def ease_grpc() -> None:
    """To be called in a loop before its first gRPC channel or server is made; outside one it does nothing."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if loop in _eased:
        return
    for closed in [each for each in _eased if each.is_closed()]:
        _eased.discard(closed)
    _eased.add(loop)
    add_reader: Callable[..., None] = loop.add_reader

    def eased_add_reader(fd: Any, callback: Callable[..., object], *args: Any) -> None:
        method = getattr(callback, "func", callback)
        if isinstance(fd, socket.socket) and getattr(method, "__name__", "") == _GRPC_READER:
            callback = _in_bulk(fd, callback)
        add_reader(fd, callback, *args)

    # On this instance alone: gRPC looks the method up where it binds itself to the loop.
    with contextlib.suppress(AttributeError):
        loop.add_reader = eased_add_reader


def _in_bulk(told: socket.socket, finish: Callable[..., object]) -> Callable[..., object]:
    """`finish`, which takes one byte from `told`, with all other bytes taken before."""
    scratch = bytearray(_MOST_BYTES)

    def finish_all(*args: Any) -> None:
        # Another loop reads the same socket: what one of them takes away must not be what the other waits for.
        if len(_eased) == 1:
            with contextlib.suppress(BlockingIOError):
                waiting = told.recv_into(scratch, _MOST_BYTES, _PEEK)
                if waiting > 1:
                    told.recv_into(scratch, waiting - 1, socket.MSG_DONTWAIT)
        finish(*args)

    return finish_all
