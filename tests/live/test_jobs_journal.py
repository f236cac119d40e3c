"""The journal in trouble, under a running scheduler: a full disk, a database that goes away, a kill on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.client import AsyncClient, JobState, Overloaded, Retry, Unavailable
from fairlead.rpc import free_port
from tests.live.scheduler_suite import running_process, running_suite, running_worker, until, worker_config
from tests.live.test_jobs import ALICE, PATIENT, check_answers, ended, lines, results_of
from tests.requirements import lacking
from tests.unit.journals import PostgresServer, postgres

pytestmark = pytest.mark.live
__all__ = ["postgres"]
DISK_KB = 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 1 MB large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        lacking("small-disk", "a small file system can't be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_loses_nothing_and_passes_by_itself(small_disk: Path, tmp_path: Path) -> None:
    journal = f"sqlite:///{small_disk}/journal.db"
    async with running_suite(tmp_path / "state", journal=journal, jobs={"min_free_mb": 0}) as suite:
        client = suite.client("bob")
        job = await client.jobs.submit(lines(200, max_tokens=30))
        async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
            if seen.ended_lines >= 10:
                break
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        with pytest.raises(Overloaded) as full:
            await client.jobs.submit(lines(500, max_tokens=3))
        assert (full.value.reason, full.value.retry_after_ms) == ("JOURNAL_FULL", 10_000)
        await until(lambda: not suite.scheduler.shell.book.live, "what may run to have run")
        stuck = await client.jobs.get(job.job_id)
        assert stuck.ended_lines < 200
        assert (await suite.client("alice").complete("others are served", max_tokens=3)).outcome.complete
        filler.unlink()
        check_answers(await results_of(client, job.job_id), 200)
        assert (await ended(client, job.job_id)).state is JobState.COMPLETED
        small = await client.jobs.submit(lines(3, max_tokens=3))  # and new ones are taken
        check_answers(await results_of(client, small.job_id), 3)


async def test_too_little_room_refuses_new_jobs_alone(small_disk: Path, tmp_path: Path) -> None:
    journal = f"sqlite:///{small_disk}/journal.db"
    async with running_suite(tmp_path / "state", journal=journal, jobs={"min_free_mb": 10}) as suite:
        with pytest.raises(Overloaded, match="min_free_mb"):
            await suite.client("bob").jobs.submit(lines(1))


async def test_a_job_on_postgresql_over_a_kill_of_the_scheduler(postgres: PostgresServer, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with running_worker(worker_config()) as worker:
        section = {
            "listen": listen, "workers": [worker.address], "predictor": None, "state_dir": str(tmp_path / "s"),
            "journal": await postgres.make_database(),
        }  # fmt: skip
        sections = {"scheduler": section, "tenants": ALICE}
        async with AsyncClient(listen, "alice-key", retry=PATIENT) as client:
            async with running_process(tmp_path, "scheduler_svc", **sections) as first:
                job = await client.jobs.submit(lines(300, max_tokens=30))
                async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
                    if seen.ended_lines >= 60:
                        break
                await first.end(signal.SIGKILL)
            async with running_process(tmp_path, "scheduler_svc", **sections):
                check_answers(await results_of(client, job.job_id), 300)


async def test_a_database_that_goes_away_costs_no_line(postgres: PostgresServer, tmp_path: Path) -> None:
    """All of its sessions are ended under the scheduler, the one that owns the journal too."""
    url = await postgres.make_database()
    async with running_suite(tmp_path, journal=url) as suite:
        client = AsyncClient(suite.scheduler.address, "bob-key", retry=PATIENT)
        async with client:
            job = await client.jobs.submit(lines(200, max_tokens=30))
            async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
                if seen.ended_lines >= 20:
                    break
            await postgres.end_sessions(url)
            check_answers(await results_of(client, job.job_id), 200)
            assert (await ended(client, job.job_id)).state is JobState.COMPLETED


async def test_without_its_database_the_scheduler_serves_requests_and_refuses_jobs(tmp_path: Path) -> None:
    absent = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    async with running_suite(tmp_path, journal=absent) as suite:
        assert (await suite.client("alice").complete("served", max_tokens=3)).outcome.complete
        async with AsyncClient(suite.scheduler.address, "bob-key", retry=Retry(attempts=1)) as client:
            with pytest.raises(Unavailable) as refused:
                await client.jobs.submit(lines(1))
        assert refused.value.reason == "JOURNAL_UNAVAILABLE"
        assert refused.value.retry_after_ms


async def test_a_damaged_journal_stops_the_start_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.db").write_bytes(b"no database" * 1000)
    section = {"listen": "127.0.0.1:0", "predictor": None, "state_dir": str(tmp_path / "state")}
    log = tmp_path / "log"
    async with running_process(tmp_path, "scheduler_svc", log_file=log, scheduler=section, tenants=ALICE) as scheduler:
        async with asyncio.timeout(20):
            assert await scheduler.process.wait() == 2
    told = log.read_text()
    assert "scheduler.journal:" in told
    assert "journal.db is damaged" in told
    assert "restore a backup" in told
