"""The journal, on both databases: what is acknowledged is there after a crash, what has an outcome keeps it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from fairlead.v1 import types_pb2
from scheduler_svc.journal.database import BadJournal, journal_url, make_engine
from scheduler_svc.journal.journal import Journal
from scheduler_svc.journal.migrating import migrate, revisions
from scheduler_svc.journal.records import State
from scheduler_svc.journal.tables import metadata
from tests.unit.journals import Store, journal, make_job, make_lines, make_result, postgres, store

__all__ = ["journal", "postgres", "store"]
NUL = "nul \0 and \U0001f600"


async def test_what_is_submitted_is_read_back(journal: Journal) -> None:
    job = make_job(idempotency_key="k", name="nightly", model="demo", target_ms=5000, return_token_ids=True)
    lines = make_lines(3)
    assert await journal.submit(job, lines) is None
    assert await journal.job("alice", job.job_id) == job
    assert await journal.live() == [job]
    assert await journal.lines(job.job_id, 0, 10) == lines
    assert await journal.lines(job.job_id, 1, 1) == lines[1:2]
    assert await journal.job("bob", job.job_id) is None


async def test_a_job_of_many_lines_is_one_transaction(journal: Journal) -> None:
    job = make_job(lines=1001)
    await journal.submit(job, make_lines(1001))
    assert len(await journal.lines(job.job_id, 0, 5000)) == 1001
    broken = make_job(2)
    twice = [*make_lines(600), make_lines(1)[0]]
    with pytest.raises(Exception, match=r"UNIQUE|unique|duplicate") as refused:
        await journal.submit(broken, twice)
    assert "prompt 1" not in str(refused.value), "it would be in the log"
    assert await journal.job("alice", broken.job_id) is None
    assert await journal.lines(broken.job_id, 0, 10) == []


async def test_one_key_makes_one_job_however_many_try(journal: Journal) -> None:
    tries = [make_job(number, idempotency_key="same") for number in range(1, 9)]
    found = await asyncio.gather(*(journal.submit(job, make_lines(3)) for job in tries))
    assert found.count(None) == 1
    winner = tries[found.index(None)]
    assert {job.job_id for job in found if job is not None} == {winner.job_id}
    assert [job.job_id for job in await journal.live()] == [winner.job_id]
    other = make_job(9, tenant="bob", idempotency_key="same")
    assert await journal.submit(other, make_lines(3)) is None  # keys are the tenant's own


async def test_a_line_keeps_its_first_result(journal: Journal) -> None:
    job = make_job()
    await journal.submit(job, make_lines(3))
    first = make_result(job, 2, text=NUL, detail=NUL, matched_stop=NUL, token_ids=b"\1\0\0\0")
    await journal.record([first])
    await journal.record([make_result(job, 2, outcome=2, text="another"), make_result(job, 1)])
    found, whole = await journal.results(job.job_id, 1, 10)
    assert found == [make_result(job, 1), first]
    assert not whole
    assert [line.line for line in await journal.lines(job.job_id, 0, 10)] == [3]


async def test_results_stop_before_the_first_line_that_has_not_ended(journal: Journal) -> None:
    job = make_job(lines=5)
    await journal.submit(job, make_lines(5))
    await journal.record([make_result(job, line) for line in (1, 2, 4)])
    found, whole = await journal.results(job.job_id, 1, 10)
    assert ([result.line for result in found], whole) == ([1, 2], False)
    found, whole = await journal.results(job.job_id, 2, 10, skip_unfinished=True)
    assert ([result.line for result in found], whole) == ([2, 4], False)
    await journal.record([make_result(job, line) for line in (3, 5)])
    found, whole = await journal.results(job.job_id, 2, 2)
    assert ([result.line for result in found], whole) == ([2, 3], True)


async def test_the_tally_counts_each_line_once(journal: Journal) -> None:
    job = make_job(lines=4)
    await journal.submit(job, make_lines(4))
    failed = make_result(job, 2, outcome=types_pb2.OUTCOME_FAILED_ENGINE, attempts=3, output_tokens=0)
    await journal.record([make_result(job, 1), failed])
    tally = await journal.tally(job.job_id)
    assert dict(tally.outcomes) == {types_pb2.OUTCOME_STOP: 1, types_pb2.OUTCOME_FAILED_ENGINE: 1}
    assert (tally.prompt_tokens, tally.output_tokens, tally.retries) == (4, 5, 2)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (State.CANCELLED, types_pb2.OUTCOME_CANCELLED_BY_CLIENT),
        (State.EXPIRED, types_pb2.OUTCOME_EXPIRED),
    ],
)
async def test_an_ended_job_gives_every_line_left_an_outcome(
    journal: Journal, state: State, outcome: types_pb2.Outcome
) -> None:
    job = make_job(lines=500)
    await journal.submit(job, make_lines(500))
    await journal.record([make_result(job, 7)])
    assert await journal.ask_cancel(job.job_id)
    assert not await journal.ask_cancel(job.job_id)
    tally = await journal.end(job.job_id, state, 99, "it was ended")
    assert dict(tally.outcomes) == {types_pb2.OUTCOME_STOP: 1, outcome: 499}
    ended = await journal.job("alice", job.job_id)
    assert ended is not None
    assert (ended.state, ended.ended_ms, ended.tally) == (state, 99, tally)
    found, whole = await journal.results(job.job_id, 6, 2)
    assert [(one.line, one.outcome, one.detail) for one in found] == [(6, outcome, "it was ended"), (7, 1, "")]
    assert whole
    assert await journal.live() == []


async def test_pages_of_jobs_leave_none_out(journal: Journal) -> None:
    for number in range(1, 8):
        await journal.submit(make_job(number, created_ms=number // 2), make_lines(1))
    await journal.submit(make_job(9, tenant="bob"), make_lines(1))
    await journal.end("job-3", State.COMPLETED, 5)
    seen: list[str] = []
    before = None
    while page := await journal.jobs("alice", before=before, limit=2, live_only=False):
        seen += [job.job_id for job in page]
        before = page[-1].created_ms, page[-1].job_id
    assert seen == [f"job-{number}" for number in (7, 6, 5, 4, 3, 2, 1)]
    live = await journal.jobs("alice", before=None, limit=10, live_only=True)
    assert [job.job_id for job in live] == [f"job-{number}" for number in (7, 6, 5, 4, 2, 1)]


async def test_old_jobs_go_with_all_that_is_theirs(journal: Journal) -> None:
    for number in (1, 2, 3):
        job = make_job(number, lines=1)
        await journal.submit(job, make_lines(1))
        if number < 3:
            await journal.record([make_result(job, 1)])
            await journal.end(job.job_id, State.COMPLETED, 100 * number)
    assert await journal.purge(150) == 1
    assert await journal.purge(150) == 0
    assert [job.job_id for job in await journal.jobs("alice", before=None, limit=9, live_only=False)] == [
        "job-3", "job-2",
    ]  # fmt: skip
    assert await journal.results("job-1", 1, 10, skip_unfinished=True) == ([], True)
    assert not await journal.delete("alice", "job-3")  # it lives
    assert not await journal.delete("bob", "job-2")  # another's
    assert await journal.delete("alice", "job-2")
    assert await journal.of_tenant("alice") == (1, 100)
    assert await journal.size_bytes() > 0


async def test_it_is_all_there_when_opened_again(store: Store) -> None:
    job = make_job(lines=3)
    async with store.opened() as journal:
        await journal.submit(job, make_lines(3))
        await journal.record([make_result(job, 1)])
        await journal.note_attempts(job.job_id, 2, 2)
    async with store.opened() as journal:
        assert await journal.live() == [job]
        assert (await journal.tally(job.job_id)).ended == 1
        assert [(line.line, line.attempts) for line in await journal.lines(job.job_id, 0, 9)] == [(2, 2), (3, 0)]


async def test_a_second_scheduler_does_not_get_it(store: Store) -> None:
    async with store.opened():
        second = Journal(store.url)
        assert not await second.ownership.take()
        await second.close()
    async with store.opened() as journal:
        assert await journal.ownership.still_held()


# -- schema


async def test_migrations_lead_to_the_schema_that_the_code_has(store: Store) -> None:
    engine = make_engine(store.url)

    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    try:
        await migrate(engine)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


OF_REVISION = {
    "0001": (
        "INSERT INTO jobs (job_id, tenant, idempotency_key, digest, name, model, state, lines, request_bytes, "
        "return_token_ids, created_ms, expires_ms, ended_ms, target_ms, tally) VALUES "
        "('job-1', 'alice', 'k', :digest, 'old', 'demo', 'LIVE', 2, 100, false, 1, 9, NULL, NULL, NULL)",
        "INSERT INTO job_lines (job_id, line, custom_id, request, attempts) VALUES ('job-1', 2, 'c2', :digest, 1)",
        "INSERT INTO job_results (job_id, line, custom_id, outcome, detail, text, token_ids, matched_stop, "
        "prompt_tokens, cached_prompt_tokens, output_tokens, attempts, ended_ms) VALUES "
        "('job-1', 1, 'c1', 1, :empty, :digest, NULL, NULL, 2, 0, 5, 1, 7)",
    ),
}
"""What a release wrote that had this revision as its newest."""


@pytest.mark.parametrize("revision", revisions()[:-1])
async def test_what_an_earlier_release_wrote_is_read(store: Store, revision: str) -> None:
    engine = make_engine(store.url)
    await migrate(engine, revision)
    async with engine.begin() as connection:
        for statement in OF_REVISION[revision]:
            values = {"digest": b"words", "empty": b""}
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            await connection.execute(text(statement), used)
    await engine.dispose()
    async with store.opened() as journal:
        (job,) = await journal.live()
        assert (job.job_id, job.digest, job.name, job.return_token_ids) == ("job-1", b"words", "old", False)
        assert [(line.line, line.request, line.attempts) for line in await journal.lines("job-1", 0, 9)] == [
            (2, b"words", 1)
        ]
        found, _ = await journal.results("job-1", 1, 9)
        assert [(one.line, one.text, one.output_tokens) for one in found] == [(1, "words", 5)]
        await journal.record([make_result(job, 2)])
        assert (await journal.end("job-1", State.COMPLETED, 8)).ended == 2


async def test_a_schema_of_a_newer_release_is_refused(store: Store) -> None:
    async with store.opened():
        pass
    engine = make_engine(store.url)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(BadJournal, match=r"scheduler.journal: its schema '9999' is of a newer release"):
        async with store.opened():
            pass


def test_revisions_are_in_order() -> None:
    assert revisions() == sorted(revisions())


# -- SQLite alone


def sqlite(folder: Path) -> Store:
    return Store("sqlite", journal_url(None, folder))


async def test_a_file_that_is_no_journal_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(BadJournal, match=r"scheduler.journal: .*journal.db is damaged .* restore a backup"):
        async with sqlite(tmp_path).opened():
            pass


async def test_a_damaged_file_stops_the_start(tmp_path: Path) -> None:
    async with sqlite(tmp_path).opened() as journal:
        job = make_job(lines=2000)
        await journal.submit(job, make_lines(2000))
    file = tmp_path / "journal.db"
    content = bytearray(file.read_bytes())
    assert not (tmp_path / "journal.db-wal").exists()
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    file.write_bytes(content)
    with pytest.raises(BadJournal, match=r"journal.db is damaged"):
        async with sqlite(tmp_path).opened():
            pass


async def test_what_a_line_and_a_result_take(tmp_path: Path) -> None:
    """docs/jobs.md says so, for sizing."""
    async with sqlite(tmp_path).opened() as journal:
        empty = await journal.size_bytes()
        job, written = make_job(lines=4000), make_lines(4000)
        await journal.submit(job, written)
        with_lines = await journal.size_bytes()
        assert (with_lines - empty) / 4000 < len(written[-1].request) + 150
        await journal.record([make_result(job, line.line, text="y" * 800) for line in written])
        assert (await journal.size_bytes() - empty) / 4000 < 800 + 350


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from scheduler_svc.journal.database import journal_url
from scheduler_svc.journal.journal import Journal
from tests.unit.journals import make_job, make_lines, make_result

async def main():
    journal = Journal(journal_url(None, Path(sys.argv[1])))
    assert await journal.ownership.take()
    await journal.open()
    job = make_job(lines=100)
    await journal.submit(job, make_lines(100))
    for line in range(1, 41):
        await journal.record([make_result(job, line)])
        print(line, flush=True)
        if line == 40:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    died = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(tmp_path), stdout=subprocess.PIPE)
    told, _ = await died.communicate()
    assert told.split()[-1] == b"40"
    async with sqlite(tmp_path).opened() as journal:
        found, _ = await journal.results("job-1", 1, 100)
        assert [result.line for result in found] == list(range(1, 41))
        assert [line.line for line in await journal.lines("job-1", 0, 100)] == list(range(41, 101))


@pytest.mark.parametrize("setting", ["mysql://host/db", "nonsense", "postgresql://host", "sqlite://"])
def test_a_setting_that_is_none_says_what_is(setting: str, tmp_path: Path) -> None:
    with pytest.raises(BadJournal, match=r"scheduler.journal: give null .* postgresql://USER@HOST/DATABASE"):
        journal_url(setting, tmp_path)
