"""API keys: where one is kept, and from when until when it counts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, SecretStr, model_validator

from fairlead.config.base import ConfigError, Section

KEY_FIELDS = ("key", "key_sha256", "key_env", "key_file")


class KeySource(Section):
    """A key, or where it is kept."""

    key: SecretStr | None = None
    """The API key itself; for a first evening. Prefer `key_sha256`, `key_env` or `key_file`."""
    key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hex SHA-256 of the key."""
    key_env: str | None = None
    """Name of the environment variable that holds the key."""
    key_file: Path | None = None
    """File that holds the key, such as a mounted secret; `fairlead-scheduler --make-keys` writes a missing one."""

    def given_keys(self) -> list[str]:
        """Which of the four are given."""
        return [name for name in KEY_FIELDS if getattr(self, name) is not None]

    def digest_of(self, tenant: str) -> bytes:
        """SHA-256 of the key (32 bytes); raises ConfigError where `key_of` does."""
        if self.key_sha256 is not None:
            return bytes.fromhex(self.key_sha256)
        return hashlib.sha256(self.key_of(tenant).encode()).digest()

    def key_of(self, tenant: str) -> str:
        """The key itself, from wherever it is kept.

        Args:
            tenant: whose it is, for the error's message.

        Raises:
            ConfigError: there is none, only its hash is known, `key_env` names nothing, or `key_file` can't be read or
                is empty.
        """
        if self.key is not None:
            return self.key.get_secret_value()
        if self.key_file is not None:
            return _key_from(self.key_file, tenant)
        if self.key_env is None:
            what = "only the hash of its key is configured (key_sha256)" if self.key_sha256 else "it has no key"
            raise ConfigError(f"tenant {tenant!r}: {what}")
        key = os.environ.get(self.key_env)
        if not key:
            raise ConfigError(f"tenant {tenant!r}: environment variable {self.key_env!r} (key_env) is not set")
        return key


class Credential(KeySource):
    """One key and the time in which it counts; to change a key, let the old one and the new one overlap."""

    not_before: AwareDatetime | None = None
    """Refused before this time (`2026-12-01T00:00:00Z`); null: it counts already."""
    retired_after: AwareDatetime | None = None
    """Refused from this time on; null: it counts until it is taken out."""

    @model_validator(mode="after")
    def _one_key_and_some_time(self) -> Credential:
        if len(self.given_keys()) != 1:
            raise ValueError(f"give exactly one of {', '.join(KEY_FIELDS)} for each credential")
        if self.not_before and self.retired_after and self.not_before >= self.retired_after:
            raise ValueError("retired_after must be later than not_before, or the key never counts")
        return self


def _key_from(file: Path, tenant: str) -> str:
    remedy = "write the key there, or let `fairlead-scheduler --make-keys` make one"
    try:
        key = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ConfigError(f"tenant {tenant!r}: {file} (key_file) does not exist; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tenant {tenant!r}: {file} (key_file) can't be read: {error}") from None
    if not key:
        raise ConfigError(f"tenant {tenant!r}: {file} (key_file) is empty; {remedy}")
    return key
