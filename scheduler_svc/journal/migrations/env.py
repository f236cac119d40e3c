"""Alembic's way into the journal: on the connection that `migrating.py` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from scheduler_svc.journal.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True, transactional_ddl=True)
context.run_migrations()
