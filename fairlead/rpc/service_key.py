"""The secret between services, for ports that ask for no certificate.

Its file holds one key a line: the scheduler sends the first, workers and predictor take any, so that a key is renewed
by writing the new one before the old one everywhere, and then taking the old one away.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from fairlead.config import ConfigError

MIN_CHARS = 16
MAX_KEYS = 8
_REMEDY = "write a long random one there, the same for every service, e.g. from `openssl rand -hex 32`"


class ServiceKeys:
    """The keys of a file, read again when it changes.

    Raises:
        ConfigError: there is none, or one is too short.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = _read(path)
        self._seen = _stamp(path)

    @property
    def first(self) -> str:
        """The one to send."""
        return self._keys[0]

    def has(self, given: str) -> bool:
        """Whether it is one of them, in a time that does not depend on how near it comes."""
        self._refresh()
        digest = hashlib.sha256(given.encode()).digest()
        matches = [hmac.compare_digest(hashlib.sha256(key.encode()).digest(), digest) for key in self._keys]
        return any(matches)

    def _refresh(self) -> None:
        """A file that can't be used in the middle of a change leaves the keys as they are."""
        try:
            seen = _stamp(self._path)
            if seen != self._seen:
                self._keys, self._seen = _read(self._path), seen
        except (ConfigError, OSError):
            return


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _read(path: Path) -> list[str]:
    try:
        keys = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise ConfigError(f"security.service_key_file: {path} can't be read ({why}); {_REMEDY}") from None
    if not keys or len(keys) > MAX_KEYS or min(map(len, keys)) < MIN_CHARS:
        raise ConfigError(
            f"security.service_key_file: {path} must hold 1 to {MAX_KEYS} keys of at least {MIN_CHARS} characters, one "
            f"a line; {_REMEDY}"
        )
    return keys
