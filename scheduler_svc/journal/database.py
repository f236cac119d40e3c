"""Either database behind one engine: how it is opened, and what its errors mean.

SQLite runs with a write-ahead log and `synchronous=FULL`: a commit returns when the log is on disk. PostgreSQL does the
same by its own default (`synchronous_commit=on`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, StaticPool, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from fairlead.config import ConfigError

MEMORY = "memory"
FILE_NAME = "journal.db"
POOL_SIZE = 5
CONNECT_WITHIN_S = 5.0
STATEMENT_WITHIN_S = 60.0
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_PG_FULL = ("53100", "53200")
_SQLITE_FULL = frozenset({sqlite3.SQLITE_FULL})
_SQLITE_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class BadJournal(ConfigError):
    """The journal can't be used as it is; the message names it and the remedy."""


class JournalError(Exception):
    """The journal did not do what it was asked; nothing of it was done. The message is one sentence."""


class JournalFull(JournalError):
    """The disk, or what a bound allows, is full; passes when there is room."""


class JournalUnavailable(JournalError):
    """The database can't be reached, or fails; passes when it is there again."""


def journal_url(setting: str | None, state_dir: Path) -> URL:
    """What `scheduler.journal` stands for; raises BadJournal where it is nothing we know."""
    if setting is None:
        return URL.create(_DRIVERS["sqlite"], database=str(state_dir / FILE_NAME))
    if setting == MEMORY:
        return URL.create(_DRIVERS["sqlite"], database=":memory:")
    try:
        url = make_url(setting)
    except ArgumentError:
        raise _unknown() from None
    kind = url.drivername.partition("+")[0]
    if kind not in _DRIVERS or not url.database:
        raise _unknown()
    return url.set(drivername=_DRIVERS[kind])


def _unknown() -> BadJournal:
    return BadJournal(
        "scheduler.journal: give null (SQLite in scheduler.state_dir), sqlite:///FOLDER/FILE, "
        "postgresql://USER@HOST/DATABASE, or `memory` (jobs end with the process)"
    )


def sqlite_file(url: URL) -> Path | None:
    """Where a SQLite journal lies; None for one in memory, and for PostgreSQL."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def make_engine(url: URL) -> AsyncEngine:
    """An engine that connects when it is first used."""
    if url.get_backend_name() == "postgresql":
        return create_async_engine(
            url,
            hide_parameters=True,  # an error's text would hold prompts and answers
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=CONNECT_WITHIN_S,
            connect_args={"timeout": CONNECT_WITHIN_S, "command_timeout": STATEMENT_WITHIN_S},
        )
    file = sqlite_file(url)
    if file is None:
        engine = create_async_engine(url, hide_parameters=True, poolclass=StaticPool)
    else:
        engine = create_async_engine(url, hide_parameters=True, pool_size=POOL_SIZE, max_overflow=0)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by itself, late and not round DDL: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA page_count")
    if not cursor.fetchone()[0]:  # only a new file takes it, and in another's it would be a write
        cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


async def check_sound(engine: AsyncEngine, file: Path) -> None:
    """Raises BadJournal where a SQLite file is none, or is damaged."""
    remedy = (
        "restore a backup (docs/operations.md), or move the file away to start with an empty journal: "
        "the jobs in it are then lost"
    )
    try:
        async with engine.connect() as connection:
            found = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
    except DBAPIError as error:
        if _sqlite_code(error) in _SQLITE_DAMAGED:
            raise BadJournal(f"scheduler.journal: {file} is damaged ({error.orig}); {remedy}") from error
        raise BadJournal(f"scheduler.journal: {file} can't be opened ({error.orig}); make it writable") from error
    if found != "ok":
        raise BadJournal(f"scheduler.journal: {file} is damaged ({found}); {remedy}")


def _sqlite_code(error: DBAPIError) -> int | None:
    """SQLite's primary result code, without what extends it."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


@asynccontextmanager
async def translated() -> AsyncGenerator[None]:
    """Turns what a database may do at any time into JournalError; what is our own mistake passes as it is."""
    try:
        yield
    except DBAPIError as error:
        trouble = _trouble(error)
        if trouble is None:
            raise
        raise trouble from error
    except PoolTimeout as error:
        raise JournalUnavailable("the journal is busy: no connection came free in time") from error
    except (OSError, TimeoutError) as error:  # asyncpg while connecting
        raise JournalUnavailable(f"the journal's database can't be reached ({error})") from error


def _trouble(error: DBAPIError) -> JournalError | None:
    code = _sqlite_code(error)
    if code is not None:
        if code in _SQLITE_FULL:
            return JournalFull("the journal's disk is full")
        if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY):
            return JournalUnavailable(f"the journal's file can't be written ({error.orig})")
        if code in _SQLITE_DAMAGED:
            return JournalUnavailable(
                f"the journal's file is damaged ({error.orig}); docs/operations.md has the remedy"
            )
        return None
    state = str(getattr(error.orig, "sqlstate", "") or "")
    if state in _PG_FULL:
        return JournalFull("the journal's database is out of disk or memory")
    if error.connection_invalidated or state.startswith(("08", "57P", "53", "25006", "40")) or not state:
        return JournalUnavailable("the journal's database does not answer")
    return None


def cause(error: SQLAlchemyError | OSError) -> str:
    """What the driver said, without the statement and its parameters."""
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)
