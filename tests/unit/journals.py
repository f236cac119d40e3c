"""Journals for tests: SQLite in a folder, or PostgreSQL from Debian's packages; each test has a database of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import URL

from fairlead.v1 import inference_pb2
from scheduler_svc.journal.database import journal_url
from scheduler_svc.journal.journal import Journal
from scheduler_svc.journal.records import Job, Line, Result
from tests.requirements import lacking

DATABASES = ("sqlite", "postgresql")
HOUR_MS = 3_600_000


def postgres_folder() -> Path | None:
    """Where Debian's packages put `initdb` and its like; None where they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@dataclass(frozen=True)
class PostgresServer:
    """A server of this test run, reached by a socket in its folder."""

    folder: Path

    def url(self, database: str) -> str:
        """For `scheduler.journal`."""
        return f"postgresql://fairlead@/{database}?host={self.folder}"

    async def make_database(self) -> str:
        """A new, empty one; its URL."""
        name = f"t{uuid.uuid4().hex}"
        await self._do(f"CREATE DATABASE {name}")
        return self.url(name)

    async def end_sessions(self, url: str) -> None:
        """Ends every session in a database, as a restart of the server would."""
        name = str(journal_url(url, self.folder).database)
        await self._do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)

    async def _do(self, statement: str, *values: str) -> None:
        connection = await asyncpg.connect(host=str(self.folder), user="fairlead", database="postgres")
        try:
            await connection.execute(statement, *values)
        finally:
            await connection.close()


def as_unprivileged(command: Sequence[str]) -> list[str]:
    """PostgreSQL does not run as root: the same command as `postgres` or `nobody` where we are."""
    if os.getuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={_user()}", f"--regid={_user()}", "--clear-groups", *command]


def _user() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise AssertionError("this machine has no user `postgres` or `nobody`")


def run_postgres(folder: Path) -> Iterator[PostgresServer]:
    """A throw-away server without a port; `folder` has a short path, since a socket's is bounded."""
    binaries = postgres_folder()
    if binaries is None:
        lacking("postgres", "PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if os.getuid() == 0:
        user = pwd.getpwnam(_user())
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "fairlead", "-A", "trust", "-E", "UTF8", "--no-sync"]
    _run(folder, initdb)
    options = f"-k {folder} -c listen_addresses= -c max_connections=50 -c shared_buffers=16MB -c fsync=off"
    control = [str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log")]
    _run(folder, [*control, "-o", options, "start"])
    try:
        yield PostgresServer(folder)
    finally:
        _run(folder, [*control, "-m", "immediate", "stop"])


def _run(folder: Path, command: Sequence[str]) -> None:
    subprocess.run(as_unprivileged(command), check=True, stdout=subprocess.DEVNULL, cwd=folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    folder = Path(f"/tmp/fl-pg-{uuid.uuid4().hex[:8]}")
    folder.mkdir(mode=0o700)
    try:
        yield from run_postgres(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Store:
    """A database that a test may open again and again."""

    kind: str
    url: URL

    @property
    def setting(self) -> str:
        """For `scheduler.journal`."""
        name = "postgresql" if self.kind == "postgresql" else "sqlite"
        return self.url.set(drivername=name).render_as_string(hide_password=False)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Journal]:
        """The journal in it, ours."""
        journal = Journal(self.url)
        try:
            assert await journal.ownership.take(), "another has it"
            await journal.open()
            yield journal
        finally:
            await journal.close()


@pytest.fixture(params=DATABASES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return Store("sqlite", journal_url(None, tmp_path))
    server: PostgresServer = request.getfixturevalue("postgres")
    return Store("postgresql", journal_url(await server.make_database(), tmp_path))


@pytest.fixture
async def journal(store: Store) -> AsyncIterator[Journal]:
    async with store.opened() as opened:
        yield opened


def make_job(number: int = 1, *, tenant: str = "alice", lines: int = 3, **values: Any) -> Job:
    told: dict[str, Any] = {
        "job_id": f"job-{number}", "tenant": tenant, "idempotency_key": None, "digest": b"d" * 32, "name": "",
        "model": "", "lines": lines, "request_bytes": 100, "return_token_ids": False, "created_ms": number,
        "expires_ms": number + HOUR_MS,
    }  # fmt: skip
    return Job(**{**told, **values})


def make_lines(number: int) -> list[Line]:
    return [
        Line(line, f"c{line}", inference_pb2.GenerateRequest(text=f"prompt {line}").SerializeToString())
        for line in range(1, number + 1)
    ]


def make_result(job: Job, line: int, outcome: int = 1, **values: Any) -> Result:
    told: dict[str, Any] = {
        "job_id": job.job_id, "line": line, "custom_id": f"c{line}", "outcome": outcome, "ended_ms": 10 + line,
        "text": f"answer {line}", "prompt_tokens": 2, "output_tokens": 5, "attempts": 1,
    }  # fmt: skip
    return Result(**{**told, **values})
