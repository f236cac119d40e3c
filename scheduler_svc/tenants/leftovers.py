"""What a tenant that is to be deleted left in the scheduler: a later one of its name must not find it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from fairlead.rpc import Refusal
from scheduler_svc.requests import Book

RETRY_MS = 1000.0


class Leftovers:
    """Ended requests and jobs of tenants.

    Args:
        book: has the requests.
        forget_jobs: deletes a tenant's ended jobs and says how many; raises Refusal where one is live.
    """

    def __init__(self, book: Book, forget_jobs: Callable[[str], Awaitable[int]]) -> None:
        self._book = book
        self._forget_jobs = forget_jobs

    async def clear(self, tenant: str) -> int:
        """Takes away all that has ended; how many jobs that were. Raises Refusal where something is live."""
        self._check_idle(tenant)
        jobs = await self._forget_jobs(tenant)
        self._check_idle(tenant)
        self._book.forget_tenant(tenant)
        return jobs

    def _check_idle(self, tenant: str) -> None:
        live = self._book.live_of(tenant)
        if live:
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"name: {live} requests of {tenant!r} are live; wait for their end, or end them: fairlead tenants "
                f"disable {tenant} --cancel-live; nothing was deleted",
                retry_after_ms=RETRY_MS,
                reason="TENANT_BUSY",
            )
