"""One scheduler runs the jobs of a journal. However it dies, what it holds is given up for it.

SQLite: a lock on a file beside the journal. PostgreSQL: an advisory lock of a session of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from scheduler_svc.journal.database import BadJournal, translated

ADVISORY_KEY = 0x6661_6972_6C65_6164
"""`fairlead` in ASCII."""


class FileOwnership:
    """Of a SQLite journal."""

    def __init__(self, file: Path) -> None:
        self._path = file.with_name(f"{file.name}.lock")
        self._held: int | None = None

    async def take(self) -> bool:
        """Whether it is ours now; raises BadJournal where the folder can't be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            held = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadJournal(
                f"scheduler.journal: {self._path.parent} can't be written ({error.strerror}); make it writable or set "
                "scheduler.state_dir"
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            return False
        self._held = held
        return True

    async def still_held(self) -> bool:
        """A file's lock is not lost while the process lives."""
        return self._held is not None

    async def give_up(self) -> None:
        """Lets another scheduler have it."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


class SessionOwnership:
    """Of a PostgreSQL journal."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._session: AsyncConnection | None = None

    async def take(self) -> bool:
        """Whether it is ours now; raises JournalUnavailable where the database is not there."""
        async with translated():
            session = await self._engine.connect()
            session = await session.execution_options(isolation_level="AUTOCOMMIT")
            taken = (
                await session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_KEY})
            ).scalar_one()
        if not taken:
            await session.close()
            return False
        self._session = session
        return True

    async def still_held(self) -> bool:
        """Whether the session lives: with it the lock is gone."""
        if self._session is None:
            return False
        try:
            await self._session.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError):
            await self.give_up()
            return False
        return True

    async def give_up(self) -> None:
        """Lets another scheduler have it."""
        if self._session is not None:
            session, self._session = self._session, None
            with contextlib.suppress(SQLAlchemyError, OSError):
                await session.invalidate()
                await session.close()


class NoOwnership:
    """Of a journal in memory: nobody else can have it."""

    async def take(self) -> bool:
        """Always."""
        return True

    async def still_held(self) -> bool:
        """Always."""
        return True

    async def give_up(self) -> None:
        """Nothing to do."""


Ownership = FileOwnership | SessionOwnership | NoOwnership
