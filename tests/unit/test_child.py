"""Child processes: the ready line, the words at a death, and ends that leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.cli.child import Child
from fairlead.cli.problems import SuiteError

GOOD = """
    import signal, sys, time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("loading", file=sys.stderr, flush=True)
    print("good ready at 127.0.0.1:4321 model=x", flush=True)
    while True:
        time.sleep(0.05)
"""
STUBBORN = GOOD.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
DYING = "import sys; print('no room for the model', file=sys.stderr); sys.exit(3)"
SILENT = "import time\nwhile True:\n    time.sleep(0.05)"


@contextlib.asynccontextmanager
async def child(folder: Path, source: str) -> AsyncIterator[Child]:
    (folder / "service_under_test.py").write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    started = Child("service", "service_under_test", folder / "none.yaml", environment, folder / "service.log")
    await started.start()
    try:
        yield started
    finally:
        started.kill()
        await started.wait()


async def test_ready_line_gives_the_address_and_logs_are_kept(tmp_path: Path) -> None:
    async with child(tmp_path, GOOD) as service:
        assert await service.wait_ready(30) == "127.0.0.1:4321"
        assert await service.end(30)
        assert not service.running
    assert "loading" in (tmp_path / "service.log").read_text()


async def test_death_before_ready_is_told_with_its_last_lines(tmp_path: Path) -> None:
    async with child(tmp_path, DYING) as service:
        with pytest.raises(SuiteError, match="service ended with code 3") as caught:
            await service.wait_ready(30)
    assert "no room for the model" in str(caught.value)


async def test_service_that_is_never_ready_is_named(tmp_path: Path) -> None:
    async with child(tmp_path, SILENT) as service:
        with pytest.raises(SuiteError, match="service was not ready within"):
            await service.wait_ready(0.2)


async def test_service_that_does_not_drain_is_stopped_after_the_bound(tmp_path: Path) -> None:
    async with child(tmp_path, STUBBORN) as service:
        await service.wait_ready(30)
        assert not await service.end(0.2)
        assert not service.running
        assert "SIGKILL" in service.obituary()


async def test_overlong_lines_do_not_stop_the_log(tmp_path: Path) -> None:
    source = GOOD.replace('print("loading"', 'print("x" * 5_000_000, file=sys.stderr)\n    print("loading"')
    async with child(tmp_path, source) as service:
        await service.wait_ready(30)
        await service.end(30)
    assert "loading" in (tmp_path / "service.log").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death reaches its children on Linux alone")
def test_parent_killed_outright_leaves_no_child(tmp_path: Path) -> None:
    (tmp_path / "service_under_test.py").write_text(textwrap.dedent(GOOD))
    parent_source = """
        import os, subprocess, sys, time
        launch = ["-m", "fairlead.cli.launch", str(os.getpid()), "service_under_test", "--config", "none"]
        child = subprocess.Popen([sys.executable, *launch], start_new_session=True, stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(600)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(parent_source)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(400):
        if not alive(pid):
            break
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
