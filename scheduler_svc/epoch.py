"""The leadership epoch: a number on disk that grows at each start, so that a worker can tell an old leader from a new.

A file that can't be read stops the start: guessing a number could make this scheduler lead beside a newer one, or be
refused by every worker.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from fairlead.config import ConfigError
from scheduler_svc.durable import replace_file

FILE_NAME = "epoch"
HELD_NAME = "scheduler.pid"
MAX_EPOCH = 2**63 - 1


class BadEpoch(ConfigError):
    """The epoch can't be read or kept; the message names the file and the remedy."""


def default_state_dir() -> Path:
    """The user's state folder for fairlead."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "fairlead"


def next_epoch(state_dir: Path) -> int:
    """Takes the next epoch and returns it once it is safely on disk; 1 at the first start.

    Two schedulers that start at once get two numbers.

    Raises:
        BadEpoch: the folder can't be written, or the file does not hold one whole number.
    """
    path = state_dir / FILE_NAME
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with (state_dir / f"{FILE_NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            epoch = _read(path) + 1
            replace_file(path, f"{epoch}\n".encode(), mode=0o644)
    except OSError as error:
        raise _unusable(state_dir, error) from error
    return epoch


def hold_folder(state_dir: Path) -> TextIO:
    """Keeps the folder for this scheduler until the returned file is closed, or the process ends in whatever way.

    Raises:
        BadEpoch: another scheduler has it, or it can't be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        held = (state_dir / HELD_NAME).open("a+")
    except OSError as error:
        raise _unusable(state_dir, error) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held.truncate(0)
        held.write(f"{os.getpid()}\n")
        held.flush()
    except BlockingIOError:
        held.seek(0)
        pid = held.read(20).strip() or "unknown"
        held.close()
        raise BadEpoch(
            f"scheduler.state_dir: another scheduler (process {pid}) runs with {state_dir}; there is one scheduler for "
            "all workers: stop that one first, or give this one its own folder and its own workers"
        ) from None
    except OSError as error:
        held.close()
        raise _unusable(state_dir, error) from error
    return held


def note_epoch(state_dir: Path, epoch: int) -> None:
    """Another scheduler leads under this epoch: the next one taken here is newer.

    Raises:
        BadEpoch: as `next_epoch`.
    """
    path = state_dir / FILE_NAME
    try:
        with (state_dir / f"{FILE_NAME}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _read(path) < epoch < MAX_EPOCH:
                replace_file(path, f"{epoch}\n".encode(), mode=0o644)
    except OSError as error:
        raise _unusable(state_dir, error) from error


def _unusable(state_dir: Path, error: OSError) -> BadEpoch:
    return BadEpoch(
        f"scheduler.state_dir: {state_dir} can't hold the leadership epoch ({error.strerror or error}); "
        "make it writable or set another folder that outlives restarts"
    )


def _read(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return 0
    except UnicodeDecodeError:
        text = ""
    if not text.isdigit() or not int(text) < MAX_EPOCH:
        raise BadEpoch(
            f"scheduler.state_dir: {path} does not hold a leadership epoch; write into it a whole number that is at "
            "least the epoch which the workers' logs name last (`leading ... epoch=N`), then start again"
        )
    return int(text)
