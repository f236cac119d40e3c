"""grpc.aio without sockets: the channels, servers, calls and contexts that the services use, on `network.py`.

What it keeps of the real thing: messages are serialised; a write waits while its reader lags; messages that arrived
may be lost with a connection; a call that its caller cancels raises CancelledError there and cancels the handler; a
handler that is cancelled in mid-write may never run again, and its done-callbacks do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from grpc import aio

from tests.fault.memory_client import MemoryChannel
from tests.fault.memory_server import MemoryServer
from tests.fault.network import Network


@contextmanager
def installed(network: Network, broken: Callable[[str, Exception], None]) -> Any:
    """Everything in this process that makes a channel or a server of grpc.aio makes one of `network` meanwhile."""
    names = ("insecure_channel", "secure_channel", "server")
    before = {name: getattr(aio, name) for name in names}
    channel = lambda address, *_, **__: MemoryChannel(network, address)  # noqa: E731
    for name, made in (
        ("insecure_channel", channel),
        ("secure_channel", channel),
        ("server", lambda *_, interceptors=(), **__: MemoryServer(network, broken, interceptors or ())),
    ):
        setattr(aio, name, made)
    try:
        yield
    finally:
        for name, made in before.items():
            setattr(aio, name, made)
