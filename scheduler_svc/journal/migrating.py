"""Brings a journal's schema up to date, or refuses one that a newer release wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from scheduler_svc.journal.database import BadJournal

SCRIPTS = Path(__file__).parent / "migrations"


async def migrate(engine: AsyncEngine, revision: str = "head") -> None:
    """Takes every step from the schema that is there (or none) to `revision`, all in one transaction.

    Raises:
        BadJournal: a newer release wrote it.
    """
    async with engine.begin() as connection:
        await connection.run_sync(_migrate, revision)


def revisions() -> list[str]:
    """All revisions, oldest first."""
    scripts = ScriptDirectory.from_config(_config())
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def _migrate(connection: Connection, revision: str) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in revisions():
        raise BadJournal(
            f"scheduler.journal: its schema {found!r} is of a newer release than this one; start that release, or "
            "restore the backup made before the upgrade"
        )
    command.upgrade(_config(connection), revision)


def _config(connection: Connection | None = None) -> Config:
    attributes: dict[str, Any] = {"connection": connection}
    config = Config(attributes=attributes)
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
