"""A real scheduler with real workers (simulated engine) and a real predictor, in this process, for the live tests."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from fairlead.cli.session import suite_tls
from fairlead.client import Admin, AsyncClient, Completion, Retry, Tls
from fairlead.config import (
    ClassDefaults,
    Config,
    PredictorConfig,
    SchedulerConfig,
    SecurityConfig,
    Tenant,
    WorkerConfig,
)
from fairlead.rpc import make_channel
from fairlead.v1 import admin_pb2, inference_pb2_grpc
from predictor_svc.predictors.base import open_predictor
from predictor_svc.service import PredictorHost
from scheduler_svc.host import SchedulerHost
from scheduler_svc.worker_link import Patience
from worker_svc.engines import simulated_text
from worker_svc.host import WorkerHost, make_engine

WITHIN_S = 20.0
QUICK = Patience(grace_s=0.3, answer_s=5.0, silence_s=10.0, clear_out_s=2.0)
TENANTS = (
    Tenant(name="alice", key=SecretStr("alice-key"), default_class="ls"),
    Tenant(name="bob", key=SecretStr("bob-key"), default_class="be", classes=("be",)),
    Tenant(name="op", key=SecretStr("op-key"), default_class="ls", operator=True),
)


def worker_config(listen: str = "127.0.0.1:0", **values: Any) -> WorkerConfig:
    """A simulated worker: 1 ms a step, answers of about 30 tokens."""
    return WorkerConfig.model_validate(
        {
            "listen": listen, "engine": "simulated", "simulated_step_ms": (1.0, 0.0, 0.0, 0.0), "slots": 16,
            "step_seats": 8, "simulated_answer_tokens": 30, "max_context_tokens": 4096, **values,
        }
    )  # fmt: skip


@dataclass
class Suite:
    """What a test talks to."""

    scheduler: SchedulerHost
    workers: list[WorkerHost]
    predictor: PredictorHost | None
    clients: dict[str, AsyncClient] = field(default_factory=dict)
    tls: Tls | None = None

    def client(self, tenant: str = "alice") -> AsyncClient:
        """A client that tries nothing again, so that every refusal is seen."""
        if tenant not in self.clients:
            self.clients[tenant] = AsyncClient(
                self.scheduler.address, f"{tenant}-key", retry=Retry(attempts=1), tls=self.tls
            )
        return self.clients[tenant]

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[inference_pb2_grpc.InferenceServiceAsyncStub]:
        """The bare stub, for what a well-behaved client would not do."""
        async with make_channel(self.scheduler.address, self.tls) as channel:
            yield inference_pb2_grpc.InferenceServiceStub(channel)

    async def status(self) -> admin_pb2.GetStatusResponse:
        return await self.admin(Admin.status)

    async def admin(self, call: Callable[..., Any], *args: Any, key: str = "op-key", **kwargs: Any) -> Any:
        """Calls the blocking admin client beside the event loop."""
        client = Admin(self.scheduler.address, key, tls=self.tls)
        try:
            return await asyncio.to_thread(call, client, *args, **kwargs)
        finally:
            await asyncio.to_thread(client.close)

    async def connected(self, workers: int) -> None:
        """Waits until the scheduler counts on so many workers."""
        await until(lambda: len(self.scheduler.shell.workers) == workers, f"{workers} workers connected")

    async def all_free(self) -> None:
        """Waits until no worker holds a request or a KV block."""
        for worker in self.workers:
            core: Any = worker._engine._core  # type: ignore[attr-defined]
            await until(lambda core=core: not core.sequences, "the engine to let go")
            assert core.free_blocks == core.limits.kv_blocks
            held: Any = worker.service._ledger  # type: ignore[attr-defined]
            await until(lambda held=held: not len(held), "the worker to forget")


async def until(true: Callable[[], bool], what: str) -> None:
    """Waits until something is so; fails where it never is."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


@asynccontextmanager
async def running_worker(config: WorkerConfig, security: SecurityConfig | None = None) -> AsyncIterator[WorkerHost]:
    worker = WorkerHost(config, make_engine(config), security=security)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def running_predictor(name: str, security: SecurityConfig | None = None) -> AsyncIterator[PredictorHost]:
    config = PredictorConfig(listen="127.0.0.1:0", predictor=name)
    predictor = PredictorHost(config, open_predictor(config), security=security)
    await predictor.start()
    try:
        yield predictor
    finally:
        await predictor.drain(1.0)


@asynccontextmanager
async def running_suite(
    state_dir: Path,
    *,
    workers: int | list[WorkerConfig] = 1,
    predictor: str | None = "history",
    predictor_address: str | None = None,
    addresses: list[str] | None = None,
    defaults: ClassDefaults | None = None,
    patience: Patience = QUICK,
    security: SecurityConfig | None = None,
    tenants: tuple[Tenant, ...] = TENANTS,
    **scheduler: Any,
) -> AsyncIterator[Suite]:
    """Everything started and connected; ended in order whatever the test does.

    `addresses`: more workers, whether or not they are there; `predictor_address`: one that is not ours.
    """
    async with AsyncExitStack() as stack:
        configs = workers if isinstance(workers, list) else [worker_config() for _ in range(workers)]
        hosts = [await stack.enter_async_context(running_worker(config, security)) for config in configs]
        there = await stack.enter_async_context(running_predictor(predictor, security)) if predictor else None
        section = SchedulerConfig.model_validate(
            {
                "listen": "127.0.0.1:0",
                "state_dir": state_dir,
                "workers": (*(host.address for host in hosts), *(addresses or [])),
                "predictor": there.address if there else predictor_address,
                **scheduler,
            }
        )
        config = Config(
            scheduler=section,
            defaults=defaults or ClassDefaults(),
            tenants=tenants,
            security=security or SecurityConfig(),
        )
        host = SchedulerHost(config, patience=patience)
        await host.start()
        suite = Suite(host, hosts, there, tls=suite_tls(config))
        try:
            await until(lambda: len(host.shell.workers) >= len(hosts), "the workers")
            if there is not None:
                await until(lambda: bool(host.predictor and host.predictor.connected), "the predictor")
            yield suite
            host.shell.core.ledger.check()
            assert not host.shell.died.done()
        finally:
            for client in suite.clients.values():
                await client.close()
            await host.stop()


def expected(prompt: str, tokens: int, seed: int = 0) -> str:
    """How the simulated engine's answer to a prompt begins."""
    key = simulated_text.answer_key(simulated_text.tokenize(prompt), seed)
    return simulated_text.detokenize([simulated_text.answer_token(key, index) for index in range(tokens)])


def check_whole(prompt: str, completion: Completion) -> None:
    """Every token of it is what the engine gives, none missing, none twice."""
    assert completion.text == expected(prompt, completion.usage.output_tokens)


@dataclass
class Process:
    """A service in a process of its own."""

    process: asyncio.subprocess.Process
    ready: str
    address: str

    async def end(self, number: int = signal.SIGTERM) -> int:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        async with asyncio.timeout(WITHIN_S):
            return await self.process.wait()


@asynccontextmanager
async def running_process(
    folder: Path, module: str, *options: str, log_file: Path | None = None, **sections: Any
) -> AsyncIterator[Process]:
    """`python -m module` with a configuration file made of `sections`, until it says that it is ready."""
    path = folder / f"{module}-{uuid.uuid4().hex}.yaml"
    path.write_text(yaml.safe_dump(sections))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD_")}
    with ExitStack() as stack:
        errors = stack.enter_context(log_file.open("w")) if log_file else None
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, "--config", str(path), *options,
            stdout=asyncio.subprocess.PIPE, stderr=errors, env=environment,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            ready = (await process.stdout.readline()).decode().strip()
        yield Process(process, ready, ready.split()[3] if ready else "")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def worker_section(**values: Any) -> dict[str, Any]:
    """`worker` of a configuration file, as `worker_config`."""
    return worker_config(**values).model_dump(mode="json", exclude_none=True)
