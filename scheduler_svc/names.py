"""Addresses from the configuration: host:port each, or a name that stands for several and is asked anew."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence

from fairlead.config import ConfigError
from fairlead.telemetry import get_logger

DNS_PREFIX = "dns:///"
MAX_ADDRESSES_A_NAME = 1024

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) to host:port of each address; raises OSError."""


async def resolve(host: str, port: int) -> list[str]:
    """Asks the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(info[4][0]) for info in found)
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]


def check_addresses(addresses: Sequence[str], setting: str) -> None:
    """Raises ConfigError, naming the setting, unless each is host:port or dns:///name:port."""
    for address in addresses:
        host, _, port = address.removeprefix(DNS_PREFIX).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"{setting}: {address!r} is neither host:port nor dns:///name:port")


class Names:
    """Which host:port the configured addresses stand for now.

    Args:
        addresses: as configured, checked.
        every_s: how often names are asked again.
        changed: called after each round of asking.
        resolver: of names.

    Attributes:
        unresolved: names that stand for nothing now, and why.
    """

    def __init__(
        self, addresses: Sequence[str], every_s: float, changed: Callable[[], None], resolver: Resolve = resolve
    ) -> None:
        self.unresolved: dict[str, str] = {}
        self._every_s = every_s
        self._changed = changed
        self._resolver = resolver
        self._names = [address for address in addresses if address.startswith(DNS_PREFIX)]
        self._fixed = {address for address in addresses if not address.startswith(DNS_PREFIX)}
        self._found: dict[str, list[str]] = {}
        self._log = get_logger("names")
        self._task = asyncio.create_task(self._watch()) if self._names else None

    @property
    def wanted(self) -> set[str]:
        """Every host:port, the configured ones and those that names stand for."""
        return self._fixed.union(*self._found.values())

    async def close(self) -> None:
        """Asks no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            for name in self._names:
                await self._look_up(name)
            self._changed()
            await asyncio.sleep(self._every_s)

    async def _look_up(self, name: str) -> None:
        host, _, port = name.removeprefix(DNS_PREFIX).rpartition(":")
        try:
            async with asyncio.timeout(self._every_s + 5.0):
                found = await self._resolver(host, int(port))
        except (OSError, TimeoutError) as error:
            # What was found before still serves: a resolver that fails is no process that is gone.
            if name not in self.unresolved:
                self._log.warning("name not resolved", name=name, error=str(error))
            self.unresolved[name] = f"{host} can't be resolved: {error or 'no answer in time'}"
            return
        self.unresolved.pop(name, None)
        self._found[name] = found[:MAX_ADDRESSES_A_NAME]
