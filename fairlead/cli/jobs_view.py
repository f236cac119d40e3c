"""What `fairlead jobs` shows and saves: progress, tables, and a download that can be taken up again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fairlead.cli.problems import fail
from fairlead.client import Client, Job, JobResult

SYNC_EVERY_LINES = 1000


def progress_bar() -> Progress:
    """On standard error, so that results can be piped."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)


def follow(client: Client, job_id: str) -> Job:
    """Shows progress until the job has ended; returns it. Raises FairleadError."""
    with closing(client.jobs.watch(job_id, interval_s=0.5)) as seen:
        return _with_bar(seen) if sys.stderr.isatty() else _in_lines(seen)


def _with_bar(seen: Iterable[Job]) -> Job:
    job: Job | None = None
    with progress_bar() as bar:
        task = bar.add_task("lines", total=None, note="")
        for job in seen:
            bar.update(task, total=job.lines, completed=job.ended_lines, note=_note(job))
    assert job is not None, "a watch ends with the job's end"
    return job


def _in_lines(seen: Iterable[Job]) -> Job:
    """For logs: a line a tenth of the job, and for each new state."""
    job: Job | None = None
    last: tuple[str, str, int] | None = None
    for job in seen:
        now = job.state.value, job.held_up_by, 10 * job.ended_lines // max(1, job.lines)
        if now != last:
            print(f"{job.ended_lines} of {job.lines} lines ended, {_note(job)}", file=sys.stderr, flush=True)
            last = now
    assert job is not None, "a watch ends with the job's end"
    return job


def _note(job: Job) -> str:
    parts = [job.state.lower(), f"{job.lines_in_flight} in flight"] if not job.state.ended else [job.state.lower()]
    if job.failed_lines:
        parts.append(f"{job.failed_lines} without an answer")
    if job.held_up_by:
        parts.append(job.held_up_by)
    return ", ".join(parts)


def job_table(job: Job) -> Table:
    """One job, for people."""
    table = Table(title=job.name or job.job_id, show_header=False)
    outcomes = ", ".join(f"{outcome.lower()} {number}" for outcome, number in job.outcomes.items())
    usage = job.usage
    rows = {
        "job": job.job_id,
        "state": str(job.state),
        "lines ended, of": f"{job.ended_lines}, {job.lines}",
        "in flight": str(job.lines_in_flight),
        "outcomes": outcomes or "-",
        "held up by": job.held_up_by,
        "runs beyond the first": str(job.retries),
        "tokens in (cached), out": f"{usage.prompt_tokens} ({usage.cached_prompt_tokens}), {usage.output_tokens}",
        "model": job.model,
        "idempotency key": job.idempotency_key or "",
        "submitted": _time(job.created_at),
        "completion target, s": "" if job.completion_target_s is None else f"{job.completion_target_s:g}",
        "ended": _time(job.ended_at),
        "expires": "" if job.ended_at else _time(job.expires_at),
        "kept until": _time(job.kept_until),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def jobs_table(jobs: Sequence[Job]) -> Table:
    """Many jobs, one a row."""
    table = Table("job", "name", "state", "ended", "lines", "without an answer", "submitted", "held up by")
    for job in jobs:
        table.add_row(
            job.job_id, job.name, str(job.state), str(job.ended_lines), str(job.lines), str(job.failed_lines),
            _time(job.created_at), job.held_up_by,
        )  # fmt: skip
    return table


def _time(when: datetime | None) -> str:
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def write_json(told: Job | Sequence[Job], file: Path) -> None:
    """Jobs as JSON; `-` is standard output."""
    found: Any = _plain(told) if isinstance(told, Job) else [_plain(job) for job in told]
    text = json.dumps(found, indent=1)
    if str(file) == "-":
        print(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"--json: cannot write {file} ({error.strerror})")


def _plain(job: Job) -> dict[str, Any]:
    plain = asdict(job)
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()}


class DownloadError(Exception):
    """Results can't be saved; the message says why and what helps."""


class Download:
    """Results of a job to a file or to standard output.

    A file is written beside its place, under a name that holds the job's id, and takes its place when it is whole: what
    is there under its own name is complete.

    Attributes:
        next_line: first line that is not written yet.
    """

    def __init__(self, client: Client, job_id: str, out: Path | None, from_line: int, *, overwrite: bool) -> None:
        self.next_line = from_line
        self._client = client
        self._job_id = job_id
        self._out = out
        if out is None:
            return
        if out.exists() and not overwrite:
            raise DownloadError(f"{out} exists; name another file, or replace it with --overwrite")
        self._part = out.with_name(f"{out.name}.{job_id}.part")

    def run(self) -> int:
        """Writes until the job has ended; returns how many lines have no whole answer. Raises DownloadError."""
        if self._out is None:
            return self._to(sys.stdout)
        failed = 0
        try:
            failed, keep_bytes = self._what_is_there()
            with self._part.open("r+b" if keep_bytes else "wb") as file:
                file.truncate(keep_bytes)
                file.seek(keep_bytes)
                failed += self._to_file(file)
            self._part.replace(self._out)
        except OSError as error:
            raise DownloadError(
                f"{self._part}: {error.strerror or error}; what is there is kept, and the same command goes on from it"
            ) from error
        return failed

    def _what_is_there(self) -> tuple[int, int]:
        """(lines without an answer, bytes of whole lines) of a download that broke off."""
        failed = size = 0
        if not self._part.exists():
            return 0, 0
        with self._part.open("rb") as file:
            for line in file:
                try:
                    told = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    told = None
                if told is None:
                    break
                failed += told["outcome"] not in ("STOP", "LENGTH")
                size += len(line)
                self.next_line = told["line"] + 1
        return failed, size

    def _to_file(self, file: IO[bytes]) -> int:
        job = self._client.jobs.get(self._job_id)
        failed = 0
        with progress_bar() as bar, closing(self._client.jobs.results(self._job_id, self.next_line)) as found:
            task = bar.add_task("results", total=job.lines, note="")
            bar.update(task, completed=_lines_before(self._part))
            for number, result in enumerate(found, 1):
                file.write(_json_line(result).encode())
                self.next_line = result.line + 1
                failed += not result.outcome.complete
                bar.advance(task)
                if number % SYNC_EVERY_LINES == 0:
                    file.flush()
            file.flush()
            os.fsync(file.fileno())
        return failed

    def _to(self, file: IO[str]) -> int:
        failed = 0
        with closing(self._client.jobs.results(self._job_id, self.next_line)) as found:
            for result in found:
                file.write(_json_line(result))
                file.flush()
                self.next_line = result.line + 1
                failed += not result.outcome.complete
        return failed


def _lines_before(part: Path) -> int:
    with part.open("rb") as file:
        return sum(1 for _ in file)


def _json_line(result: JobResult) -> str:
    return json.dumps(result.as_dict(), ensure_ascii=False) + "\n"
