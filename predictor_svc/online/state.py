"""The file that keeps what a predictor learned: written whole or not at all, checksummed, versioned, never executed.

A first line names format, version and SHA-256 of the rest, which is safetensors. A file that is not that is put aside
under another name and said so; serving goes on with nothing learned.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fairlead.telemetry import get_logger
from predictor_svc.predictors.base import Arrays

VERSION = 1
MAX_FILE_BYTES = 256 * 1024 * 1024
_MAGIC = "fairlead-learned"
_log = get_logger("state")


class BadState(Exception):
    """A file of learned state that can't be used; the message says why."""


def write_state(path: Path, arrays: Arrays) -> None:
    """Writes the file beside its name and moves it there.

    Raises:
        OSError: it can't be written.
    """
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    line = f"{_MAGIC} {VERSION} {hashlib.sha256(content).hexdigest()}\n".encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(line + content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_state(path: Path) -> Arrays:
    """What the file holds; empty where there is none.

    Raises:
        BadState: it can't be read, is of another version, or is damaged.
    """
    try:
        if not path.exists():
            return {}
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadState(f"larger than {MAX_FILE_BYTES} bytes")
        first, _, content = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise BadState(f"can't be read: {error.strerror}") from None
    words = first[:200].decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != _MAGIC:
        raise BadState("not a file of learned state")
    if words[1] != str(VERSION):
        raise BadState(f"of version {words[1]}, this release reads {VERSION}")
    if hashlib.sha256(content).hexdigest() != words[2]:
        raise BadState("damaged: its SHA-256 is not the one in its first line")
    try:
        return load(content)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise BadState(f"damaged: {error!s}") from None


def put_aside(path: Path, why: str) -> None:
    """Moves a file that can't be used out of the way, and says so."""
    kept = path.with_name(f"{path.name}.refused")
    try:
        path.replace(kept)
    except OSError as error:
        _log.warning("learned state can't be used nor moved", path=str(path), why=why, error=error.strerror)
        return
    _log.warning("learned state can't be used; starting with nothing learned", path=str(path), why=why, kept=str(kept))
