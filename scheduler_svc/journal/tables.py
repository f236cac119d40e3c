"""The schema as it is now; `migrations/` leads here from every earlier one.

A line waits in `job_lines` and its result lies in `job_results`: one transaction takes it from the first and puts it
into the second, whose key lets it in once. Times are ms since 1970, sizes bytes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import TypeDecorator


class Utf8(TypeDecorator[str]):
    """Text of models and prompts, kept as bytes: PostgreSQL's own type takes no NUL, and models may write one."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        """To bytes."""
        return None if value is None else str(value).encode("utf-8", "replace")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """From bytes."""
        return None if value is None else bytes(value).decode("utf-8", "replace")


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("idempotency_key", String(128), nullable=True),
    Column("digest", LargeBinary, nullable=False),
    Column("name", String(128), nullable=False),
    Column("model", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("lines", Integer, nullable=False),
    Column("request_bytes", BigInteger, nullable=False),
    Column("return_token_ids", Boolean, nullable=False, server_default=false()),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger, nullable=True),
    Column("target_ms", BigInteger, nullable=True),
    Column("tally", Text, nullable=True),
    UniqueConstraint("tenant", "idempotency_key"),
    Index(None, "tenant", "created_ms"),
    Index(None, "state"),
    Index(None, "ended_ms"),
)

job_lines = Table(
    "job_lines",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", Text, nullable=False),
    Column("outcome", Integer, nullable=False),
    Column("detail", Utf8, nullable=False),
    Column("text", Utf8, nullable=False),
    Column("token_ids", LargeBinary, nullable=True),
    Column("matched_stop", Utf8, nullable=True),
    Column("prompt_tokens", Integer, nullable=False),
    Column("cached_prompt_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("ended_ms", BigInteger, nullable=False),
)
