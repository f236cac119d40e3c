"""Who may ask, and what holds for requests that say nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from fairlead.config.base import ClassName, ConfigError, Positive, Section


class ClassDefaults(Section):
    """Targets of requests that state none."""

    ls_ttft_ms: Positive = 1000.0
    """Time-to-first-token target of an LS request that states none."""
    ls_tpot_ms: Positive = 50.0
    """Time-per-output-token target of such a request, as a mean over its answer."""
    be_completion_ms: Positive | None = None
    """Time to the last token of a BE request that states none; null: it has no target."""


class Tenant(Section):
    """Who may ask, with which credential, for what."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """Lower-case letters, digits, - and _; it stands in metrics, logs and `fairlead status`."""
    key: SecretStr | None = None
    """The API key itself; for a first evening. Prefer `key_sha256`, `key_env` or `key_file`."""
    key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hex SHA-256 of the key."""
    key_env: str | None = None
    """Name of the environment variable that holds the key."""
    key_file: Path | None = None
    """File that holds the key, such as a mounted secret; `fairlead-scheduler --make-keys` writes a missing one."""
    weight: Positive = 1.0
    """Kept for tenant shares; nothing reads it yet."""
    classes: tuple[ClassName, ...] = ("ls", "be")
    """What this tenant may ask for; another class is served as its default one, and `accepted` says so."""
    default_class: ClassName = "be"
    """Class of requests that name none; one of `classes`."""
    operator: bool = False
    """May use the admin service and give length hints."""

    @model_validator(mode="after")
    def _one_credential(self) -> Tenant:
        if sum(value is not None for value in (self.key, self.key_sha256, self.key_env, self.key_file)) != 1:
            raise ValueError(f"tenant {self.name!r}: give exactly one of key, key_sha256, key_env, key_file")
        if self.default_class not in self.classes:
            raise ValueError(f"tenant {self.name!r}: default_class {self.default_class!r} is not among its classes")
        return self

    def key_digest(self) -> bytes:
        """SHA-256 of this tenant's key (32 bytes); raises ConfigError where `read_key` does."""
        if self.key_sha256 is not None:
            return bytes.fromhex(self.key_sha256)
        return hashlib.sha256(self.read_key().encode()).digest()

    def read_key(self) -> str:
        """The key itself, from wherever it is kept.

        Raises:
            ConfigError: only its hash is known, `key_env` names nothing, or `key_file` can't be read or is empty.
        """
        if self.key is not None:
            return self.key.get_secret_value()
        if self.key_file is not None:
            return self._key_from(self.key_file)
        if self.key_env is None:
            raise ConfigError(f"tenant {self.name!r}: only the hash of its key is configured (key_sha256)")
        key = os.environ.get(self.key_env)
        if not key:
            raise ConfigError(f"tenant {self.name!r}: environment variable {self.key_env!r} (key_env) is not set")
        return key

    def _key_from(self, file: Path) -> str:
        remedy = "write the key there, or let `fairlead-scheduler --make-keys` make one"
        try:
            key = file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise ConfigError(f"tenant {self.name!r}: {file} (key_file) does not exist; {remedy}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tenant {self.name!r}: {file} (key_file) can't be read: {error}") from None
        if not key:
            raise ConfigError(f"tenant {self.name!r}: {file} (key_file) is empty; {remedy}")
        return key
