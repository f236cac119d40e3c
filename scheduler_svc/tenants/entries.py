"""A tenant as it is in force: its settings, its keys by their hashes, and where both come from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from fairlead.config import Credential, Tenant
from scheduler_svc.core.types import TenantTerms

SETTINGS = ("weight", "classes", "default_class", "slo", "limits", "certificate_names", "operator", "disabled")
"""Fields of `Tenant` that an operator may change."""
KEY_ID_CHARS = 12


class Origin(Enum):
    """Where a tenant or a key comes from."""

    CONFIG = "config"
    FILE = "file"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """One API key.

    Attributes:
        key_id: tells it from others; says nothing about the key.
        digest: SHA-256 of the key.
        origin: who brought it.
        not_before_s, retired_after_s: calendar time, s since 1970; None: no bound.
    """

    key_id: str
    digest: bytes
    origin: Origin
    not_before_s: float | None = None
    retired_after_s: float | None = None

    def counts_at(self, now_s: float) -> bool:
        """Whether it opens the door at this time."""
        return (self.not_before_s is None or now_s >= self.not_before_s) and (
            self.retired_after_s is None or now_s < self.retired_after_s
        )


@dataclass(frozen=True)
class Entry:
    """One tenant.

    Attributes:
        tenant: its settings.
        keys: its keys, those of past and future times too.
        origin: where it was made.
        changed: an operator changed what configuration or file say.
        updated_s: calendar time of the last change by an operator; None: there was none.
    """

    tenant: Tenant
    keys: tuple[Key, ...]
    origin: Origin
    changed: bool = False
    updated_s: float | None = None

    @property
    def name(self) -> str:
        """Of the tenant."""
        return self.tenant.name

    @cached_property
    def etag(self) -> str:
        """The same for the same settings and keys; another as soon as one of them is another."""
        told = {
            "settings": settings_of(self.tenant),
            "keys": [(key.key_id, key.not_before_s, key.retired_after_s) for key in self.keys],
            "origin": self.origin.value,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:20]

    def terms(self) -> TenantTerms:
        """What the core is told of it."""
        limits = self.tenant.limits
        return TenantTerms(
            name=self.name,
            weight=self.tenant.weight,
            max_in_flight=limits.max_in_flight,
            max_queued_requests=limits.max_queued_requests,
            max_queued_tokens=limits.max_queued_tokens,
            tokens_per_minute=limits.tokens_per_minute,
            burst_tokens=limits.burst_tokens,
        )

    def can_operate(self, now_s: float) -> bool:
        """Whether somebody could use the admin service as this tenant."""
        reachable = bool(self.tenant.certificate_names) or any(key.counts_at(now_s) for key in self.keys)
        return self.tenant.operator and not self.tenant.disabled and reachable


def settings_of(tenant: Tenant) -> dict[str, Any]:
    """What an operator may change of a tenant, as JSON values."""
    return tenant.model_dump(mode="json", include=set(SETTINGS))


def key_of(credential: Credential, tenant: str, origin: Origin) -> Key:
    """A credential as a key. Raises ConfigError where it can't be read."""
    digest = credential.digest_of(tenant)
    starts, ends = credential.not_before, credential.retired_after
    return Key(
        key_id=key_id(digest),
        digest=digest,
        origin=origin,
        not_before_s=None if starts is None else starts.timestamp(),
        retired_after_s=None if ends is None else ends.timestamp(),
    )


def key_id(digest: bytes) -> str:
    """The same for the same key, wherever it is named, and no help in finding it."""
    return hashlib.sha256(b"fairlead key id" + digest).hexdigest()[:KEY_ID_CHARS]
