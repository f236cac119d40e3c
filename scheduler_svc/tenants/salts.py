"""What separates tenants in an engine's prefix cache: a keyed hash of the name, from which a worker learns no name.

The key is kept, so that what engines have cached can still be used after the scheduler has started again.
"""

from __future__ import annotations

import hmac
import os
import secrets
from functools import lru_cache
from pathlib import Path

from fairlead.config import ConfigError
from scheduler_svc.durable import replace_file

FILE_NAME = "cache_salt_key"
KEY_BYTES = 32
SALT_CHARS = 32


class CacheSalts:
    """Salts by tenant.

    Args:
        key: secret; the same key gives the same salts.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.of = lru_cache(maxsize=4096)(self._salt)

    @classmethod
    def kept(cls, state_dir: Path) -> CacheSalts:
        """With the key in this folder, which is made where there is none. Raises ConfigError."""
        return cls(_kept_key(state_dir / FILE_NAME))

    def _salt(self, tenant: str) -> str:
        return hmac.digest(self._key, tenant.encode(), "sha256").hex()[:SALT_CHARS]


def _kept_key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            key = path.read_bytes()
            if len(key) == KEY_BYTES:
                return key
        key = secrets.token_bytes(KEY_BYTES)
        replace_file(path, key)
    except OSError as error:
        raise ConfigError(
            f"scheduler.state_dir: {path} can't be read or written ({os.strerror(error.errno or 0)}); make the folder "
            "writable or set another"
        ) from None
    return key
