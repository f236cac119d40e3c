"""The admin service's part about tenants: operators only, every change written down."""

from __future__ import annotations

import asyncio
import re
from itertools import islice
from typing import Any, NoReturn

from fairlead.rpc import Refusal, ServicerContext, invalid, refuse
from fairlead.v1 import admin_pb2_grpc, tenants_pb2
from scheduler_svc.auth import Authenticator
from scheduler_svc.core.types import Outcome
from scheduler_svc.shell import Shell
from scheduler_svc.tenants import wire
from scheduler_svc.tenants.changes import Caller, unknown_tenant
from scheduler_svc.tenants.entries import Entry
from scheduler_svc.tenants.leftovers import Leftovers
from scheduler_svc.tenants.opening import Tenants

DEFAULT_PAGE = 100
MAX_PAGE = 1000
MAX_OVERLAP_S = 31_536_000.0
"""A year."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TenantRpcs(admin_pb2_grpc.AdminServiceServicer):
    """CreateTenant, GetTenant, ListTenants, UpdateTenant, DisableTenant, EnableTenant, DeleteTenant, RotateKey,
    ExportUsage, ListAuditLog.

    Args:
        shell: whose requests a disabled tenant's are.
        tenants: what is asked about and changed.
        authenticator: knows operators.
        leftovers: of a tenant that is deleted.
    """

    def __init__(self, shell: Shell, tenants: Tenants, authenticator: Authenticator, leftovers: Leftovers) -> None:
        self._requests = shell
        self._tenants = tenants
        self._authenticator = authenticator
        self._leftovers = leftovers

    async def CreateTenant(
        self, request: tenants_pb2.CreateTenantRequest, context: ServicerContext
    ) -> tenants_pb2.CreateTenantResponse:
        """A new tenant, and its key once."""
        caller = await self._operator(context)
        changes = self._tenants.changes
        try:
            name = _name(request.tenant.name, "tenant.name")
            settings = wire.settings_to_create(request.tenant)
            sha256 = _sha256(request)
            if request.without_key and sha256 is not None:
                raise invalid("without_key", "leave it out, or key_sha256")
            entry, key = await changes.to_the_end(
                changes.create(caller, name, settings, sha256, with_key=not request.without_key)
            )
        except Refusal as refusal:
            await self._refuse(context, refusal)
        return tenants_pb2.CreateTenantResponse(tenant=self._message(entry), key=key)

    async def GetTenant(
        self, request: tenants_pb2.GetTenantRequest, context: ServicerContext
    ) -> tenants_pb2.GetTenantResponse:
        """One tenant as it is now."""
        await self._operator(context)
        entry = self._tenants.registry.get(request.name)
        if entry is None:
            await self._refuse(context, unknown_tenant(request.name))
        return tenants_pb2.GetTenantResponse(tenant=self._message(entry))

    async def ListTenants(
        self, request: tenants_pb2.ListTenantsRequest, context: ServicerContext
    ) -> tenants_pb2.ListTenantsResponse:
        """Tenants by name, a page at a time."""
        await self._operator(context)
        try:
            size, after = _page(request.page_size), _after(request.page_token)
        except Refusal as refusal:
            await self._refuse(context, refusal)
        fitting = [
            entry
            for entry in self._tenants.registry.entries()
            if entry.name > after and (not request.HasField("disabled") or entry.tenant.disabled == request.disabled)
        ]
        return tenants_pb2.ListTenantsResponse(
            tenants=[self._message(entry) for entry in fitting[:size]],
            next_page_token=fitting[size - 1].name if len(fitting) > size else "",
        )

    async def UpdateTenant(
        self, request: tenants_pb2.UpdateTenantRequest, context: ServicerContext
    ) -> tenants_pb2.UpdateTenantResponse:
        """Changes the fields that the mask names."""
        caller = await self._operator(context)
        changes = self._tenants.changes
        try:
            name = _name(request.tenant.name, "tenant.name")
            settings = wire.settings_to_update(request.tenant, request.update_mask.paths)
            entry = await changes.to_the_end(changes.update(caller, name, request.etag, settings))
        except Refusal as refusal:
            await self._refuse(context, refusal)
        return tenants_pb2.UpdateTenantResponse(tenant=self._message(entry))

    async def DisableTenant(
        self, request: tenants_pb2.DisableTenantRequest, context: ServicerContext
    ) -> tenants_pb2.DisableTenantResponse:
        """Refuses every call of a tenant from now on; its live requests go on, or end where that is asked for."""
        entry = await self._set_disabled(request.name, request.etag, True, context)
        live = [each for each in self._requests.book.live.values() if each.accepted.tenant == entry.name]
        if request.cancel_live:
            for each in live:
                self._requests.cancel(each, Outcome.CANCELLED_BY_OPERATOR, "an operator disabled its tenant")
        return tenants_pb2.DisableTenantResponse(
            tenant=self._message(entry), live=len(live), cancelled=len(live) if request.cancel_live else 0
        )

    async def EnableTenant(
        self, request: tenants_pb2.EnableTenantRequest, context: ServicerContext
    ) -> tenants_pb2.EnableTenantResponse:
        """Lets a tenant in again."""
        entry = await self._set_disabled(request.name, request.etag, False, context)
        return tenants_pb2.EnableTenantResponse(tenant=self._message(entry))

    async def DeleteTenant(
        self, request: tenants_pb2.DeleteTenantRequest, context: ServicerContext
    ) -> tenants_pb2.DeleteTenantResponse:
        """Forgets a disabled tenant that operators made, with what it left."""
        caller = await self._operator(context)
        changes = self._tenants.changes
        try:
            name = _name(request.name, "name")
            jobs = await changes.to_the_end(changes.delete(caller, name, request.etag, self._leftovers.clear))
        except Refusal as refusal:
            await self._refuse(context, refusal)
        return tenants_pb2.DeleteTenantResponse(jobs=jobs)

    async def RotateKey(
        self, request: tenants_pb2.RotateKeyRequest, context: ServicerContext
    ) -> tenants_pb2.RotateKeyResponse:
        """A new key, returned once; those before it count on for the overlap."""
        caller = await self._operator(context)
        changes = self._tenants.changes
        try:
            name = _name(request.name, "name")
            overlap_s = request.overlap_s if request.HasField("overlap_s") else self._tenants.key_overlap_s
            if not 0 <= overlap_s <= MAX_OVERLAP_S:  # NaN is not
                raise invalid("overlap_s", f"must be 0 to {MAX_OVERLAP_S:.0f}")
            entry, key, until = await changes.to_the_end(
                changes.rotate(caller, name, request.etag, overlap_s, _sha256(request))
            )
        except Refusal as refusal:
            await self._refuse(context, refusal)
        return tenants_pb2.RotateKeyResponse(
            tenant=self._message(entry), key=key, old_keys_until=wire.stamp(until.timestamp())
        )

    async def ExportUsage(
        self, request: tenants_pb2.ExportUsageRequest, context: ServicerContext
    ) -> tenants_pb2.ExportUsageResponse:
        """What each tenant used over a time."""
        await self._operator(context)
        try:
            return await self._usage(request)
        except Refusal as refusal:
            await self._refuse(context, refusal)

    async def ListAuditLog(
        self, request: tenants_pb2.ListAuditLogRequest, context: ServicerContext
    ) -> tenants_pb2.ListAuditLogResponse:
        """Who changed what, newest first, a page at a time."""
        await self._operator(context)
        try:
            size, before = _page(request.page_size), _before(request.page_token)
        except Refusal as refusal:
            await self._refuse(context, refusal)

        def read() -> list[tenants_pb2.AuditEntry]:
            fitting = (
                wire.audit_message(each)
                for each in self._tenants.audit.newest_first(before)
                if request.tenant in ("", each.tenant) and request.actor in ("", each.actor)
            )
            return list(islice(fitting, size + 1))

        found = await asyncio.to_thread(read)
        more = len(found) > size
        return tenants_pb2.ListAuditLogResponse(
            entries=found[:size], next_page_token=str(found[size - 1].sequence) if more else ""
        )

    def tenants_status(self) -> tenants_pb2.TenantsStatus:
        """What GetStatus says of tenants."""
        return self._tenants.status()

    async def _usage(self, request: tenants_pb2.ExportUsageRequest) -> tenants_pb2.ExportUsageResponse:
        size, after = _page(request.page_size), _after(request.page_token)
        meter, registry = self._tenants.usage, self._tenants.registry
        start_s: float = await meter.earliest_s()
        end_s = registry.wall_s()
        if request.HasField("start_time"):
            start_s = wire.seconds(request.start_time, "start_time")
        if request.HasField("end_time"):
            end_s = wire.seconds(request.end_time, "end_time")
        if start_s > end_s:
            raise invalid("start_time", "must not be after end_time")
        rounded = meter.rounded(start_s, end_s)
        known = sorted({*await meter.tenants(), *(entry.name for entry in registry.entries())})
        if request.tenant:
            if request.tenant not in known:
                raise unknown_tenant(request.tenant)
            known = [request.tenant]
        names = [name for name in known if name > after]
        return tenants_pb2.ExportUsageResponse(
            usage=[wire.usage_message(each) for each in await meter.export(names[:size], *rounded)],
            next_page_token=names[size - 1] if len(names) > size else "",
            start_time=wire.stamp(rounded[0]),
            end_time=wire.stamp(rounded[1]),
        )

    async def _set_disabled(self, name: str, etag: str, disabled: bool, context: ServicerContext) -> Entry:
        caller = await self._operator(context)
        changes = self._tenants.changes
        try:
            return await changes.to_the_end(changes.set_disabled(caller, _name(name, "name"), etag, disabled))
        except Refusal as refusal:
            await self._refuse(context, refusal)

    async def _written_down(self, caller: Caller, action: str, changes: dict[str, tuple[Any, Any]]) -> None:
        """Tells the audit log of a change that is made already and must not wait for a full disk."""
        now_s = self._tenants.registry.wall_s()
        try:
            await asyncio.to_thread(
                self._tenants.audit.append, now_s, caller.name, caller.peer, action, changes=changes
            )
        except OSError as error:
            self._tenants.audit_failed(action, error)

    async def _operator(self, context: ServicerContext) -> Caller:
        """The operator that calls; any other call ends here."""
        try:
            return Caller(self._authenticator.operator(context).name, context.peer())
        except Refusal as refusal:
            await self._refuse(context, refusal)

    async def _refuse(self, context: ServicerContext, refusal: Refusal) -> NoReturn:
        """Ends the call, and counts it."""
        self._requests.telemetry.call_refused("admin", refusal)
        await refuse(context, refusal)

    def _message(self, entry: Entry) -> tenants_pb2.Tenant:
        return wire.tenant_message(entry, self._tenants.registry.wall_s())


def _name(name: str, field: str) -> str:
    if not _NAME.fullmatch(name):
        raise invalid(field, "must have 1 to 63 lower-case letters, digits, - and _, the first a letter or digit")
    return name


def _sha256(request: tenants_pb2.CreateTenantRequest | tenants_pb2.RotateKeyRequest) -> str | None:
    if not request.HasField("key_sha256"):
        return None
    value = request.key_sha256
    if not _SHA256.fullmatch(value):
        raise invalid("key_sha256", "must be 64 lower-case hex digits: printf %s KEY | sha256sum")
    return value


def _page(size: int) -> int:
    if size > MAX_PAGE:
        raise invalid("page_size", f"must be at most {MAX_PAGE}")
    return size or DEFAULT_PAGE


def _after(token: str) -> str:
    if token and not _NAME.fullmatch(token):
        raise invalid("page_token", "must be `next_page_token` of the last answer, or empty")
    return token


def _before(token: str) -> float:
    if not token:
        return float("inf")
    if not (token.isascii() and token.isdigit() and len(token) < 20):
        raise invalid("page_token", "must be `next_page_token` of the last answer, or empty")
    return int(token)
