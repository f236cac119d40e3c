"""API keys that are made where a configuration names files that do not exist yet."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from fairlead.config import ConfigError, Tenant

KEY_BYTES = 18


def new_key() -> str:
    """A random key: 144 bits, in characters that need no quoting."""
    return secrets.token_urlsafe(KEY_BYTES)


def make_missing_keys(tenants: Sequence[Tenant]) -> list[str]:
    """Writes a random key, readable by this user alone, to every `key_file` that does not exist.

    Returns:
        Names of the tenants that got one.

    Raises:
        ConfigError: a file can't be written.
    """
    made: list[str] = []
    for tenant in tenants:
        missing = [
            credential.key_file
            for credential in tenant.all_credentials()
            if credential.key_file is not None and not credential.key_file.exists()
        ]
        for file in missing:
            _write(tenant.name, file)
        if missing:
            made.append(tenant.name)
    return made


def _write(name: str, file: Path) -> None:
    """The key appears under its name as a whole or not at all; where another process was first, its key stays."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(new_key() + "\n")
        try:
            os.link(part, file)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    except OSError as error:
        raise ConfigError(
            f"tenant {name!r}: no key can be made at {file} (key_file): {error}; make the folder writable, or write "
            "the key there yourself"
        ) from None
