"""All tenants in force, from the configuration, the tenants file and what operators changed. Pure but for key files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from fairlead.config import ConfigError, Credential, Tenant
from scheduler_svc.tenants.entries import Entry, Key, Origin, key_of
from scheduler_svc.tenants.store import Record, Records


@dataclass(frozen=True, slots=True)
class Merged:
    """The outcome.

    Attributes:
        entries: by name, in the order of their sources.
        hidden: names of the configuration or the file that operators had made for themselves before.
    """

    entries: dict[str, Entry]
    hidden: tuple[str, ...] = ()


def merge(config: Iterable[Tenant], file: Iterable[Tenant], records: Records) -> Merged:
    """Puts them together: an operator's changes lie over configuration and file, and outlive their absence there.

    Raises:
        ConfigError: a name is in configuration and file, two tenants share a key or a certificate name, a key can't be
            read, or a change no longer fits what it changes.
    """
    entries: dict[str, Entry] = {}
    hidden: list[str] = []
    for origin, tenants in ((Origin.CONFIG, config), (Origin.FILE, file)):
        for tenant in tenants:
            if tenant.name in entries:
                raise ConfigError(f"tenant {tenant.name!r} is in the configuration and in the tenants file; keep one")
            record = records.get(tenant.name)
            if record is not None and record.made:
                hidden.append(tenant.name)
            else:
                entries[tenant.name] = laid_over(tenant, origin, record)
    for record in records.values():
        if record.made:
            entries[record.name] = made(record)
    _check_unique(entries.values())
    return Merged(entries, tuple(hidden))


def made(record: Record) -> Entry:
    """A tenant that an operator made. Raises ConfigError."""
    credentials = _credentials(record)
    tenant = _checked({"name": record.name, "credentials": credentials, **record.settings}, record.name)
    keys = tuple(key_of(credential, record.name, Origin.ADMIN) for credential in credentials)
    return Entry(tenant, keys, Origin.ADMIN, updated_s=record.updated.timestamp())


def laid_over(base: Tenant, origin: Origin, record: Record | None) -> Entry:
    """A tenant of the configuration or the file with what operators changed. Raises ConfigError."""
    keys = tuple(key_of(credential, base.name, origin) for credential in base.all_credentials())
    if record is None:
        return Entry(base, keys, origin)
    tenant = _checked({**base.model_dump(), **record.settings}, base.name) if record.settings else base
    added = tuple(key_of(credential, base.name, Origin.ADMIN) for credential in _credentials(record))
    kept = tuple(_until(key, record) for key in keys)
    return Entry(tenant, kept + added, origin, changed=True, updated_s=record.updated.timestamp())


def _credentials(record: Record) -> tuple[Credential, ...]:
    return tuple(Credential(key_sha256=key.sha256, retired_after=key.retired_after) for key in record.keys)


def _until(key: Key, record: Record) -> Key:
    """A key of configuration or file, which an operator may have replaced."""
    ends = record.retired.get(key.key_id)
    if ends is None:
        return key
    own = key.retired_after_s
    ends_s = ends.timestamp() if own is None else min(own, ends.timestamp())
    return Key(key.key_id, key.digest, key.origin, key.not_before_s, ends_s)


def _checked(value: dict[str, object], name: str) -> Tenant:
    try:
        return Tenant.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"tenant {name!r}: {f'{where}: ' if where else ''}{first['msg']}") from None


def _check_unique(entries: Iterable[Entry]) -> None:
    keys: dict[bytes, str] = {}
    certificates: dict[str, str] = {}
    for entry in entries:
        for key in entry.keys:
            other = keys.setdefault(key.digest, entry.name)
            if other != entry.name:
                raise ConfigError(f"tenants: {other!r} and {entry.name!r} have the same key; give each its own")
        if len({key.digest for key in entry.keys}) < len(entry.keys):
            raise ConfigError(f"tenant {entry.name!r}: one key is there twice")
        for certificate in entry.tenant.certificate_names:
            other = certificates.setdefault(certificate, entry.name)
            if other != entry.name:
                raise ConfigError(
                    f"tenants: {other!r} and {entry.name!r} have the certificate name {certificate!r}; give each "
                    "its own"
                )
