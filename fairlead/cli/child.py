"""One service as a child process: started, watched for its ready line, its logs forwarded, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from fairlead.cli.problems import SuiteError

KEPT_LINES = 20
MAX_LINE_BYTES = 1 << 20
KILL_WAIT_S = 5.0
_SENTENCE = ("fairlead-predictor: ", "fairlead-scheduler: ", "fairlead-worker: ")
_READY = re.compile(r"^\S+ ready at (\S+:\d+)")


class Child:
    """A running service.

    Attributes:
        name: "scheduler", "predictor", "worker-0" and so on.
        address: host:port it said it listens on; "" before it is ready.
    """

    def __init__(self, name: str, module: str, config: Path, environment: Mapping[str, str], log: Path | None) -> None:
        self.name = name
        self.address = ""
        self._module, self._config, self._environment, self._log = module, config, environment, log
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._pumps: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the process in a session of its own, so that Ctrl-C reaches only the parent, which drains in order."""
        command = ("-m", "fairlead.cli.launch", str(os.getpid()), self._module, "--config", str(self._config))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
            env=dict(self._environment),
            start_new_session=True,
        )
        sink = self._log.open("a", buffering=1) if self._log else sys.stderr
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._pumps = [
            asyncio.create_task(self._pump(self._process.stdout, sink)),
            asyncio.create_task(self._pump(self._process.stderr, sink)),
        ]

    async def wait_ready(self, timeout_s: float) -> str:
        """Waits for the ready line; returns host:port.

        Raises:
            SuiteError: it ended first, or took too long.
        """
        ready, ended = asyncio.create_task(self._ready.wait()), asyncio.create_task(self.wait())
        try:
            await asyncio.wait((ready, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            ended.cancel()
        if self._ready.is_set():
            return self.address
        if self.running:
            raise SuiteError(
                f"{self.name} was not ready within {timeout_s:.0f} s; its last lines:\n{self.last_lines()}"
            )
        raise SuiteError(self.obituary())

    @property
    def pid(self) -> int:
        """Of the started process."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> None:
        """Waits for the end of the process and of its output."""
        if self._process is not None:
            await self._process.wait()
            await asyncio.wait(self._pumps, timeout=KILL_WAIT_S)

    def obituary(self) -> str:
        """How it ended, and why: its own last sentence, else its last log lines."""
        code = self._process.returncode if self._process else None
        how = (
            f"was ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
        )
        last = self._last[-1] if self._last else ""
        if last.startswith(_SENTENCE):  # the service has said why, in one sentence with its remedy
            return f"{self.name} {how}: {last.partition(': ')[2]}"
        return f"{self.name} {how}; its last lines:\n{self.last_lines()}"

    def last_lines(self) -> str:
        """What it wrote last, indented."""
        return "\n".join(f"    {line}" for line in self._last) or "    (none)"

    async def end(self, drain_s: float) -> bool:
        """SIGTERM, then SIGKILL to all it started after `drain_s`; whether it drained in time."""
        if self._process is None:
            return True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), drain_s)
            drained = True
        except TimeoutError:
            drained = False
        self.kill()
        await self.wait()
        return drained

    def kill(self) -> None:
        """Ends the process and whatever it left in its session, at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _pump(self, source: asyncio.StreamReader, sink: TextIO) -> None:
        while True:
            try:
                raw = await source.readline()
            except ValueError:  # a line beyond the bound: asyncio has dropped it
                continue
            if not raw:
                break
            line = raw.decode(errors="replace").rstrip("\n")
            self._last.append(line)
            sink.write(f"{line}\n" if self._log else f"[{self.name}] {line}\n")
            found = _READY.match(line)
            if found and not self.address:
                self.address = found.group(1)
                self._ready.set()
