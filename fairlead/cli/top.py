"""`fairlead top`: who runs, waits, was paused or evicted, live.

Drawn with rich.live: rich is there already, so that the light command line stays light (textual would add a framework
for a few keys), and `--once` prints the very same tables.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from fairlead.cli.admin import operator
from fairlead.cli.options import Address, Asked, ConfigFile, Key, TenantName
from fairlead.cli.problems import EXIT_USAGE, explain, fail, wide_console
from fairlead.cli.top_data import Frame, Sample, frame_of
from fairlead.cli.top_view import SORTS, Shown, view
from fairlead.client import Admin, FairleadError, ServiceClass

REFRESH_S = 1.0
KEY_EVERY_S = 0.05
PAGE = 500
ONCE_OVER_S = 0.5
"""`--once` asks twice, so far apart, to reckon rates."""
STATES = ("waiting", "placed", "running", "paused", "evicted")
_HEAD_LINES = 16


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave, for scripts.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write one frame here as JSON and leave; - is standard output.")
    ] = None,
    sort: Annotated[str, typer.Option(help=f"Requests by one of: {', '.join(SORTS)}.")] = "age",
    state: Annotated[str, typer.Option(help=f"Only requests in this state: {', '.join(STATES)}.")] = "",
    of: Annotated[str, typer.Option("--of", help="Only requests of this tenant.")] = "",
    service_class: Annotated[ServiceClass | None, typer.Option("--class", help="Only this class.")] = None,
    worker: Annotated[str, typer.Option(help="Only requests on this worker.")] = "",
    refresh_s: Annotated[float, typer.Option(min=0.2, max=60, help="Time between frames.")] = REFRESH_S,
    tenant: TenantName = None,
    key: Key = None,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Show who runs, waits, was paused or evicted, by worker and tenant, live: for operators.

    Keys: q leaves, s sorts, f, t, c and w filter by state, tenant, class and worker, r shows all again, space holds.
    "in SLO" is since the scheduler's start, "in SLO now" since the last frame; a ? marks a length that no prediction
    stands behind. `fairlead why REQUEST` tells more of one. Without a terminal it prints one frame, as --once does.
    """
    if sort not in SORTS:
        fail(f"--sort: {sort!r} is none of {', '.join(SORTS)}", EXIT_USAGE)
    if state and state not in STATES:
        fail(f"--state: {state!r} is none of {', '.join(STATES)}", EXIT_USAGE)
    shown = Shown(sort, state, of, service_class or "", worker)
    with operator(Asked(tenant=tenant, key=key, address=address, config=config)) as admin:
        if json_file is not None:
            _write_json(_one_frame(admin, shown), json_file)
        elif once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            wide_console().print(view(_one_frame(admin, shown), shown, rows=None))
        else:
            with contextlib.suppress(KeyboardInterrupt):
                _watch(admin, shown, refresh_s)


def take(admin: Admin, shown: Shown) -> Sample:
    """What the scheduler says now. Raises FairleadError."""
    page = admin.requests(
        tenant=shown.tenant,
        service_class=ServiceClass(shown.service_class) if shown.service_class else None,
        worker_id=shown.worker,
        state=f"REQUEST_STATE_{(shown.state or 'unspecified').upper()}",
        page_size=PAGE,
    )
    return Sample(time.monotonic(), admin.status(), page)


def _one_frame(admin: Admin, shown: Shown) -> Frame:
    before = take(admin, shown)
    time.sleep(ONCE_OVER_S)
    return frame_of(take(admin, shown), before)


def _write_json(frame: Frame, path: Path) -> None:
    text = json.dumps(frame.to_json(), indent=1)
    if str(path) == "-":
        print(text)
    else:
        path.write_text(text + "\n")


def _watch(admin: Admin, shown: Shown, refresh_s: float) -> None:
    """Frames until `q`; a scheduler that does not answer is waited for."""
    console = wide_console()
    before: Sample | None = None
    newest = take(admin, shown)
    frame = frame_of(newest, None)
    problem = ""
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            rows = console.height - _HEAD_LINES - len(frame.workers) - len(frame.classes)
            live.update(view(frame, shown, rows=rows, problem=problem, keys=True), refresh=True)
            keys = pressed(refresh_s)
            if "q" in keys:
                return
            for each in keys:
                turn(shown, each, frame)
            if shown.held:
                continue
            try:
                before, newest = newest, take(admin, shown)
                frame, problem = frame_of(newest, before), ""
            except FairleadError as error:
                problem = explain(error, admin.address, admin.tls)


def turn(shown: Shown, key: str, frame: Frame) -> None:
    """What a key does to what is shown."""
    match key:
        case "s":
            shown.sort = _next(tuple(SORTS), shown.sort)
        case "f":
            shown.state = _next(("", *STATES), shown.state)
        case "t":
            shown.tenant = _next(("", *dict.fromkeys(row.tenant for row in frame.classes)), shown.tenant)
        case "c":
            shown.service_class = _next(("", "ls", "be"), shown.service_class)
        case "w":
            shown.worker = _next(("", *(row.worker for row in frame.workers)), shown.worker)
        case "r":
            shown.state = shown.tenant = shown.service_class = shown.worker = ""
        case " ":
            shown.held = not shown.held
        case _:
            pass


def _next(values: Sequence[str], present: str) -> str:
    return values[(values.index(present) + 1) % len(values)] if present in values else values[0]


class _Pressed:
    """Waits for keys of a terminal that gives each one at once."""

    def __call__(self, within_s: float) -> str:
        """Those pressed; at the first one it goes on at once."""
        end_s = time.monotonic() + within_s
        while (left_s := end_s - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], min(left_s, KEY_EVERY_S))[0]:
                return os.read(sys.stdin.fileno(), 32).decode(errors="ignore")
        return ""


@contextmanager
def _keys() -> Generator[_Pressed]:
    """The terminal without echo and line editing; as it was afterwards."""
    import termios  # noqa: PLC0415 - not on every system, and only a terminal needs it
    import tty  # noqa: PLC0415

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield _Pressed()
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
