"""`fairlead-worker` as a process: the ready line, signals, exit codes and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from fairlead.rpc import make_channel
from fairlead.v1 import types_pb2, worker_pb2, worker_pb2_grpc
from tests.live.worker_stream import Stream, length

pytestmark = pytest.mark.live
WITHIN_S = 20.0


@asynccontextmanager
async def worker(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "worker_svc",
        "--engine",
        "simulated",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ready_address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        line = (await process.stdout.readline()).decode()
    found = re.fullmatch(r"worker ready at (\S+) model=demo engine=simulated\n", line)
    assert found, line
    return found.group(1)


async def outcome(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(WITHIN_S):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


async def test_sigterm_drains_and_a_second_signal_stops_at_once() -> None:
    async with worker("--listen", "127.0.0.1:0") as process:
        async with make_channel(await ready_address(process)) as channel:
            stream = Stream(worker_pb2_grpc.WorkerServiceStub(channel))
            await stream.lead()
            await stream.admit(1, [5, 4, 3], sampling=length(20))
            await stream.admit(2, [5, 4, 2], sampling=length(5000))
            await stream.until(lambda: stream.answer(2).tokens)
            process.send_signal(signal.SIGTERM)
            await stream.until_ended(1)
            assert stream.answer(1).end.outcome == types_pb2.OUTCOME_LENGTH
            process.send_signal(signal.SIGTERM)
            code, logs = await outcome(process)
        assert code == 128 + signal.SIGTERM
        assert "draining" in logs
        assert "5, 4" not in logs


async def test_ctrl_c_with_nothing_to_do_ends_at_once_and_well() -> None:
    async with worker("--listen", "127.0.0.1:0") as process:
        await ready_address(process)
        process.send_signal(signal.SIGINT)
        assert (await outcome(process))[0] == 0


async def test_a_prompt_of_many_megabytes_is_refused_and_nobody_else_disturbed() -> None:
    async with worker("--listen", "127.0.0.1:0") as process, make_channel(await ready_address(process)) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            await stub.Tokenize(worker_pb2.TokenizeRequest(model="demo", text="word " * 2_000_000))
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        answer = await stub.Tokenize(worker_pb2.TokenizeRequest(model="demo", text="one two"))
        assert len(answer.token_ids) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--engine", "warp"), r"worker.engine: 'warp' is not installed; known engines: .*simulated"),
        (("--config", "nowhere.yaml"), r"nowhere.yaml does not exist"),
        (("--listen", "256.0.0.1:1"), r"worker.listen: cannot listen on 256.0.0.1:1"),
    ],
)
async def test_what_cannot_start_says_why(options: tuple[str, ...], says: str) -> None:
    async with worker(*options) as process:
        code, errors = await outcome(process)
    assert code == 2
    assert re.search(says, errors), errors


async def test_a_taken_port_is_told() -> None:
    async with worker("--listen", "127.0.0.1:0") as first:
        address = await ready_address(first)
        async with worker("--listen", address) as second:
            code, errors = await outcome(second)
    assert code == 2
    assert f"worker.listen: cannot listen on {address}" in errors
