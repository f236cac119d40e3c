"""Who is asking: the tenant that a bearer key belongs to, and nothing else of a request.

Every call goes through here, so a tenant that is disabled, or whose key was replaced, is refused from its next call on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

import grpc

from fairlead.config import Tenant
from fairlead.rpc import Refusal, ServicerContext
from scheduler_svc.tenants.entries import Key
from scheduler_svc.tenants.registry import TenantRegistry

MAX_KEY_CHARS = 1024
_SCHEME = "bearer "
_REMEDY = "send metadata `authorization: Bearer KEY` with the key of a configured tenant"

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator:
    """Finds tenants by key.

    Args:
        registry: of the tenants in force.
    """

    def __init__(self, registry: TenantRegistry) -> None:
        self._registry = registry

    def tenant_of(self, metadata: Metadata) -> Tenant:
        """The tenant whose key is in `metadata`; the time it takes does not depend on which key comes near.

        Raises:
            Refusal: UNAUTHENTICATED, with the remedy, or PERMISSION_DENIED where the tenant is disabled.
        """
        keys = [value for name, value in metadata if name == "authorization"]
        if not keys:
            raise _unauthenticated("no key was given")
        if len(keys) > 1:
            raise _unauthenticated("more than one key was given")
        value = keys[0]
        if isinstance(value, bytes) or value[: len(_SCHEME)].lower() != _SCHEME or len(value) > MAX_KEY_CHARS:
            raise _unauthenticated("the key does not have the form `Bearer KEY`")
        digest = hashlib.sha256(value[len(_SCHEME) :].strip().encode()).digest()
        found = self._registry.by_key(digest)
        if found is None:
            raise _unauthenticated("no tenant has this key")
        key, tenant = found
        now_s = self._registry.wall_s()
        if not key.counts_at(now_s):
            raise _not_now(key, now_s)
        return admitted(tenant)

    def caller(self, context: ServicerContext) -> Tenant:
        """The tenant that makes this call. Raises Refusal."""
        return self.tenant_of(context.invocation_metadata() or ())  # pyright: ignore[reportArgumentType]

    def operator(self, context: ServicerContext) -> Tenant:
        """The operator that makes this call. Raises Refusal (PERMISSION_DENIED for any other tenant)."""
        tenant = self.caller(context)
        if not tenant.operator:
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"tenant {tenant.name!r} is no operator; use the key of a tenant with `operator: true`",
                reason="NOT_OPERATOR",
            )
        return tenant


def admitted(tenant: Tenant) -> Tenant:
    """A tenant whose credential was found. Raises Refusal where it is disabled."""
    if tenant.disabled:
        raise Refusal(
            grpc.StatusCode.PERMISSION_DENIED,
            f"tenant {tenant.name!r} is disabled; an operator can enable it: fairlead tenants enable {tenant.name}",
            reason="TENANT_DISABLED",
        )
    return tenant


def _not_now(key: Key, now_s: float) -> Refusal:
    early = key.not_before_s is not None and now_s < key.not_before_s
    at_s = key.not_before_s if early else key.retired_after_s
    assert at_s is not None
    at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
    what = f"this key counts from {at} on" if early else f"this key was replaced and ended at {at}; use the newer one"
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, what, reason="KEY_NOT_VALID_NOW")


def _unauthenticated(what: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, f"{what}; {_REMEDY}", reason="UNAUTHENTICATED")
