"""The tenants in force, found by key or by certificate; whoever needs to know is told of each change."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fairlead.config import ConfigError, Tenant
from scheduler_svc.core.types import TenantTerms
from scheduler_svc.tenants.entries import Entry, Key
from scheduler_svc.tenants.merging import merge
from scheduler_svc.tenants.store import Records


@dataclass(frozen=True, slots=True)
class View:
    """All tenants at one time, ready to be looked up.

    Attributes:
        entries: by name, in the order of their sources.
        hidden: names of configuration and file that operators' own tenants hide.
        by_key: by keyed hash of a key's digest.
        by_certificate: by name in client certificates.
        terms: what the core is told, by name.
    """

    entries: Mapping[str, Entry]
    hidden: tuple[str, ...]
    by_key: Mapping[bytes, tuple[Key, Entry]]
    by_certificate: Mapping[str, Entry]
    terms: tuple[TenantTerms, ...]


class TenantRegistry:
    """Holds the view in force. Everything but `merged`, which may take a while, runs on the event loop.

    Args:
        config: tenants of the configuration.
        file: tenants of the tenants file.
        records: what operators changed.
        wall_s: calendar clock, s since 1970; keys begin and end by it.

    Attributes:
        file: tenants of the tenants file that is in force.
        records: what operators changed.
        lock: held by whoever changes something, from reading what is until it is in force.

    Raises:
        ConfigError: there are no tenants, two share a key or a certificate, or a key can't be read.
    """

    def __init__(
        self,
        config: Sequence[Tenant],
        file: Sequence[Tenant] = (),
        records: Records | None = None,
        *,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.wall_s = wall_s
        self.file: tuple[Tenant, ...] = tuple(file)
        self.records: Records = dict(records or {})
        self.lock = asyncio.Lock()
        self._config = tuple(config)
        self._told: list[Callable[[], None]] = []
        # What is looked up is keyed by a secret of this process: how long it takes says nothing about any key.
        self._secret = secrets.token_bytes(32)
        self._view = self.merged()

    # -- found

    def get(self, name: str) -> Entry | None:
        """A tenant by name."""
        return self._view.entries.get(name)

    def names(self) -> list[str]:
        """All of them, in the order of their sources."""
        return list(self._view.entries)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of configuration and file that operators' own tenants hide."""
        return self._view.hidden

    def entries(self) -> list[Entry]:
        """All of them, by name."""
        return [self._view.entries[name] for name in sorted(self._view.entries)]

    def by_key(self, digest: bytes) -> tuple[Key, Tenant] | None:
        """The tenant that has a key with this SHA-256, whether the key counts now or not."""
        found = self._view.by_key.get(self._place(digest))
        if found is None or not hmac.compare_digest(found[0].digest, digest):
            return None
        return found[0], found[1].tenant

    def by_certificate(self, name: str) -> Tenant | None:
        """The tenant for which this name in a client certificate stands, disabled or not."""
        found = self._view.by_certificate.get(name)
        return None if found is None else found.tenant

    def terms(self) -> tuple[TenantTerms, ...]:
        """What the core is told."""
        return self._view.terms

    # -- changed

    def on_change(self, tell: Callable[[], None]) -> None:
        """Calls `tell` after each change."""
        self._told.append(tell)

    def merged(self, *, file: Iterable[Tenant] | None = None, records: Records | None = None) -> View:
        """What would be in force with these; reads key files. Raises ConfigError, also where nobody would be left."""
        merged = merge(self._config, self.file if file is None else file, self.records if records is None else records)
        entries = merged.entries
        if not entries:
            raise ConfigError(
                "tenants: none is configured, so nobody could ask; name at least one, e.g. "
                "`tenants: [{name: me, key_env: FAIRLEAD_KEY, operator: true}]`"
            )
        return View(
            entries=entries,
            hidden=merged.hidden,
            by_key={self._place(key.digest): (key, entry) for entry in entries.values() for key in entry.keys},
            by_certificate={name: entry for entry in entries.values() for name in entry.tenant.certificate_names},
            terms=tuple(entries[name].terms() for name in sorted(entries)),
        )

    def put(self, view: View, *, file: Sequence[Tenant] | None = None, records: Records | None = None) -> None:
        """Puts into force what `merged` made of these."""
        self.file = self.file if file is None else tuple(file)
        self.records = self.records if records is None else records
        self._view = view
        for tell in self._told:
            tell()

    def key_files(self) -> list[str]:
        """Files that hold keys of configuration and tenants file."""
        return [
            str(credential.key_file)
            for tenant in (*self._config, *self.file)
            for credential in tenant.all_credentials()
            if credential.key_file is not None
        ]

    def _place(self, digest: bytes) -> bytes:
        return hmac.digest(self._secret, digest, "sha256")
