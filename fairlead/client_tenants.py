"""Operators' calls about tenants: who may ask, with which keys, what they used, and who changed what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from fairlead.client_errors import error_from
from fairlead.v1 import admin_pb2_grpc
from fairlead.v1 import tenants_pb2 as tenants

TIMEOUT_S = 30.0
PAGE = 500
T = TypeVar("T")


class TenantCalls:
    """The part of `Admin` that is about tenants; the answers are messages of `fairlead.v1.tenants`.

    Every call raises FairleadError: `InvalidRequest` names the field, `Conflict` asks to read the tenant again.
    """

    _metadata: tuple[tuple[str, str | bytes], ...]

    @property
    def _stub(self) -> admin_pb2_grpc.AdminServiceStub:
        """For the next call."""
        raise NotImplementedError

    def tenant(self, name: str) -> tenants.Tenant:
        """One tenant as it is now."""
        return self._asked(self._stub.GetTenant, tenants.GetTenantRequest(name=name)).tenant

    def tenants(self, *, disabled: bool | None = None) -> Iterator[tenants.Tenant]:
        """All tenants by name, or those that are disabled, or those that are not."""
        token = ""
        while True:
            message = tenants.ListTenantsRequest(page_size=PAGE, page_token=token, disabled=disabled)
            page = self._asked(self._stub.ListTenants, message)
            yield from page.tenants
            token = page.next_page_token
            if not token:
                return

    def create_tenant(
        self, tenant: tenants.Tenant, *, key_sha256: str | None = None, without_key: bool = False
    ) -> tenants.CreateTenantResponse:
        """A new tenant. The key in the answer is told this once.

        Args:
            tenant: `name` is required; what is left out has its default.
            key_sha256: hex SHA-256 of a key of your own; None: one is made.
            without_key: it comes by client certificate alone.
        """
        message = tenants.CreateTenantRequest(tenant=tenant, key_sha256=key_sha256, without_key=without_key)
        return self._asked(self._stub.CreateTenant, message)

    def update_tenant(self, tenant: tenants.Tenant, fields: Sequence[str], *, etag: str = "") -> tenants.Tenant:
        """Changes some fields of a tenant.

        Args:
            tenant: `name` says which.
            fields: which of its fields are taken: "weight", "limits.max_in_flight", ...
            etag: of the tenant as it was read; empty: change it whatever it is now.
        """
        mask = FieldMask(paths=list(fields))
        message = tenants.UpdateTenantRequest(tenant=tenant, update_mask=mask, etag=etag)
        return self._asked(self._stub.UpdateTenant, message).tenant

    def disable_tenant(self, name: str, *, cancel_live: bool = False, etag: str = "") -> tenants.DisableTenantResponse:
        """Refuses every call of a tenant from now on; its live requests go on unless `cancel_live`."""
        message = tenants.DisableTenantRequest(name=name, etag=etag, cancel_live=cancel_live)
        return self._asked(self._stub.DisableTenant, message)

    def enable_tenant(self, name: str, *, etag: str = "") -> tenants.Tenant:
        """Lets a tenant in again."""
        return self._asked(self._stub.EnableTenant, tenants.EnableTenantRequest(name=name, etag=etag)).tenant

    def delete_tenant(self, name: str, *, etag: str = "") -> int:
        """Forgets a disabled tenant that operators made; how many ended jobs went with it.

        Raises FairleadError while it is enabled, or something of it is live.
        """
        return self._asked(self._stub.DeleteTenant, tenants.DeleteTenantRequest(name=name, etag=etag)).jobs

    def rotate_key(
        self, name: str, *, overlap_s: float | None = None, key_sha256: str | None = None, etag: str = ""
    ) -> tenants.RotateKeyResponse:
        """A new key, told this once; those of now go on for `overlap_s` (None: as configured, 0: not at all)."""
        message = tenants.RotateKeyRequest(name=name, etag=etag, overlap_s=overlap_s, key_sha256=key_sha256)
        return self._asked(self._stub.RotateKey, message)

    def usage(
        self, tenant: str = "", *, since: datetime | None = None, until: datetime | None = None
    ) -> tenants.ExportUsageResponse:
        """What each tenant (or one) used between two times; None: all that is kept, until now."""
        whole = tenants.ExportUsageResponse()
        message = tenants.ExportUsageRequest(
            tenant=tenant, start_time=_stamp(since), end_time=_stamp(until), page_size=PAGE
        )
        while True:
            page = self._asked(self._stub.ExportUsage, message)
            whole.usage.extend(page.usage)
            if not message.page_token:
                whole.start_time.CopyFrom(page.start_time)
                whole.end_time.CopyFrom(page.end_time)
            if not page.next_page_token:
                return whole
            message.page_token = page.next_page_token

    def audit_log(self, *, tenant: str = "", actor: str = "") -> Iterator[tenants.AuditEntry]:
        """Who changed what, newest first; of one tenant, or by one operator."""
        token = ""
        while True:
            message = tenants.ListAuditLogRequest(page_size=PAGE, page_token=token, tenant=tenant, actor=actor)
            page = self._asked(self._stub.ListAuditLog, message)
            yield from page.entries
            token = page.next_page_token
            if not token:
                return

    def _asked(self, call: Callable[..., T], message: Any) -> T:
        try:
            return call(message, metadata=self._metadata, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from(error) from None


def _stamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time.astimezone(UTC))
    return made
