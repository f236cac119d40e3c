"""The purge finds old jobs without reading all of them.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """From 0001."""
    op.create_index("ix_jobs_ended_ms", "jobs", ["ended_ms"])
