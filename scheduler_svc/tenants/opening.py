"""All about tenants put together: opened before the scheduler serves, run beside it, closed after it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from fairlead.config import Config, ConfigError
from fairlead.config.tenants_file import load_tenants
from fairlead.telemetry import get_logger
from fairlead.v1 import tenants_pb2
from scheduler_svc.tenants.audit import AuditLog
from scheduler_svc.tenants.changes import TenantChanges
from scheduler_svc.tenants.registry import TenantRegistry
from scheduler_svc.tenants.salts import CacheSalts
from scheduler_svc.tenants.store import TenantStore
from scheduler_svc.tenants.usage import UsageMeter
from scheduler_svc.tenants.usage_store import DAY_S, UsageStore
from scheduler_svc.tenants.watching import FileWatch
from scheduler_svc.tenants.wire import stamp


class Tenants:
    """What a scheduler has of tenants.

    Args:
        config: `tenants` and `scheduler` are read.
        state_dir: what operators change, audit log and usage are kept here.
        wall_s: calendar clock, s since 1970.

    Attributes:
        registry: of those in force.
        changes: made by operators.
        watch: of the tenants file.
        audit: of admin changes.
        usage: by tenant.
        salts: of prefix caches.
        key_overlap_s: for a rotation that says nothing else.

    Raises:
        ConfigError: there are no tenants, two share a key, the tenants file does not fit, or what was kept is damaged.
    """

    def __init__(self, config: Config, state_dir: Path, wall_s: Callable[[], float] = time.time) -> None:
        scheduler = config.scheduler
        store = TenantStore(state_dir)
        try:
            file = () if scheduler.tenants_file is None else load_tenants(scheduler.tenants_file)
        except ConfigError as error:
            raise ConfigError(f"scheduler.tenants_file: {error}") from None
        self.registry = TenantRegistry(config.tenants, file, store.read(), wall_s=wall_s)
        self.audit = AuditLog(state_dir, int(scheduler.audit_max_mb * 1e6))
        self.changes = TenantChanges(self.registry, store, self.audit)
        self.watch = FileWatch(scheduler.tenants_file, self.registry, self.audit, scheduler.tenants_watch_s)
        self.usage = UsageMeter(UsageStore(state_dir, scheduler.usage_keep_days * DAY_S), wall_s)
        self.salts = CacheSalts.kept(state_dir)
        self.key_overlap_s = scheduler.key_overlap_s
        self._log = get_logger("tenants")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Watches and writes from now on."""
        self._tasks = [asyncio.create_task(self.watch.run()), asyncio.create_task(self.usage.run())]

    async def close(self) -> None:
        """Writes what is left."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.usage.flush()

    def audit_failed(self, action: str, error: OSError) -> None:
        """A change was made and could not be written down."""
        self._log.error("the audit log can't be written", action=action, error=repr(error))

    def status(self) -> tenants_pb2.TenantsStatus:
        """What GetStatus says of them."""
        entries = self.registry.entries()
        watch = self.watch
        return tenants_pb2.TenantsStatus(
            tenants=len(entries),
            disabled=sum(entry.tenant.disabled for entry in entries),
            tenants_file="" if watch.path is None else str(watch.path),
            file_read_time=stamp(watch.read_s),
            file_problem=watch.problem,
            hidden=self.registry.hidden,
            usage_problem=self.usage.problem,
        )
