"""Reads the tenants file again when it changes: whole or not at all. What can't be read leaves in force what was."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairlead.config import ConfigError, Tenant
from fairlead.config.tenants_file import load_tenants
from fairlead.telemetry import get_logger
from scheduler_svc.tenants.audit import FILE_ACTOR, AuditLog
from scheduler_svc.tenants.entries import Entry, settings_of
from scheduler_svc.tenants.registry import TenantRegistry

SETTLES_WITHIN_S = 2.0
"""A file that is still being written when it is found is read once it has stopped changing, or after this."""
_SETTLE_STEP_S = 0.05
MAX_NAMED = 50

Signature = tuple[tuple[int, int, int] | None, ...]


class FileWatch:
    """Keeps the registry as the file has it.

    Args:
        path: of the tenants file; None: only key files of the configuration are watched.
        registry: changed when the file has.
        audit: told of each change.
        every_s: between two looks.

    Attributes:
        problem: what is wrong with the file as it is; empty: nothing.
        read_s: calendar time at which what is in force was read; None: never.
        reloads: times that a changed file was taken ("ok") or not ("refused").
    """

    def __init__(self, path: Path | None, registry: TenantRegistry, audit: AuditLog, every_s: float) -> None:
        self.path = path
        self.problem = ""
        self.read_s: float | None = None if path is None else registry.wall_s()
        self.reloads: dict[str, int] = {"ok": 0, "refused": 0}
        self._registry = registry
        self._audit = audit
        self._every_s = every_s
        self._log = get_logger("tenants")
        self._seen = self._look()

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            if await asyncio.to_thread(self._look) != self._seen:
                await self.reload()

    async def reload(self) -> bool:
        """Reads it now; whether what is in the file is in force."""
        async with self._registry.lock:
            self._seen = await self._settled()
            try:
                tenants = await asyncio.to_thread(self._load)
                view = await asyncio.to_thread(self._registry.merged, file=tenants)
            except ConfigError as error:
                self._refused(str(error))
                return False
            before = {entry.name: entry for entry in self._registry.entries()}
            self._registry.put(view, file=tenants)
            self.problem, self.read_s = "", self._registry.wall_s()
            self.reloads["ok"] += 1
            await self._tell(before, view.entries)
            return True

    def _load(self) -> tuple[Tenant, ...]:
        return () if self.path is None else load_tenants(self.path)

    def _refused(self, problem: str) -> None:
        self.reloads["refused"] += 1
        self.problem = problem
        self._log.error("tenants file refused: what was in force goes on", problem=problem)

    async def _tell(self, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> None:
        changes = _differences(before, after)
        if not changes:
            return
        self._log.info("tenants changed", **{what: names for what, (_, names) in changes.items()})
        try:
            await asyncio.to_thread(
                self._audit.append, self._registry.wall_s(), FILE_ACTOR, "", "ReloadTenants", changes=changes
            )
        except OSError as error:
            self._log.error("the audit log can't be written", error=repr(error))

    async def _settled(self) -> Signature:
        """Waits until the files stop changing; their state then."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + SETTLES_WITHIN_S
        last = await asyncio.to_thread(self._look)
        while loop.time() < end_s:
            await asyncio.sleep(_SETTLE_STEP_S)
            now = await asyncio.to_thread(self._look)
            if now == last:
                break
            last = now
        return last

    def _look(self) -> Signature:
        """What tells one state of the files from another, without reading them."""
        paths = ([] if self.path is None else [self.path]) + [Path(each) for each in self._registry.key_files()]
        return tuple(_stat(path) for path in paths)


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _differences(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> dict[str, tuple[Any, Any]]:
    """Names that came, went or changed, and how many they are if that is more than can be told."""
    came = [name for name in after if name not in before]
    went = [name for name in before if name not in after]
    changed = [
        name
        for name, entry in after.items()
        if name in before
        and (settings_of(entry.tenant) != settings_of(before[name].tenant) or entry.keys != before[name].keys)
    ]
    told = {"added": came, "removed": went, "changed": changed}
    return {what: (len(names), sorted(names)[:MAX_NAMED]) for what, names in told.items() if names}
