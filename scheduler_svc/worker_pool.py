"""The workers that the configuration names: a link each, to every address that a name stands for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from scheduler_svc.names import Names, Resolve, resolve
from scheduler_svc.worker_link import WorkerLink


class WorkerPool:
    """Keeps one link an address.

    Args:
        addresses: as configured, checked.
        make_link: starts a link to host:port.
        resolve_every_s: how often names are asked again.
        resolver: of names.

    Attributes:
        links: by host:port.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        make_link: Callable[[str], WorkerLink],
        resolve_every_s: float,
        resolver: Resolve = resolve,
    ) -> None:
        self.links: dict[str, WorkerLink] = {}
        self._make_link = make_link
        self._closing: set[asyncio.Task[None]] = set()
        self._names = Names(addresses, resolve_every_s, self._settle, resolver)
        self._settle()

    @property
    def unresolved(self) -> dict[str, str]:
        """Names that stand for nothing now, and why."""
        return self._names.unresolved

    def connected(self) -> list[WorkerLink]:
        """Links to workers that take requests or at least answer, in a stable order."""
        return [self.links[address] for address in sorted(self.links) if self.links[address].connected]

    async def close(self) -> None:
        """Ends all links."""
        await self._names.close()
        await asyncio.gather(*(link.close() for link in self.links.values()), *self._closing)

    def _settle(self) -> None:
        """Starts links to new addresses, ends those to addresses that are gone and no longer answer."""
        wanted = self._names.wanted
        for address in sorted(wanted - self.links.keys()):
            self.links[address] = self._make_link(address)
        for address in sorted(self.links.keys() - wanted):
            if not self.links[address].connected and self.links[address].executions is None:
                closing = asyncio.create_task(self.links.pop(address).close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
