"""Who is asking: the tenant that a bearer key belongs to, and nothing else of a request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import grpc

from fairlead.config import ConfigError, Tenant
from fairlead.rpc import Refusal, ServicerContext

MAX_KEY_CHARS = 1024
_SCHEME = "bearer "
_REMEDY = "send metadata `authorization: Bearer KEY` with the key of a configured tenant"

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator:
    """Finds tenants by key.

    Args:
        tenants: as configured.

    Raises:
        ConfigError: there are none, two share a key, or a `key_env` or `key_file` names nothing.
    """

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self._known = [(tenant.key_digest(), tenant) for tenant in tenants]
        if not self._known:
            raise ConfigError(
                "tenants: none is configured, so nobody could ask; name at least one, e.g. "
                "`tenants: [{name: me, key_env: FAIRLEAD_KEY, operator: true}]`"
            )
        seen: dict[bytes, str] = {}
        for digest, tenant in self._known:
            if digest in seen:
                raise ConfigError(f"tenants: {seen[digest]!r} and {tenant.name!r} have the same key; give each its own")
            seen[digest] = tenant.name

    def tenant_of(self, metadata: Metadata) -> Tenant:
        """The tenant whose key is in `metadata`; the time it takes does not depend on which key comes near.

        Raises:
            Refusal: UNAUTHENTICATED, with the remedy.
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
        found: Tenant | None = None
        for known, tenant in self._known:
            if hmac.compare_digest(known, digest):
                found = tenant
        if found is None:
            raise _unauthenticated("no tenant has this key")
        return found

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


def _unauthenticated(what: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, f"{what}; {_REMEDY}", reason="UNAUTHENTICATED")
