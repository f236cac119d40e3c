"""The workers that the configuration names: an address each, or a name that stands for several and is asked anew."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from fairlead.config import ConfigError
from fairlead.telemetry import get_logger
from scheduler_svc.worker_link import WorkerLink

DNS_PREFIX = "dns:///"
MAX_ADDRESSES_A_NAME = 1024

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) to host:port of each address; raises OSError."""


async def resolve(host: str, port: int) -> list[str]:
    """Asks the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(info[4][0]) for info in found)
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]


def check_addresses(addresses: Sequence[str]) -> None:
    """Raises ConfigError unless each is host:port or dns:///name:port."""
    for address in addresses:
        host, _, port = address.removeprefix(DNS_PREFIX).rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"scheduler.workers: {address!r} is neither host:port nor dns:///name:port")


class WorkerPool:
    """Keeps one link an address.

    Args:
        addresses: as configured, checked.
        make_link: starts a link to host:port.
        resolve_every_s: how often names are asked again.
        resolver: of names.

    Attributes:
        links: by host:port.
        unresolved: names that stand for nothing now, and why.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        make_link: Callable[[str], WorkerLink],
        resolve_every_s: float,
        resolver: Resolve = resolve,
    ) -> None:
        self.links: dict[str, WorkerLink] = {}
        self.unresolved: dict[str, str] = {}
        self._make_link = make_link
        self._resolve_every_s = resolve_every_s
        self._resolver = resolver
        self._names = [address for address in addresses if address.startswith(DNS_PREFIX)]
        self._found: dict[str, list[str]] = {}
        self._fixed = {address for address in addresses if not address.startswith(DNS_PREFIX)}
        self._log = get_logger("worker_pool")
        self._closing: set[asyncio.Task[None]] = set()
        for address in sorted(self._fixed):
            self.links[address] = make_link(address)
        self._task = asyncio.create_task(self._watch()) if self._names else None

    def connected(self) -> list[WorkerLink]:
        """Links to workers that take requests or at least answer, in a stable order."""
        return [self.links[address] for address in sorted(self.links) if self.links[address].connected]

    async def close(self) -> None:
        """Ends all links."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.gather(*(link.close() for link in self.links.values()), *self._closing)

    async def _watch(self) -> None:
        while True:
            for name in self._names:
                await self._look_up(name)
            self._settle()
            await asyncio.sleep(self._resolve_every_s)

    async def _look_up(self, name: str) -> None:
        host, _, port = name.removeprefix(DNS_PREFIX).rpartition(":")
        try:
            async with asyncio.timeout(self._resolve_every_s + 5.0):
                found = await self._resolver(host, int(port))
        except (OSError, TimeoutError) as error:
            # What was found before still serves: a resolver that fails is no worker that is gone.
            if name not in self.unresolved:
                self._log.warning("name not resolved", name=name, error=str(error))
            self.unresolved[name] = f"{host} can't be resolved: {error or 'no answer in time'}"
            return
        self.unresolved.pop(name, None)
        self._found[name] = found[:MAX_ADDRESSES_A_NAME]

    def _settle(self) -> None:
        """Starts links to new addresses, ends those to addresses that are gone and no longer answer."""
        wanted = self._fixed.union(*self._found.values())
        for address in sorted(wanted - self.links.keys()):
            self.links[address] = self._make_link(address)
        for address in sorted(self.links.keys() - wanted):
            if not self.links[address].connected and self.links[address].executions is None:
                closing = asyncio.create_task(self.links.pop(address).close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
