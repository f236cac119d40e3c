"""Usage on disk: one SQLite table of sums by time, tenant, class and what is counted. Old hours become days.

Every call opens the file anew and blocks on the disk; a file that is damaged is put aside and a new one begun.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

FILE_NAME = "usage.db"
HOUR_S = 3600
DAY_S = 24 * HOUR_S
HOURS_KEPT_S = 7 * DAY_S
"""Hours are told apart for so long, then days."""
BUSY_S = 5.0
VERSION = 1

Cell = tuple[int, str, str, str]
"""(start of the hour or day in s since 1970, tenant, class "ls" or "be" or "", what is counted)."""

_TABLE = """
CREATE TABLE IF NOT EXISTS usage (
    start INTEGER NOT NULL, tenant TEXT NOT NULL, class TEXT NOT NULL, what TEXT NOT NULL, amount INTEGER NOT NULL,
    PRIMARY KEY (tenant, start, class, what)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO usage (start, tenant, class, what, amount) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant, start, class, what) DO UPDATE SET amount = amount + excluded.amount
"""
_TO_DAYS = """
INSERT INTO usage (start, tenant, class, what, amount)
SELECT start - start % 86400, tenant, class, what, sum(amount) FROM usage
WHERE start < :before AND start % 86400 <> 0 GROUP BY 1, 2, 3, 4
ON CONFLICT (tenant, start, class, what) DO UPDATE SET amount = amount + excluded.amount
"""


class UsageStore:
    """The table.

    Args:
        folder: of the file; made if it is missing.
        keep_s: days that are older go.
    """

    def __init__(self, folder: Path, keep_s: float) -> None:
        self._path = folder / FILE_NAME
        self._keep_s = keep_s

    def add(self, amounts: Mapping[Cell, int]) -> None:
        """Adds all of them or none. Raises sqlite3.Error or OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._add(amounts)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # Not a database, or one that is broken: it can't be mended here, and what comes now is still countable.
            self._path.replace(self._path.with_name(f"{FILE_NAME}.damaged"))
            self._add(amounts)

    def tidy(self, now_s: float) -> None:
        """Turns old hours into days and drops what is too old. Raises sqlite3.Error."""
        before = int(now_s - HOURS_KEPT_S) // DAY_S * DAY_S
        with self._open() as connection:
            connection.execute(_TO_DAYS, {"before": before})
            connection.execute("DELETE FROM usage WHERE start < ? AND start % 86400 <> 0", (before,))
            connection.execute("DELETE FROM usage WHERE start < ?", (int(now_s - self._keep_s) // DAY_S * DAY_S,))

    def sums(self, tenants: Iterable[str], start_s: int, end_s: int) -> dict[str, dict[tuple[str, str], int]]:
        """By tenant: (class, what) to its sum over [start, end). Raises sqlite3.Error."""
        found: dict[str, dict[tuple[str, str], int]] = {}
        if not self._path.exists():
            return found
        with self._open() as connection:
            for tenant in tenants:
                rows = connection.execute(
                    "SELECT class, what, sum(amount) FROM usage WHERE tenant = ? AND start >= ? AND start < ? "
                    "GROUP BY class, what",
                    (tenant, start_s, end_s),
                )
                found[tenant] = {(str(kind), str(what)): int(amount) for kind, what, amount in rows}
        return found

    def tenants(self) -> list[str]:
        """All that have used anything, by name. Raises sqlite3.Error."""
        if not self._path.exists():
            return []
        with self._open() as connection:
            return [str(name) for (name,) in connection.execute("SELECT DISTINCT tenant FROM usage ORDER BY tenant")]

    def earliest_s(self) -> int | None:
        """Start of the oldest hour or day that is kept. Raises sqlite3.Error."""
        if not self._path.exists():
            return None
        with self._open() as connection:
            (found,) = connection.execute("SELECT min(start) FROM usage").fetchone()
            return None if found is None else int(found)

    def _add(self, amounts: Mapping[Cell, int]) -> None:
        with self._open() as connection:
            connection.executemany(_ADD, [(*cell, amount) for cell, amount in amounts.items()])

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=BUSY_S)
        try:
            with connection:
                connection.execute(_TABLE)
                yield connection
        finally:
            connection.close()
