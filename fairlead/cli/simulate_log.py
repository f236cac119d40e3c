"""What `fairlead simulate --from-log` does: recorded traffic under other policies, or the check of a recording (I9)."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from fairlead.cli.problems import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, fail, wide_console
from fairlead.cli.simulate_run import print_tables
from scheduler_svc.core.policies import PolicyError
from simulator.decision_log import LogError, open_recording
from simulator.figures import Row
from simulator.from_log import as_recorded, recorded_choice, replay
from simulator.policies import split_choices
from simulator.recorded import read_traffic
from simulator.verify import verify


def run_verify(path: Path, json_file: Path | None) -> None:
    """Replays a recording under its own policy; exit code 1 at the first decision that differs."""
    console = wide_console()
    try:
        recording = open_recording(path)
        with _progress() as bar:
            task = bar.add_task("lines", total=None)
            found = verify(recording, lambda done: bar.update(task, completed=done, description=f"{done} lines"))
    except LogError as error:
        fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)
    for note in recording.notes:
        console.print(f"note: {note}", style="dim")
    if json_file is not None:
        json_file.write_text(json.dumps({**asdict(found), "notes": recording.notes}, indent=1) + "\n")
    if found.difference is not None:
        fail(f"the decisions differ: {found.difference}", EXIT_FAILED)
    console.print(
        f"the same: {found.events} events and {found.ticks} ticks lead to the recorded {found.decisions} decisions"
    )


def run_from_log(path: Path, policies: str, *, token_budget: int, seed: int, json_file: Path | None) -> None:
    """Simulates recorded traffic under each policy, and shows beside it how it went live."""
    console = wide_console()
    try:
        recording = open_recording(path)
        with _progress() as bar:
            reading = bar.add_task("reading", total=None)
            traffic = read_traffic(recording, lambda done: bar.update(reading, description=f"reading, {done} lines"))
            bar.update(reading, total=1.0, completed=1.0)
            choices = [recorded_choice(text, traffic) for text in split_choices(policies)]
            rows: list[Row] = as_recorded(traffic, token_budget)
            for choice in choices:
                task = bar.add_task(choice.text, total=1.0)
                rows += replay(
                    traffic, choice, token_budget, seed, lambda share, task=task: bar.update(task, completed=share)
                )
                bar.update(task, completed=1.0)
    except (LogError, PolicyError, RuntimeError) as error:
        fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        fail("interrupted; nothing was written", EXIT_INTERRUPTED)
    for note in traffic.notes:
        console.print(f"note: {note}", style="dim")
    for worker in traffic.workers:
        up = worker.up
        console.print(
            f"worker {up.worker.rpartition('/')[0]}: {up.step_seats} seats, {up.slots} slots, "
            f"{up.kv_blocks * up.kv_block_tokens} KV tokens, step {up.cost.c0_ms:.4g} ms + "
            f"{up.cost.c1_ms_per_prefill_token:.4g}/prefill token + {up.cost.c2_ms_per_decode:.4g}/decode + "
            f"{up.cost.c3_ms_per_context_token:.4g}/context token; token budget {token_budget} (--token-budget)"
        )
    print_tables(console, rows, goodput=False)
    console.print("Load 1.00 is the recorded traffic. Outer 5 % of arrivals left out at each end.", style="dim")
    if json_file is not None:
        json_file.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
        console.print(f"rows: {json_file}")


@contextmanager
def _progress() -> Generator[Progress]:
    console = wide_console()
    console.stderr = True
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress
