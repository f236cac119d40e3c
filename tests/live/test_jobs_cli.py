"""`fairlead jobs` as somebody uses it: each command a process of its own against a running suite."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fairlead.client import JobState
from tests.live.scheduler_suite import Suite, expected, running_suite
from tests.live.test_jobs import lines

pytestmark = pytest.mark.live


@dataclass
class Cli:
    """The command line as tenant bob."""

    suite: Suite
    folder: Path

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        environment |= {"FAIRLEAD_ADDRESS": self.suite.scheduler.address, "FAIRLEAD_KEY": "bob-key"}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fairlead.cli.main", "jobs", *words, cwd=self.folder, env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def __call__(self, *words: str, given: bytes = b"") -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = await self.start(*words)
        async with asyncio.timeout(40):
            out, error = await process.communicate(given)
        assert process.returncode is not None
        return process.returncode, out.decode(), error.decode()

    def parts(self) -> list[Path]:
        """Downloads that are not whole."""
        return list(self.folder.glob("*.part"))

    def file(self, name: str, number: int, **values: object) -> str:
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines(number, **values)))
        return str(path)


async def test_submit_results_and_a_download_that_broke_off(tmp_path: Path) -> None:
    async with running_suite(tmp_path / "state") as suite:
        cli = Cli(suite, tmp_path)
        file = cli.file("prompts.jsonl", 60, max_tokens=8)
        code, out, error = await cli("submit", file, "--name", "first", "--idempotency-key", "k")
        assert code == 0, error
        found = re.fullmatch(r"(job-[0-9a-f]+) accepted: 60 lines\n", out)
        assert found, out
        job = found[1]
        assert f"fairlead jobs results {job} --out FILE" in error
        code, out, _ = await cli("submit", file, "--name", "first", "--idempotency-key", "k")
        assert out == f"{job} accepted (submitted before): 60 lines\n"

        code, _, error = await cli("results", job, "--out", "answers.jsonl")
        assert code == 0, error
        whole = (tmp_path / "answers.jsonl").read_bytes()
        told = [json.loads(line) for line in whole.splitlines()]
        assert [one["line"] for one in told] == list(range(1, 61))
        assert all(one["text"] == expected(f"prompt {one['line']}", one["usage"]["output_tokens"]) for one in told)
        assert not cli.parts()

        part = tmp_path / f"again.jsonl.{job}.part"
        part.write_bytes(whole[: len(whole) // 2])  # in the middle of a line
        code, _, error = await cli("results", job, "--out", "again.jsonl")
        assert code == 0, error
        assert (tmp_path / "again.jsonl").read_bytes() == whole
        code, _, error = await cli("results", job, "--out", "again.jsonl")
        assert code == 1
        assert "again.jsonl exists; name another file, or replace it with --overwrite" in error
        code, out, _ = await cli("results", job, "--from-line", "60")
        assert out.encode() == whole.splitlines(keepends=True)[-1]


async def test_bad_lines_are_shown_one_by_one(tmp_path: Path) -> None:
    async with running_suite(tmp_path / "state") as suite:
        cli = Cli(suite, tmp_path)
        code, _, error = await cli("submit", "-", given=b'{"prompt": "x", "top_p": 2}\n{"prompt": 1}\n')
        assert code == 1
        assert "line 1: top_p: must be above 0, at most 1" in error
        assert "line 2: prompt" in error
        assert "nothing was accepted" in error
        code, _, error = await cli("submit", "nowhere.jsonl")
        assert code == 1
        assert "nowhere.jsonl: No such file or directory" in error


async def test_ctrl_c_leaves_and_the_job_goes_on(tmp_path: Path) -> None:
    async with running_suite(tmp_path / "state") as suite:
        cli = Cli(suite, tmp_path)
        job = await suite.client("bob").jobs.submit(lines(2000, max_tokens=200, ignore_eos=True))
        watching = await cli.start("watch", job.job_id)
        assert watching.stderr is not None
        told = ""
        async with asyncio.timeout(90):
            while "running" not in told:
                told += (await watching.stderr.read(100)).decode()
            watching.send_signal(signal.SIGINT)
            told += (await watching.stderr.read()).decode()
            assert await watching.wait() == 130
        assert f"the job goes on; see it with: fairlead jobs watch {job.job_id}" in told
        assert (await suite.client("bob").jobs.get(job.job_id)).state is JobState.RUNNING
        code, out, _ = await cli("cancel", job.job_id)
        assert code == 0
        assert re.search(rf"{job.job_id} cancell(ing|ed), \d+ of 2000 lines had ended", out)
        code, out, _ = await cli("watch", job.job_id)
        assert code == 1  # not every line has an answer
        assert "cancelled_by_client" in out


async def test_status_and_list_for_programs(tmp_path: Path) -> None:
    async with running_suite(tmp_path / "state") as suite:
        cli = Cli(suite, tmp_path)
        assert (await cli("list"))[1] == "no jobs; submit one: fairlead jobs submit FILE\n"
        code, out, error = await cli("submit", cli.file("a.jsonl", 3, max_tokens=2), "--json", "-", "--watch")
        assert code == 0, error
        job = json.loads(out[: out.index("\n}") + 2])
        assert job["lines"] == 3
        assert "3 of 3 lines ended, completed" in error
        _, out, _ = await cli("status", job["job_id"], "--json", "-")
        told = json.loads(out)
        assert (told["state"], told["outcomes"]) == ("COMPLETED", {"LENGTH": 3})
        _, out, _ = await cli("list", "--json", "jobs.json")
        assert [one["job_id"] for one in json.loads((tmp_path / "jobs.json").read_text())] == [job["job_id"]]
        code, out, _ = await cli("delete", job["job_id"])
        assert out == f"{job['job_id']} deleted\n"
        code, _, error = await cli("status", job["job_id"])
        assert code == 1
        assert "has no job" in error
