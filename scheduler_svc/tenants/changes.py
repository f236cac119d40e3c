"""Changes that operators make to tenants: checked, written down, kept on disk, and only then in force.

One at a time, so that two operators who read the same tenant can't both change it: the second one's etag is old by
then. What has begun is carried to its end even if whoever asked for it goes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import grpc

from fairlead.config import ConfigError
from fairlead.keys import new_key
from fairlead.rpc import Refusal, invalid
from fairlead.telemetry import get_logger
from scheduler_svc.tenants.audit import AuditLog
from scheduler_svc.tenants.differences import Differences, differences
from scheduler_svc.tenants.entries import Entry, Origin, settings_of
from scheduler_svc.tenants.registry import TenantRegistry, View
from scheduler_svc.tenants.store import Record, Records, StoredKey, TenantStore

MAX_TENANTS = 10_000
"""Records of operators' changes."""
MAX_KEYS = 16
"""Of one tenant, those of past times too; the oldest of these go first."""
RETRY_MS = 5_000.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a change, and from where."""

    name: str
    peer: str = ""


class TenantChanges:
    """Makes changes. Every method raises Refusal, and then nothing was changed.

    Args:
        registry: of the tenants in force.
        store: keeps what is changed.
        audit: is told before.
    """

    def __init__(self, registry: TenantRegistry, store: TenantStore, audit: AuditLog) -> None:
        self._registry = registry
        self._store = store
        self._audit = audit
        self._log = get_logger("tenants")
        self._running: set[asyncio.Future[Any]] = set()

    async def to_the_end(self, change: Coroutine[Any, Any, T]) -> T:
        """Runs one of the changes below; it goes on if the task that waits for it is cancelled."""
        running = asyncio.ensure_future(change)
        self._running.add(running)
        running.add_done_callback(self._over)
        return await asyncio.shield(running)

    def _over(self, running: asyncio.Future[Any]) -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # whoever waits has it too; a change whose caller went must not be reported as lost

    async def create(
        self, caller: Caller, name: str, settings: Mapping[str, Any], key_sha256: str | None, *, with_key: bool
    ) -> tuple[Entry, str]:
        """A new tenant.

        Args:
            caller: who makes it.
            name: of the tenant.
            settings: fields of `Tenant`, as JSON values.
            key_sha256: of its key; None: one is made.
            with_key: else it has none.

        Returns:
            The tenant, and the key that was made ("" where none was).
        """
        key, digest = _key(key_sha256) if with_key else ("", None)
        async with self._registry.lock:
            if self._registry.get(name) is not None or name in self._registry.records:
                what = f"there is a tenant {name!r} already"
                raise Refusal(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"tenant.name: {what}; choose another name, or change that one",
                    fields=[("tenant.name", what)],
                    reason="TENANT_EXISTS",
                )
            if len(self._registry.records) >= MAX_TENANTS:
                raise _too_many("TOO_MANY_TENANTS", f"{MAX_TENANTS} tenants were made or changed by operators")
            keys = () if digest is None else (StoredKey(sha256=digest),)
            record = Record(name=name, made=True, settings=dict(settings), keys=keys, updated=self._now())
            return await self._make(caller, "CreateTenant", record), key

    async def update(self, caller: Caller, name: str, etag: str, settings: Mapping[str, Any]) -> Entry:
        """Sets some fields of `Tenant` (as JSON values; a section is laid over what it was)."""
        async with self._registry.lock:
            entry = self._found(name, etag)
            now = settings_of(entry.tenant)
            fresh = {
                field: {**now[field], **value} if isinstance(value, Mapping) else value
                for field, value in settings.items()
            }
            if all(now[field] == value for field, value in fresh.items()):
                return entry
            record = self._record(entry)
            changed = record.model_copy(update={"settings": {**record.settings, **fresh}, "updated": self._now()})
            return await self._make(caller, "UpdateTenant", changed)

    async def set_disabled(self, caller: Caller, name: str, etag: str, disabled: bool) -> Entry:
        """Disables a tenant or enables it again; one that is so already stays as it is."""
        async with self._registry.lock:
            entry = self._found(name, etag)
            if entry.tenant.disabled == disabled:
                return entry
            record = self._record(entry)
            settings = {**record.settings, "disabled": disabled}
            changed = record.model_copy(update={"settings": settings, "updated": self._now()})
            return await self._make(caller, "DisableTenant" if disabled else "EnableTenant", changed)

    async def rotate(
        self, caller: Caller, name: str, etag: str, overlap_s: float, key_sha256: str | None
    ) -> tuple[Entry, str, datetime]:
        """A new key; those that count now end after `overlap_s`, those that end sooner stay as they are.

        Returns:
            The tenant, the key that was made ("" where its hash was given), and until when the others count.
        """
        key, digest = _key(key_sha256)
        async with self._registry.lock:
            entry, now = self._found(name, etag), self._now()
            until = now + timedelta(seconds=overlap_s)
            record = self._record(entry)
            kept = _still_of_use(record.keys, now)
            if len(kept) >= MAX_KEYS:
                raise _too_many("TOO_MANY_KEYS", f"tenant {name!r} has {MAX_KEYS} keys that count")
            ending = tuple(
                each.model_copy(update={"retired_after": _sooner(each.retired_after, until)}) for each in kept
            )
            base = {
                each.key_id: _sooner(record.retired.get(each.key_id), until)
                for each in entry.keys
                if each.origin is not Origin.ADMIN
            }
            changed = record.model_copy(
                update={"keys": (*ending, StoredKey(sha256=digest)), "retired": base, "updated": now}
            )
            return await self._make(caller, "RotateKey", changed), key, until

    async def delete(self, caller: Caller, name: str, etag: str, clear: Callable[[str], Awaitable[int]]) -> int:
        """Forgets a disabled tenant that operators made.

        Args:
            caller: who deletes it.
            name: of the tenant.
            etag: of it as it was read; empty: whatever it is now.
            clear: takes away what the tenant left, and says how much; raises Refusal while something of it is live.

        Returns:
            What `clear` said.
        """
        async with self._registry.lock:
            entry = self._found(name, etag)
            if entry.origin is not Origin.ADMIN:
                where = "configuration" if entry.origin is Origin.CONFIG else "tenants file"
                raise _not_deleted(f"the {where} names {name!r}; take it out there", "TENANT_CONFIGURED")
            if not entry.tenant.disabled:
                raise _not_deleted(
                    f"tenant {name!r} is enabled; first: fairlead tenants disable {name}", "TENANT_ENABLED"
                )
            cleared = await clear(name)
            records = {other: record for other, record in self._registry.records.items() if other != name}
            view = await asyncio.to_thread(self._registry.merged, records=records)
            await self._keep(caller, "DeleteTenant", name, records, view, differences(entry, None))
        self._log.info("tenant deleted", tenant=name, by=caller.name)
        return cleared

    # -- steps of a change; the lock is held

    def _found(self, name: str, etag: str) -> Entry:
        entry = self._registry.get(name)
        if entry is None:
            raise unknown_tenant(name)
        if etag and etag != entry.etag:
            raise Refusal(
                grpc.StatusCode.ABORTED,
                f"etag: tenant {name!r} has changed since it was read; read it again and repeat the change",
                fields=[("etag", "not that of the tenant as it is")],
                reason="ETAG_MISMATCH",
            )
        return entry

    def _record(self, entry: Entry) -> Record:
        found = self._registry.records.get(entry.name)
        if found is not None:
            return found
        if len(self._registry.records) >= MAX_TENANTS:
            raise _too_many("TOO_MANY_TENANTS", f"{MAX_TENANTS} tenants were made or changed by operators")
        return Record(name=entry.name, made=False, updated=self._now())

    async def _make(self, caller: Caller, action: str, record: Record) -> Entry:
        """Checks, writes down, keeps and puts into force."""
        records = {**self._registry.records, record.name: record}
        before = self._registry.get(record.name)
        try:
            view = await asyncio.to_thread(self._registry.merged, records=records)
        except ConfigError as error:
            raise invalid("tenant", str(error)) from None
        after = view.entries[record.name]
        self._check_operator_left(view)
        await self._keep(caller, action, record.name, records, view, differences(before, after))
        self._log.info("tenant changed", action=action, tenant=record.name, by=caller.name)
        return after

    async def _keep(
        self, caller: Caller, action: str, name: str, records: Records, view: View, changes: Differences
    ) -> None:
        told: Callable[..., object] = self._audit.append
        at_s = self._registry.wall_s()
        try:
            await asyncio.to_thread(told, at_s, caller.name, caller.peer, action, name, changes)
        except OSError as error:
            raise _not_kept("audit log", error) from None
        try:
            await asyncio.to_thread(self._store.write, records)
        except OSError as error:
            await asyncio.to_thread(
                self._say_failed, at_s, caller, action, name, f"not kept: {error.strerror or error}"
            )
            raise _not_kept("tenants", error) from None
        self._registry.put(view, records=records)

    def _say_failed(self, at_s: float, caller: Caller, action: str, name: str, problem: str) -> None:
        try:
            self._audit.append(at_s, caller.name, caller.peer, action, name, problem=problem)
        except OSError as error:
            self._log.error("the audit log can't be written", error=repr(error))

    def _check_operator_left(self, view: View) -> None:
        now_s = self._registry.wall_s()
        could = any(entry.can_operate(now_s) for entry in self._registry.entries())
        if could and not any(entry.can_operate(now_s) for entry in view.entries.values()):
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                "nobody could use the admin service after this; make another operator first",
                reason="LAST_OPERATOR",
            )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._registry.wall_s(), UTC)


def unknown_tenant(name: str) -> Refusal:
    """NOT_FOUND."""
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        f"name: there is no tenant {name[:64]!r}; `fairlead tenants list` names them",
        fields=[("name", "unknown")],
        reason="UNKNOWN_TENANT",
    )


def _key(sha256: str | None) -> tuple[str, str]:
    """(the key, or "" where only its hash is known; hex SHA-256)."""
    if sha256 is not None:
        return "", sha256
    key = new_key()
    return key, hashlib.sha256(key.encode()).hexdigest()


def _still_of_use(keys: tuple[StoredKey, ...], now: datetime) -> tuple[StoredKey, ...]:
    """Without the oldest of past times where there are too many: of the others it is said that they were replaced."""
    past = [each for each in keys if each.retired_after is not None and each.retired_after < now]
    for each in sorted(past, key=lambda key: key.retired_after or now)[: max(0, len(keys) - MAX_KEYS + 1)]:
        keys = tuple(other for other in keys if other is not each)
    return keys


def _sooner(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


def _not_deleted(why: str, reason: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"name: {why}; nothing was deleted", reason=reason)


def _too_many(reason: str, what: str) -> Refusal:
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED, f"{what}, as many as there may be", quota=("tenants", what), reason=reason
    )


def _not_kept(what: str, error: OSError) -> Refusal:
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        f"the {what} can't be written to disk ({error.strerror or error}), so nothing was changed; make room in "
        "scheduler.state_dir and try again",
        retry_after_ms=RETRY_MS,
        reason="STATE_NOT_WRITABLE",
    )
