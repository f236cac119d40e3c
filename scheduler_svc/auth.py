"""Who is asking: the tenant that a bearer key or a client certificate belongs to, and nothing else of a request.

Every call goes through here, so a tenant that is disabled, or whose key was replaced, is refused from its next call on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import grpc

from fairlead.config import Tenant
from fairlead.rpc import Refusal, ServicerContext, certificate_names
from scheduler_svc.tenants.entries import Key
from scheduler_svc.tenants.registry import TenantRegistry

MAX_KEY_CHARS = 1024
_SCHEME = "bearer "
_REMEDY = "send metadata `authorization: Bearer KEY` with the key of a configured tenant"

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator:
    """Finds tenants by key, or by the names in the certificate that their client showed.

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

    def tenant_with(self, metadata: Metadata, certificate: Sequence[str]) -> Tenant:
        """The tenant of a key, of the names in a certificate, or of both where they agree.

        A certificate that stands for no tenant says nothing: then the key alone counts.

        Raises:
            Refusal: as `tenant_of`; UNAUTHENTICATED where key and certificate, or two names, are of different tenants.
        """
        found = {tenant.name: tenant for name in certificate if (tenant := self._registry.by_certificate(name))}
        if not found:
            return self.tenant_of(metadata)
        given = list(metadata)
        if any(name == "authorization" for name, _ in given):
            by_key = self.tenant_of(given)
            found[by_key.name] = by_key
        if len(found) > 1:
            raise Refusal(
                grpc.StatusCode.UNAUTHENTICATED,
                "the key and the client certificate are of different tenants; use those of one",
                reason="CREDENTIALS_DIFFER",
            )
        return admitted(next(iter(found.values())))

    def caller(self, context: ServicerContext) -> Tenant:
        """The tenant that makes this call. Raises Refusal."""
        metadata: Metadata = context.invocation_metadata() or ()  # pyright: ignore[reportAssignmentType]
        return self.tenant_with(metadata, certificate_names(context))

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
