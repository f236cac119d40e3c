"""EngineCore's process: it outlives signals meant for its parent's drain, and never its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("vllm")

from tests.live.tiny_model import write_tiny_llama

pytestmark = [pytest.mark.live, pytest.mark.vllm]

# A worker in small: answers without end, and takes no notice of signals, as one that drains.
PARENT = """
import asyncio, signal, sys, time
from fairlead.config import WorkerConfig
from worker_svc.engines.base import EngineRequest, Sampling
from worker_svc.engines.vllm_engine import VllmEngine

async def answer(engine, handle):
    sampling = Sampling(max_tokens=900, temperature=0.0, ignore_eos=True)
    await engine.admit(EngineRequest(handle, [5, 6], 0, sampling, False, time.monotonic() * 1e3, 1e3, 50.0, 0, ""))

async def main():
    loop, signals = asyncio.get_running_loop(), []
    def heard(number):
        signals.append(number.name)
        print("signal", number.name, flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heard, number)
    engine = VllmEngine(WorkerConfig(model=sys.argv[1]))
    await engine.start()
    print("engine", int((await engine.inspect())["pid"]), flush=True)
    done = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, done.set)
    handle = 1
    await answer(engine, handle)
    async for batch in engine.batches():
        print("step", batch.step_count, flush=True)
        if done.is_set():
            break
        if batch.ends:
            handle += 1
            await answer(engine, handle)
    await engine.stop()
    await asyncio.sleep(0.2)
    print("stopped", *signals, flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "parent.py"
    script.write_text(PARENT, encoding="utf-8")
    model = write_tiny_llama(tmp_path / "tiny")
    process = subprocess.Popen(
        [sys.executable, str(script), str(model)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(f"the parent ended without saying {word!r}")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie whose new parent has not waited yet runs no more.
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2] != "Z"


def test_signals_to_the_group_leave_the_engine_running_until_its_parent_stops_it(parent: subprocess.Popen[str]) -> None:
    engine_pid = int(read_until(parent, "engine").split()[1])
    read_until(parent, "step")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(parent.pid, number)
        assert number.name in read_until(parent, "signal")
    step = int(read_until(parent, "step").split()[1])
    while int(read_until(parent, "step").split()[1]) < step + 200:
        pass
    assert alive(engine_pid)
    os.kill(parent.pid, signal.SIGUSR1)
    # Each once: the child shares the file descriptor by which its parent's event loop hears of signals.
    assert read_until(parent, "stopped").split()[1:] == ["SIGINT", "SIGTERM"]
    assert parent.wait(60) == 0
    assert not alive(engine_pid)


def test_the_engine_does_not_outlive_a_killed_parent(parent: subprocess.Popen[str]) -> None:
    engine_pid = int(read_until(parent, "engine").split()[1])
    os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20.0
    while alive(engine_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(engine_pid), "EngineCore has outlived its parent"
