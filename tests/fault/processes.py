"""Real service processes for fuzzing, live chaos and the soak: started, watched, killed, and read from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

READY_WITHIN_S = 180.0
GRPC_LATE = "ExecuteBatchError"
"""grpcio logs this with a traceback of its own where a caller gave up just before its answer was written."""
MODULES = {"scheduler": "scheduler_svc", "worker": "worker_svc", "predictor": "predictor_svc"}
TENANTS = [
    {"name": "op", "key": "fuzz-key", "operator": True, "default_class": "ls"},
    {"name": "works", "key": "works-key", "default_class": "ls"},
]


@dataclass
class Service:
    """One service process.

    Attributes:
        module: that it runs.
        config: path of its configuration.
        log: what it said, over all its starts.
        address: where it listens, once it has said so.
        starts: so many times it was started.
    """

    module: str
    config: Path
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    address: str = ""
    starts: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the present process."""
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Starts it and waits until it says that it is ready."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
        with self.log.open("a") as errors:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.module, "--config", str(self.config),
                stdout=asyncio.subprocess.PIPE, stderr=errors, env={**kept, **self.environment},
            )  # fmt: skip
        self.starts += 1
        assert self.process.stdout is not None
        async with asyncio.timeout(READY_WITHIN_S):
            ready = (await self.process.stdout.readline()).decode()
        if not ready:
            raise RuntimeError(f"{self.module} did not start: {self.last_words()}")
        self.address = ready.split()[3]

    def lives(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.returncode is None

    def send(self, number: int) -> None:
        """A signal, if it runs."""
        if self.lives():
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL, within_s: float = 60.0) -> int:
        """A signal, and waits for the end."""
        self.send(number)
        assert self.process is not None
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    def last_words(self) -> str:
        """The end of what it said."""
        return self.log.read_text()[-1500:] if self.log.exists() else ""

    def tracebacks(self) -> str:
        """The first traceback of ours that it logged, if any."""
        text = self.log.read_text() if self.log.exists() else ""
        _, *found = text.split("Traceback (most recent call last)")
        ours = [each for each in found if GRPC_LATE not in each]
        return ours[0][:3000] if ours else ""


def write_config(folder: Path, name: str, **sections: Any) -> Path:
    """A configuration file."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@asynccontextmanager
async def running(one: Service) -> AsyncIterator[Service]:
    """Started; killed at the end if it still runs."""
    await one.start()
    try:
        yield one
    finally:
        if one.lives():
            await one.end()


@asynccontextmanager
async def service(name: str, folder: Path) -> AsyncIterator[Service]:
    """The service by this name with what it needs to work."""
    folder = folder / name
    folder.mkdir(exist_ok=True)
    worker = {
        "listen": "127.0.0.1:0", "engine": "simulated", "simulated_step_ms": [0.2, 0.0, 0.0, 0.0], "slots": 16,
        "step_seats": 8, "max_context_tokens": 512, "max_held": 64,
    }  # fmt: skip
    async with contextlib.AsyncExitStack() as stack:

        async def start(which: str, **sections: Any) -> Service:
            config = write_config(folder, which, **sections)
            return await stack.enter_async_context(running(Service(MODULES[which], config, folder / f"{which}.log")))

        if name == "predictor":
            yield await start("predictor", predictor={"listen": "127.0.0.1:0", "predictor": "history"})
            return
        engine = await start("worker", worker=worker)
        if name == "worker":
            yield engine
            return
        section = {
            "listen": "127.0.0.1:0", "workers": [engine.address], "predictor": None, "state_dir": str(folder / "state"),
            "finished_kept": 500,
        }  # fmt: skip
        yield await start("scheduler", scheduler=section, tenants=TENANTS)


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def open_files(pid: int) -> int:
    """File descriptors that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(pid: int) -> list[int]:
    """Processes that it started and that still run."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def now_s() -> float:
    """Monotonic seconds."""
    return time.monotonic()
