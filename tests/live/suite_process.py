"""`fairlead up` and its fellow commands as real processes, for tests."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairlead.cli.session import Session

START_S = 120.0
END_S = 60.0


@dataclass
class Up:
    """A running `fairlead up`."""

    process: subprocess.Popen[str]
    session: Session
    ready_line: str
    state: Path
    logs: Path
    errors: list[str]

    @property
    def address(self) -> str:
        return self.session.address

    def cli(self, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs another command against it."""
        return subprocess.run(
            command(*arguments), env=self.environment(key), capture_output=True, text=True, timeout=END_S, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts another command against it."""
        pipe = subprocess.PIPE
        return subprocess.Popen(command(*arguments), env=self.environment(), stdout=pipe, stderr=pipe, text=True)

    def environment(self, key: str | None = None) -> dict[str, str]:
        return environment(self.state) | ({"FAIRLEAD_KEY": key} if key else {})

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def processes(self, module: str = "") -> list[int]:
        """Every process of this suite (or those that run `module`), its parent left out."""
        mark = f"XDG_STATE_HOME={self.state}".encode()
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == self.process.pid:
                continue
            try:
                words = (folder / "cmdline").read_bytes()
                if mark in (folder / "environ").read_bytes().split(b"\0") and module.encode() in words and words:
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fairlead.cli.main", *arguments]


def environment(state: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    return {**kept, "XDG_STATE_HOME": str(state), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[Up]:
    """A suite with the simulated engine and the history predictor on free ports; killed at the end if it still runs."""
    state, logs = folder / "state", folder / "logs"
    process = subprocess.Popen(
        command(
            "up", "--engine", "simulated", "--predictor", "history", "--free-ports", "--logs", str(logs), *arguments
        ),
        env=environment(state),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    assert process.stderr is not None
    pumps = [
        threading.Thread(target=_pump, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_pump, args=(process.stderr, errors.append), daemon=True),
    ]
    for pump in pumps:
        pump.start()
    running: Up | None = None
    try:
        ready = lines.get(timeout=START_S)
        session = Session(**json.loads((state / "fairlead" / "suite.json").read_text()))
        running = Up(process, session, ready, state, logs, errors)
        yield running
    except queue.Empty:
        raise AssertionError(f"fairlead up was not ready within {START_S} s: {errors}") from None
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
        for pump in pumps:
            pump.join(END_S)


def _pump(source: Iterator[str], sink: Callable[[str], None]) -> None:
    for line in source:
        sink(line.rstrip("\n"))


def eventually(holds: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    """Waits until `holds()`; fails with `what` where it does not come true."""
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.05)
