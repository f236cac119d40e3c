"""The audit log of admin changes: JSON lines in the state folder, appended and never rewritten, bounded by size.

A line is on disk before the change that it tells of is made; if that fails, a second line says so. Two files share the
bound: when the newer one holds half of it, it becomes the older one and the older one goes. Keys and their hashes never
come in.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FILE_NAME = "audit.jsonl"
OLDER_NAME = "audit.1.jsonl"
MAX_TEXT = 2000
"""Of one change; more is cut."""
_BEGINS = re.compile(rb'\{"sequence": (\d{1,19}),')
FILE_ACTOR = "file"
"""Who changes the tenants file, as far as is known here."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line.

    Attributes:
        sequence: one more with each line.
        at_s: calendar time, s since 1970.
        actor: the operator, or `FILE_ACTOR`.
        peer: where the call came from.
        action: name of the RPC.
        tenant: whom it concerns; empty: nobody in particular.
        changes: field to JSON text `[before, after]`.
        problem: why it was not carried out; empty: it was.
    """

    sequence: int
    at_s: float
    actor: str
    peer: str
    action: str
    tenant: str = ""
    changes: Mapping[str, str] = field(default_factory=dict[str, str])
    problem: str = ""


class AuditLog:
    """Appends and reads; both block on the disk. One writer at a time.

    Args:
        folder: of the files; made if it is missing.
        max_bytes: of both files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._path = folder / FILE_NAME
        self._older = folder / OLDER_NAME
        self._max_bytes = max_bytes
        newest = next(self.newest_first(), None)
        self._sequence = 0 if newest is None else newest.sequence

    def append(
        self,
        at_s: float,
        actor: str,
        peer: str,
        action: str,
        tenant: str = "",
        changes: Mapping[str, tuple[Any, Any]] | None = None,
        problem: str = "",
    ) -> AuditEntry:
        """Writes a line; it is safely on disk when this returns. Raises OSError."""
        told = {name: json.dumps(pair)[:MAX_TEXT] for name, pair in (changes or {}).items()}
        entry = AuditEntry(self._sequence + 1, at_s, actor, peer[:200], action, tenant, told, problem[:MAX_TEXT])
        line = json.dumps(asdict(entry)).encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._size() + len(line) > self._max_bytes / 2:
            self._make_room()
        with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
            # A crash may have cut the last line: the next one must not become part of it.
            if file.seek(0, os.SEEK_END) and not self._ends_a_line(file.fileno()):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._sequence = entry.sequence
        return entry

    def newest_first(self, before: float = math.inf) -> Iterator[AuditEntry]:
        """All that is kept with a smaller sequence; lines that are none are passed over."""
        for path in (self._path, self._older):
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                continue
            for line in reversed(lines):
                begun = _BEGINS.match(line)
                if begun is None or int(begun[1]) >= before:  # most of a long log is not looked at further
                    continue
                try:
                    yield AuditEntry(**json.loads(line))
                except (ValueError, TypeError):
                    continue

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _make_room(self) -> None:
        if self._path.exists():
            self._path.replace(self._older)

    @staticmethod
    def _ends_a_line(descriptor: int) -> bool:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, 1, size - 1) == b"\n"
