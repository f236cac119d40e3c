"""The three ways to an engine, each with an engine of its own and a client process; all on the same CPUs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.overhead.cpu import engine_core_of
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.client import Admin
from fairlead.config import Config, WorkerConfig
from fairlead.rpc import free_port

SEATS = 64
KV_BLOCKS = 1024
START_S = 240.0
IDLE_S = 30.0
END_WITHIN_S = 15.0
_LINE_BYTES = 256 * 1024 * 1024


class StackFailed(Exception):
    """A server or client process that did not start or has ended; the message says which."""


@dataclass
class Driver:
    """A client process (`drive.py`)."""

    process: asyncio.subprocess.Process

    async def ask(self, **command: Any) -> Any:
        """One command and its answer. Raises StackFailed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()
        while line := await self.process.stdout.readline():
            if line.startswith((b"[", b"{")):
                with contextlib.suppress(ValueError):  # a library that prints to standard output
                    return json.loads(line)
        raise StackFailed("a client process has ended; its own error stands above")


@dataclass
class Stack:
    """One way, started.

    Attributes:
        roles: what each process is for, to its pid.
        admin: sets the policy, of the suite alone.
    """

    name: str
    driver: Driver
    roles: dict[str, int] = field(default_factory=dict[str, int])
    admin: Admin | None = None

    async def use(self, policy: str | None) -> None:
        """Waits until nothing runs and takes the policy."""
        if self.admin is not None and policy is not None:
            if not await asyncio.to_thread(self.admin.wait_idle, IDLE_S):
                raise StackFailed(f"the suite was not idle within {IDLE_S:.0f} s")
            await asyncio.to_thread(self.admin.set_policy, policy)


@dataclass(frozen=True)
class Place:
    """Where everything runs: the engines' CPU and where the model and the logs lie."""

    model: str
    engine_cpus: tuple[int, ...]
    logs: Path

    @property
    def engine_arguments(self) -> dict[str, Any]:
        """vLLM's arguments, for AsyncLLM and, as options, for its HTTP server; `worker_config` says the same."""
        worker = WorkerConfig()
        return {
            "model": self.model,
            "served_model_name": "model",
            "enforce_eager": True,
            "max_num_seqs": SEATS,
            "max_num_batched_tokens": worker.step_token_budget,
            "block_size": worker.kv_block_tokens,
            "num_gpu_blocks_override": KV_BLOCKS + 1,
            "seed": worker.seed,
            # As the suite's worker has it. vLLM's own choice on a CPU ("mp"; it turns "uni" into it) adds a process
            # between EngineCore and model, and a busy wait between the two at each step.
            "distributed_executor_backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
            "disable_log_stats": True,
        }

    def suite_config(self) -> Config:
        """The suite with the same engine and its default predictor."""
        config = change(
            Config(), "worker", model=self.model, served_model="model", slots=SEATS, step_seats=SEATS,
            kv_blocks=KV_BLOCKS, max_held=4 * SEATS, engine_cpus=self.engine_cpus or None,
        )  # fmt: skip
        return with_demo_tenants(change(config, "log", level="warning"))


@contextlib.asynccontextmanager
async def driver_for(way: dict[str, Any]) -> AsyncGenerator[Driver]:
    """A client process on its way to an engine; ready."""
    process = await asyncio.create_subprocess_exec(
        *_ends_with_us("bench.overhead.drive"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
    )  # fmt: skip
    driver = Driver(process)
    try:
        async with asyncio.timeout(START_S):
            await driver.ask(**way)
        yield driver
    finally:
        if process.stdin is not None:
            process.stdin.close()  # it ends by itself, its engine before it
        await _end(process, graceful=True)


@contextlib.asynccontextmanager
async def direct(place: Place) -> AsyncGenerator[Stack]:
    """(a) AsyncLLM and the client in one process."""
    async with driver_for({"kind": "direct", **place.engine_arguments}) as driver:
        pid = driver.process.pid
        core = engine_core_of(pid)
        _pin(core, place.engine_cpus)
        yield Stack("direct", driver, {"engine": core, "front end + client": pid})


@contextlib.asynccontextmanager
async def http(place: Place) -> AsyncGenerator[Stack]:
    """(b) vLLM's OpenAI server and a client."""
    port = free_port()
    options: list[str] = []
    for name, value in place.engine_arguments.items():
        options += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    with (place.logs / "http.log").open("wb") as log:
        server = await asyncio.create_subprocess_exec(
            *_ends_with_us("vllm.entrypoints.openai.api_server"), "--host", "127.0.0.1", "--port", str(port),
            "--disable-uvicorn-access-log", *options, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            await _answers(server, port, place.logs / "http.log")
            core = engine_core_of(server.pid)
            _pin(core, place.engine_cpus)
            async with driver_for({"kind": "http", "address": f"127.0.0.1:{port}", "model": "model"}) as driver:
                yield Stack("http", driver, {"engine": core, "HTTP server": server.pid, "client": driver.process.pid})
        finally:
            await _end(server)


@contextlib.asynccontextmanager
async def suite(place: Place, service_class: str) -> AsyncGenerator[Stack]:
    """(c) predictor, scheduler, worker and a client."""
    async with AsyncExitStack() as stack:
        made = Suite(place.suite_config(), SuiteOptions(free_ports=True, logs=place.logs, start_s=START_S))
        await stack.enter_async_context(made)
        key = made.keys["interactive"]
        way = {"kind": "suite", "address": made.address, "key": key, "service_class": service_class}
        driver = await stack.enter_async_context(driver_for(way))
        admin = Admin(made.address, made.keys["operator"])
        stack.callback(admin.close)
        assert made.scheduler is not None
        assert made.predictor is not None
        worker = made.workers[0].pid
        roles = {
            "engine": engine_core_of(worker),
            "worker": worker,
            "scheduler": made.scheduler.pid,
            "predictor": made.predictor.pid,
            "client": driver.process.pid,
        }
        yield Stack("suite", driver, roles, admin)


def _ends_with_us(module: str) -> tuple[str, ...]:
    """`python -m module` as a child that ends with this process, however that ends."""
    return sys.executable, "-m", "fairlead.cli.launch", str(os.getpid()), module


def _pin(pid: int, cpus: tuple[int, ...]) -> None:
    """The engine's main thread alone, as the suite's worker does it."""
    if cpus:
        os.sched_setaffinity(pid, cpus)


async def _answers(server: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Waits until the HTTP server is healthy."""
    async with asyncio.timeout(START_S):
        while server.returncode is None:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /health HTTP/1.0\r\n\r\n")
                answer = await reader.readline()
                writer.close()
                if b" 200 " in answer:
                    return
            await asyncio.sleep(0.2)
    raise StackFailed(f"vLLM's HTTP server has ended; see {log}")


async def _end(process: asyncio.subprocess.Process, *, graceful: bool = False) -> None:
    """Waits for its end, asks for it unless `graceful`, and enforces it."""
    if process.returncode is None and not graceful:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(END_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
