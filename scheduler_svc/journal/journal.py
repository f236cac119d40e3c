"""What can be done with the journal. Each method is one transaction: done as a whole, or not at all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any

from sqlalchemy import URL, Row, and_, bindparam, delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from fairlead.v1 import types_pb2
from scheduler_svc.journal.database import JournalUnavailable, check_sound, make_engine, sqlite_file, translated
from scheduler_svc.journal.migrating import migrate
from scheduler_svc.journal.ownership import FileOwnership, NoOwnership, Ownership, SessionOwnership
from scheduler_svc.journal.records import LIVE_STATES, Job, Line, Result, State, Tally
from scheduler_svc.journal.tables import job_lines, job_results, jobs

ROWS_AT_ONCE = 200
"""Rows of one statement: what a statement is made of is made on the event loop, so it is small."""
PURGED_AT_ONCE = 1000
MB = 1_000_000


class Journal:
    """Jobs, their lines and their results.

    Args:
        url: of the database.

    Attributes:
        ownership: to be taken before `open`.
    """

    def __init__(self, url: URL) -> None:
        self._engine = make_engine(url)
        self._file = sqlite_file(url)
        self._postgresql = url.get_backend_name() == "postgresql"
        self._insert = postgresql.insert if self._postgresql else sqlite.insert
        self._writing = asyncio.Lock()
        self._in_memory = self._file is None and not self._postgresql
        self.ownership: Ownership = NoOwnership()
        if self._postgresql:
            self.ownership = SessionOwnership(self._engine)
        elif self._file is not None:
            self.ownership = FileOwnership(self._file)

    async def open(self) -> None:
        """Checks the file and brings the schema up to date.

        Raises:
            BadJournal: it is damaged, or of a newer release.
            JournalError: the database is not there, or full.
        """
        if self._file is not None:
            await check_sound(self._engine, self._file)
        async with self._writing, translated():
            await migrate(self._engine)

    async def close(self) -> None:
        """Gives up what is held and closes the connections."""
        await self.ownership.give_up()
        await self._engine.dispose()

    # -- jobs

    async def submit(self, job: Job, lines: Sequence[Line]) -> Job | None:
        """Puts a job on disk; or returns the one that has its tenant and key already. Raises JournalError."""
        try:
            async with self._write() as connection:
                known = await _by_key(connection, job.tenant, job.idempotency_key)
                if known is not None:
                    return known
                await connection.execute(insert(jobs), [_row(job)])
                for start in range(0, len(lines), ROWS_AT_ONCE):
                    rows = [{"job_id": job.job_id, **_row(line)} for line in lines[start : start + ROWS_AT_ONCE]]
                    await connection.execute(insert(job_lines), rows)
        except IntegrityError:
            known = await self.by_key(job.tenant, job.idempotency_key)
            if known is None:
                raise
            return known
        return None

    async def by_key(self, tenant: str, key: str | None) -> Job | None:
        """The job of a tenant that was submitted under this key. Raises JournalError."""
        async with self._read() as connection:
            return await _by_key(connection, tenant, key)

    async def job(self, tenant: str, job_id: str) -> Job | None:
        """A job of this tenant. Raises JournalError."""
        query = select(jobs).where(jobs.c.tenant == tenant, jobs.c.job_id == job_id)
        async with self._read() as connection:
            found = (await connection.execute(query)).one_or_none()
        return None if found is None else _job(found)

    async def jobs(self, tenant: str, *, before: tuple[int, str] | None, limit: int, live_only: bool) -> list[Job]:
        """Jobs of a tenant, newest first; `before`: (created_ms, job_id) of the last one seen. Raises JournalError."""
        query = select(jobs).where(jobs.c.tenant == tenant)
        if before is not None:
            query = query.where(tuple_(jobs.c.created_ms, jobs.c.job_id) < before)
        if live_only:
            query = query.where(jobs.c.state.in_(LIVE_STATES))
        async with self._read() as connection:
            found = await connection.execute(
                query.order_by(jobs.c.created_ms.desc(), jobs.c.job_id.desc()).limit(limit)
            )
            return [_job(row) for row in found]

    async def live(self) -> list[Job]:
        """Jobs of all tenants that have not ended, oldest first. Raises JournalError."""
        query = select(jobs).where(jobs.c.state.in_(LIVE_STATES)).order_by(jobs.c.created_ms, jobs.c.job_id)
        async with self._read() as connection:
            return [_job(row) for row in await connection.execute(query)]

    async def ask_cancel(self, job_id: str) -> bool:
        """Writes down that a live job is to end; whether it was live and not so asked before. Raises JournalError."""
        wish = update(jobs).where(jobs.c.job_id == job_id, jobs.c.state == State.LIVE)
        async with self._write() as connection:
            done = await connection.execute(wish.values(state=State.CANCELLING))
        return done.rowcount > 0

    async def end(self, job_id: str, state: State, now_ms: int, detail: str = "") -> Tally:
        """Ends a job; lines that have not ended get the outcome that belongs to `state`. Raises JournalError."""
        rest = (
            types_pb2.OUTCOME_EXPIRED if state is State.EXPIRED else types_pb2.OUTCOME_CANCELLED_BY_CLIENT
        )  # COMPLETED leaves no rest
        async with self._write() as connection:
            await connection.execute(_end_rest(self._insert, job_id, rest, now_ms, detail))
            await connection.execute(delete(job_lines).where(job_lines.c.job_id == job_id))
            tally = await _tally(connection, job_id)
            ended = {"state": state, "ended_ms": now_ms, "tally": tally.dumps()}
            await connection.execute(update(jobs).where(jobs.c.job_id == job_id).values(**ended))
        return tally

    async def delete(self, tenant: str, job_id: str) -> bool:
        """Forgets an ended job; whether there was one. Raises JournalError."""
        ended = and_(jobs.c.tenant == tenant, jobs.c.job_id == job_id, jobs.c.state.not_in(LIVE_STATES))
        async with self._write() as connection:
            done = await connection.execute(delete(jobs).where(ended))
            return done.rowcount > 0

    async def forget(self, tenant: str) -> int:
        """Forgets the ended jobs of a tenant; returns how many. Raises JournalError."""
        ended = and_(jobs.c.tenant == tenant, jobs.c.state.not_in(LIVE_STATES))
        async with self._write() as connection:
            return (await connection.execute(delete(jobs).where(ended))).rowcount

    async def purge(self, ended_before_ms: int) -> int:
        """Forgets jobs that ended before this, some at a time; returns how many. Raises JournalError."""
        old = select(jobs.c.job_id).where(jobs.c.ended_ms < ended_before_ms).limit(PURGED_AT_ONCE)
        async with self._write() as connection:
            done = await connection.execute(delete(jobs).where(jobs.c.job_id.in_(old)))
        if done.rowcount and self._file is not None:
            async with self._writing, translated(), self._engine.connect() as connection:
                autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await autocommit.execute(text("PRAGMA incremental_vacuum"))
        return done.rowcount

    # -- lines and results

    async def tally(self, job_id: str) -> Tally:
        """What a job's results come to. Raises JournalError."""
        async with self._read() as connection:
            return await _tally(connection, job_id)

    async def lines(self, job_id: str, after_line: int, limit: int) -> list[Line]:
        """Lines that have not ended, in their order. Raises JournalError."""
        query = select(job_lines).where(job_lines.c.job_id == job_id, job_lines.c.line > after_line)
        async with self._read() as connection:
            found = await connection.execute(query.order_by(job_lines.c.line).limit(limit))
            return [Line(row.line, row.custom_id, bytes(row.request), row.attempts) for row in found]

    async def note_attempts(self, job_id: str, line: int, attempts: int) -> None:
        """Writes down that a line's run failed and another follows. Raises JournalError."""
        which = and_(job_lines.c.job_id == job_id, job_lines.c.line == line)
        async with self._write() as connection:
            await connection.execute(update(job_lines).where(which).values(attempts=attempts))

    async def record(self, results: Sequence[Result]) -> None:
        """Puts results on disk, all in one transaction; a line that has one keeps it. Raises JournalError."""
        keys = [(result.job_id, result.line) for result in results]
        async with self._write() as connection:
            put = self._insert(job_results).on_conflict_do_nothing()
            for start in range(0, len(results), ROWS_AT_ONCE):
                rows = [_row(result) for result in results[start : start + ROWS_AT_ONCE]]
                await connection.execute(put, rows)
                gone = tuple_(job_lines.c.job_id, job_lines.c.line).in_(keys[start : start + ROWS_AT_ONCE])
                await connection.execute(delete(job_lines).where(gone))

    async def results(
        self, job_id: str, from_line: int, limit: int, *, skip_unfinished: bool = False
    ) -> tuple[list[Result], bool]:
        """Results in line order, and whether no line is left that has not ended.

        Without `skip_unfinished` they end before the first line that has not ended. Raises JournalError.
        """
        first = select(func.min(job_lines.c.line)).where(job_lines.c.job_id == job_id)
        query = select(job_results).where(job_results.c.job_id == job_id, job_results.c.line >= from_line)
        async with self._read() as connection:
            # In one transaction, lines first: a result that comes between is a line that is still counted as open.
            open_line = (await connection.execute(first)).scalar_one()
            if open_line is not None and not skip_unfinished:
                query = query.where(job_results.c.line < open_line)
            found = await connection.execute(query.order_by(job_results.c.line).limit(limit))
            return [_result(row) for row in found], open_line is None

    # -- sizes

    async def of_tenant(self, tenant: str) -> tuple[int, int]:
        """(jobs kept, bytes of their files). Raises JournalError."""
        query = select(func.count(), func.coalesce(func.sum(jobs.c.request_bytes), 0)).where(jobs.c.tenant == tenant)
        async with self._read() as connection:
            number, size = (await connection.execute(query)).one()
        return int(number), int(size)

    async def size_bytes(self) -> int:
        """What the journal takes up, without space that is free for reuse. Raises JournalError."""
        if self._postgresql:
            names = ", ".join(f"pg_total_relation_size('{table.name}')" for table in (jobs, job_lines, job_results))
            query = text(f"SELECT {names.replace(', ', ' + ')}")
        else:
            query = text(
                "SELECT (page_count - freelist_count) * page_size "
                "FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
            )
        async with self._read() as connection:
            return int((await connection.execute(query)).scalar_one())

    def free_mb(self) -> float | None:
        """Free space on a SQLite journal's disk, MB; None for other journals."""
        if self._file is None:
            return None
        try:
            return shutil.disk_usage(self._file.parent).free / MB
        except OSError as error:
            raise JournalUnavailable(f"the journal's folder can't be read ({error.strerror})") from error

    # -- transactions

    @asynccontextmanager
    async def _write(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that is on disk when this ends. One at a time: SQLite has one writer, and waits are fair so."""
        async with self._writing, translated(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _read(self) -> AsyncGenerator[AsyncConnection]:
        """A transaction that sees one state of everything."""
        if self._in_memory:  # one connection: a reader would be inside the writer's transaction
            async with self._write() as connection:
                yield connection
            return
        async with translated(), self._engine.connect() as connection:
            if self._postgresql:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection


async def _by_key(connection: AsyncConnection, tenant: str, key: str | None) -> Job | None:
    if key is None:
        return None
    query = select(jobs).where(jobs.c.tenant == tenant, jobs.c.idempotency_key == key)
    found = (await connection.execute(query)).one_or_none()
    return None if found is None else _job(found)


async def _tally(connection: AsyncConnection, job_id: str) -> Tally:
    c = job_results.c
    query = select(
        c.outcome,
        func.count(),
        func.sum(c.prompt_tokens),
        func.sum(c.cached_prompt_tokens),
        func.sum(c.output_tokens),
        func.sum(c.attempts) - func.count().filter(c.attempts > 0),
    )
    tally = Tally()
    for outcome, number, prompt, cached, output, retries in await connection.execute(
        query.where(c.job_id == job_id).group_by(c.outcome)
    ):
        tally.outcomes[int(outcome)] = int(number)
        tally.prompt_tokens += int(prompt)
        tally.cached_prompt_tokens += int(cached)
        tally.output_tokens += int(output)
        tally.retries += int(retries)
    return tally


def _end_rest(make_insert: Any, job_id: str, outcome: types_pb2.Outcome, now_ms: int, detail: str) -> Any:
    """Gives every line that is left an outcome, in the database itself: a job may have a hundred thousand."""
    c = job_lines.c
    fixed = {
        "outcome": int(outcome), "detail": detail, "text": "", "prompt_tokens": 0, "cached_prompt_tokens": 0,
        "output_tokens": 0, "ended_ms": now_ms,
    }  # fmt: skip
    values = [bindparam(None, value, type_=job_results.c[name].type, unique=True) for name, value in fixed.items()]
    rest = select(c.job_id, c.line, c.custom_id, c.attempts, *values).where(c.job_id == job_id)
    return (
        make_insert(job_results)
        .from_select(["job_id", "line", "custom_id", "attempts", *fixed], rest)
        .on_conflict_do_nothing()
    )


def _row(record: Job | Line | Result) -> dict[str, Any]:
    """Column to value."""
    row: dict[str, Any] = {each.name: getattr(record, each.name) for each in fields(record)}
    if isinstance(record, Job) and record.tally is not None:
        row["tally"] = record.tally.dumps()
    return row


def _job(row: Row[Any]) -> Job:
    told: dict[str, Any] = dict(row._mapping)  # pyright: ignore[reportPrivateUsage]: its public name, with `_` against column names
    told["tally"] = None if told["tally"] is None else Tally.loads(told["tally"])
    told["state"] = State(told["state"])
    return Job(**told)


def _result(row: Row[Any]) -> Result:
    return Result(**row._mapping)  # pyright: ignore[reportPrivateUsage]: as above
