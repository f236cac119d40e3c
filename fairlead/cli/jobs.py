"""`fairlead jobs`: files of requests that run by themselves, with progress, and results when they are there."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from fairlead.cli.jobs_view import Download, DownloadError, follow, job_table, jobs_table, write_json
from fairlead.cli.options import Asked, access_of, asking, key_of
from fairlead.cli.problems import EXIT_FAILED, EXIT_INTERRUPTED, explain, fail, wide_console
from fairlead.client import Client, FairleadError, InvalidRequest, Job, JobOptions, Retry

MAX_SHOWN = 20
PATIENT = Retry(attempts=6, max_delay_s=10.0, reattach_attempts=20)
"""A scheduler that restarts is waited for: its jobs go on meanwhile."""

jobs_app = typer.Typer(
    no_args_is_help=True,
    help="Durable jobs: a file of requests, on disk before it is acknowledged, that runs without its client.\n\n"
    'A line is JSON: {"custom_id": "a", "prompt": "Say hello.", "max_tokens": 20}, or has `messages`, or is a line '
    "of an OpenAI batch file. Examples: fairlead jobs submit prompts.jsonl --watch; "
    "fairlead jobs results JOB --out answers.jsonl",
)  # fmt: skip

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, as `submit` printed it.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write it there as JSON; `-`: standard output.")
]


@jobs_app.command()
@asking
def submit(
    asked: Asked,
    file: Annotated[Path, typer.Argument(help="JSON lines; `-` reads standard input.")],
    name: Annotated[str, typer.Option(help="For people: what `list` shows.")] = "",
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting twice under one key makes one job. Else each call makes its own.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Of lines that name none.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of lines that state none.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of lines that state none; 0 is greedy.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of lines that state none.")] = None,
    completion_target_s: Annotated[
        float | None, typer.Option(min=1, help="When the last line should have ended, from now, s; a target.")
    ] = None,
    lifetime_s: Annotated[
        float | None, typer.Option(min=1, help="The job ends EXPIRED after this, s, finished or not.")
    ] = None,
    return_token_ids: Annotated[bool, typer.Option("--return-token-ids", help="Beside the text.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Then show progress until it has ended.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Submit a file of requests; it is on the scheduler's disk when this returns.

    Nothing is accepted where a line is bad: the first bad lines are named by number. Examples: fairlead jobs submit
    prompts.jsonl; fairlead jobs submit prompts.jsonl --name nightly --idempotency-key 2026-11-30 --max-tokens 200
    """
    options = JobOptions(
        name=name, idempotency_key=idempotency_key, model=model, max_tokens=max_tokens, temperature=temperature,
        seed=seed, completion_target_s=completion_target_s, lifetime_s=lifetime_s, return_token_ids=return_token_ids,
    )  # fmt: skip
    with _client(asked) as client:
        job = _submitted(client, file, options)
        if json_file is not None:
            write_json(job, json_file)
        else:
            _say(job)
        if watch:
            _watch(client, job.job_id)


@jobs_app.command()
@asking
def status(
    asked: Asked,
    job_id: JobId,
    json_file: JsonFile = None,
) -> None:
    """Print a job as it is now: progress, outcomes, tokens, and what holds it up. Example: fairlead jobs status JOB"""
    with _client(asked) as client:
        job = client.jobs.get(job_id)
    if json_file is not None:
        write_json(job, json_file)
    else:
        wide_console().print(job_table(job))


@jobs_app.command()
@asking
def watch(
    asked: Asked,
    job_id: JobId,
) -> None:
    """Show a job's progress until it has ended; Ctrl-C leaves, the job goes on.

    The exit code is 0 where every line has a whole answer, else 1. Example: fairlead jobs watch JOB
    """
    with _client(asked) as client:
        _watch(client, job_id)


@jobs_app.command()
@asking
def results(
    asked: Asked,
    job_id: JobId,
    out: Annotated[
        Path | None,
        typer.Option(help="Write them here, one JSON object a line; a download that broke off goes on where it was."),
    ] = None,
    from_line: Annotated[int, typer.Option(min=1, help="First line wanted; without --out.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
) -> None:
    """Print or save results in line order, each once; waits for lines that have not ended.

    Ctrl-C leaves, the job goes on; the same command with --out takes the download up again. Examples: fairlead jobs
    results JOB --out answers.jsonl; fairlead jobs results JOB --from-line 500
    """
    with _client(asked) as client:
        failed = _downloaded(client, job_id, out, from_line, overwrite)
        raise typer.Exit(EXIT_FAILED if failed else 0)


@jobs_app.command()
@asking
def cancel(
    asked: Asked,
    job_id: JobId,
    json_file: JsonFile = None,
) -> None:
    """End a job: lines that run are cancelled, the others never begin, results that are there stay.

    Example: fairlead jobs cancel JOB
    """
    with _client(asked) as client:
        job = client.jobs.cancel(job_id)
    if json_file is not None:
        write_json(job, json_file)
    else:
        print(f"{job.job_id} {job.state.lower()}, {job.ended_lines} of {job.lines} lines had ended")


@jobs_app.command("list")
@asking
def list_jobs(
    asked: Asked,
    live: Annotated[bool, typer.Option("--live", help="Only jobs that have not ended.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Show at most so many, the newest.")] = MAX_SHOWN,
    json_file: JsonFile = None,
) -> None:
    """Print the tenant's jobs, newest first. Examples: fairlead jobs list; fairlead jobs list --live --most 100"""
    with _client(asked) as client:
        found = [job for job, _ in zip(client.jobs.list(live_only=live), range(most), strict=False)]
    if json_file is not None:
        write_json(found, json_file)
    elif not found:
        print("no jobs; submit one: fairlead jobs submit FILE")
    else:
        wide_console().print(jobs_table(found))


@jobs_app.command()
@asking
def delete(
    asked: Asked,
    job_id: JobId,
) -> None:
    """Forget an ended job and its results before their time is over. Example: fairlead jobs delete JOB"""
    with _client(asked) as client:
        client.jobs.delete(job_id)
    print(f"{job_id} deleted")


@contextlib.contextmanager
def _client(asked: Asked) -> Generator[Client]:
    """A client; what fails ends the command with a sentence."""
    access = access_of(asked.address, asked.key, asked.config)
    try:
        with Client(access.address, key_of(access, asked.tenant), retry=PATIENT, tls=access.tls) as client:
            yield client
    except FairleadError as error:
        fail(explain(error, access.address, access.tls))
    except KeyboardInterrupt:
        _left("interrupted")


def _submitted(client: Client, file: Path, options: JobOptions) -> Job:
    try:
        source = typer.get_binary_stream("stdin").read() if str(file) == "-" else file
        return client.jobs.submit(source, **options)
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    except InvalidRequest as error:
        _fail_lines(error)


def _downloaded(client: Client, job_id: str, out: Path | None, from_line: int, overwrite: bool) -> int:
    """Lines without a whole answer."""
    download: Download | None = None
    try:
        download = Download(client, job_id, out, from_line, overwrite=overwrite)
        return download.run()
    except DownloadError as error:
        fail(str(error))
    except KeyboardInterrupt:
        again = f" --out {out}" if out else f" --from-line {download.next_line if download else from_line}"
        _left(f"the job goes on; go on with: fairlead jobs results {job_id}{again}")


def _followed(client: Client, job_id: str) -> Job:
    try:
        return follow(client, job_id)
    except KeyboardInterrupt:
        _left(f"the job goes on; see it with: fairlead jobs watch {job_id}")


def _watch(client: Client, job_id: str) -> None:
    job = _followed(client, job_id)
    wide_console().print(job_table(job))
    raise typer.Exit(EXIT_FAILED if job.failed_lines else 0)


def _say(job: Job) -> None:
    known = " (submitted before)" if job.existed else ""
    print(f"{job.job_id} accepted{known}: {job.lines} lines")
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"progress: fairlead jobs watch {job.job_id}    results: fairlead jobs results {job.job_id} --out FILE"
    )


def _fail_lines(error: InvalidRequest) -> NoReturn:
    """Each bad line on a line of its own."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    named = {name: what for name, what in error.fields.items() if name.startswith("line ")}
    for name, what in named.items():
        console.print(escape(f"{name}: {what}"))
    fail("nothing was accepted: these lines are bad" if named else error.message)


def _left(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True, highlight=False).print(escape(message))
    raise typer.Exit(EXIT_INTERRUPTED)
