"""All services on this machine as child processes: started, watched, and drained in order."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from fairlead.cli.child import Child
from fairlead.cli.cores import kept_off, plan_cpus, yield_cpu
from fairlead.cli.problems import SuiteError
from fairlead.cli.session import known_keys, reachable, suite_tls
from fairlead.client import AsyncClient, FairleadError, ModelInfo, Retry, Tls
from fairlead.config import Config, Tenant

SECTIONS = (
    "SCHEDULER__",
    "PREDICTOR__",
    "WORKER__",
    "DEFAULTS__",
    "TENANTS",
    "SECURITY__",
    "LOG__",
    "TELEMETRY__",
    "CONFIG",
)
POLL_S = 0.2


@dataclass(frozen=True)
class SuiteOptions:
    """How a suite is run.

    Attributes:
        workers: worker processes; the first listens where the configuration says, the others on free ports.
        free_ports: every service takes a free port instead of its configured one.
        logs: folder for one log file a service; None: prefixed lines on standard error.
        start_s: longest wait for a service to be ready (a large model loads for minutes).
        drain_s: longest that the scheduler may finish what it accepted when the suite ends.
    """

    workers: int = 1
    free_ports: bool = False
    logs: Path | None = None
    start_s: float = 300.0
    drain_s: float = 30.0


def with_demo_tenants(config: Config) -> Config:
    """The configuration with tenants `interactive`, `batch` and `operator` under random keys."""

    def key() -> SecretStr:
        return SecretStr(secrets.token_urlsafe(18))

    tenants = (
        Tenant(name="interactive", key=key(), default_class="ls"),
        Tenant(name="batch", key=key(), default_class="be"),
        Tenant(name="operator", key=key(), default_class="ls", operator=True),
    )
    return config.model_copy(update={"tenants": tenants})


def change(config: Config, section: str, **values: object) -> Config:
    """The configuration with fields of one section replaced, checked as if read from a file."""
    data = plain(config)
    data[section] = {**data[section], **{name: value for name, value in values.items() if value is not None}}
    return Config.model_validate(data)


def plain(config: Config) -> dict[str, Any]:
    """The configuration as plain data that `load_config` reads back, secrets included."""
    data: dict[str, Any] = _revealed(config.model_dump(exclude_none=True))
    if config.scheduler.predictor is None:  # here null is not the default
        data["scheduler"]["predictor"] = None
    return data


def _revealed(value: Any) -> Any:
    """As YAML has it; what is kept from being printed elsewhere is written out here, into a file of mode 0600."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case dict():
            return {name: _revealed(each) for name, each in value.items()}
        case list() | tuple():
            return [_revealed(each) for each in value]
        case Path():
            return str(value)
        case datetime():
            return value.isoformat()
        case _:
            return value


class Suite:
    """Predictor, workers and scheduler as children of this process.

    Attributes:
        address: host:port at which the scheduler is reached, once started.
        keys: tenant to API key, where the key is known.
        tls: how the scheduler is reached; None: in plain text.
    """

    def __init__(self, config: Config, options: SuiteOptions | None = None, *, tls: Tls | None = None) -> None:
        self.config = config
        self.options = options or SuiteOptions()
        self.address = ""
        self.keys = known_keys(config)
        self.tls = tls or suite_tls(config)
        self.scheduler: Child | None = None
        self.predictor: Child | None = None
        self.workers: list[Child] = []
        self._run_dir = Path(tempfile.mkdtemp(prefix="fairlead-"))
        self._engine_cpus = plan_cpus(config.worker.engine, self.options.workers)
        self._exit = ExitStack()

    async def __aenter__(self) -> Suite:
        try:
            await self.start()
        except BaseException:
            self.kill()
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def children(self) -> list[Child]:
        """Every child, in the order in which they are drained."""
        return [child for child in (self.scheduler, *self.workers, self.predictor) if child is not None]

    async def start(self) -> list[ModelInfo]:
        """Starts everything and waits until the scheduler serves a model; returns the models.

        Raises:
            SuiteError: a port is taken, or a service ended or was not ready in time.
        """
        self._check_ports()
        self._exit.enter_context(kept_off(self._engine_cpus))
        if self.options.logs:
            self.options.logs.mkdir(parents=True, exist_ok=True)
        config = self._for_workers_and_predictor()
        starting: list[Child] = []
        if config.scheduler.predictor is not None:
            self.predictor = await self._spawn("predictor", "predictor_svc", config)
            starting.append(self.predictor)
        for index in range(self.options.workers):
            name = f"worker-{index}"
            listen = config.worker.listen if index == 0 else _any_port(config.worker.listen)
            told = config.worker.worker_id
            worker_id = name if told is None else told if self.options.workers == 1 else f"{told}-{index}"
            cpus = config.worker.engine_cpus or (self._engine_cpus[index] if self._engine_cpus else None)
            own = change(config, "worker", listen=listen, worker_id=worker_id, engine_cpus=cpus)
            self.workers.append(await self._spawn(name, "worker_svc", _with_page(own, index)))
        starting += self.workers
        await self._all_ready(starting)
        if self.predictor is not None and self._engine_cpus:
            yield_cpu(self.predictor.pid)
        config = change(
            config,
            "scheduler",
            workers=[reachable(worker.address) for worker in self.workers],
            predictor=reachable(self.predictor.address) if self.predictor else None,
            state_dir=str(config.scheduler.state_dir or self._run_dir),
        )
        self.scheduler = await self._spawn("scheduler", "scheduler_svc", config)
        await self._all_ready([self.scheduler])
        self.address = reachable(self.scheduler.address)
        return await self._wait_models()

    async def first_death(self) -> Child:
        """Waits until a child ends that is not known to have ended before, and returns it."""
        living = {asyncio.create_task(child.wait()): child for child in self.children if child.running}
        try:
            done, _ = await asyncio.wait(living, return_when=asyncio.FIRST_COMPLETED)
            return living[done.pop()]
        finally:
            for task in living:
                task.cancel()

    @property
    def serves(self) -> bool:
        """Whether the scheduler and at least one worker live."""
        return self.scheduler is not None and self.scheduler.running and any(each.running for each in self.workers)

    async def stop(self) -> bool:
        """Drains the scheduler first, then workers and predictor; whether all ended by themselves in time."""
        drained = True
        if self.scheduler is not None:
            drained = await self.scheduler.end(self.options.drain_s)
        rest = [child for child in self.children if child is not self.scheduler]
        drained &= all(await asyncio.gather(*(child.end(self.options.drain_s) for child in rest)))
        shutil.rmtree(self._run_dir, ignore_errors=True)
        self._exit.close()
        return drained

    def kill(self) -> None:
        """Ends every child at once."""
        for child in self.children:
            child.kill()

    def _for_workers_and_predictor(self) -> Config:
        config = self.config
        if not self.options.free_ports:
            return config
        for section in ("scheduler", "predictor", "worker"):
            config = change(config, section, listen=_any_port(getattr(config, section).listen))
        return config

    def _check_ports(self) -> None:
        if self.options.free_ports:
            return
        for section in ("scheduler", "predictor", "worker"):
            listen: str = getattr(self.config, section).listen
            if section == "predictor" and self.config.scheduler.predictor is None:
                continue
            host, _, port = listen.rpartition(":")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, int(port)))
                except (OSError, ValueError) as error:
                    raise SuiteError(
                        f"{section}.listen: cannot listen on {listen} ({error}); stop what holds the port, set another "
                        "in the configuration, or give --free-ports"
                    ) from None

    async def _spawn(self, name: str, module: str, config: Config) -> Child:
        path = self._run_dir / f"{name}.yaml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            yaml.safe_dump(plain(config), file)
        log = self.options.logs / f"{name}.log" if self.options.logs else None
        child = Child(name, module, path, child_environment(os.environ), log)
        await child.start()
        return child

    async def _all_ready(self, children: list[Child]) -> None:
        waits = [asyncio.create_task(child.wait_ready(self.options.start_s)) for child in children]
        try:
            await asyncio.gather(*waits)
        finally:
            for wait in waits:
                wait.cancel()

    async def _wait_models(self) -> list[ModelInfo]:
        """Waits until the scheduler has connected to every worker."""
        key = next(iter(self.keys.values()), None)
        async with AsyncClient(self.address, key, retry=Retry(attempts=1), tls=self.tls) as client:
            end_s = asyncio.get_running_loop().time() + self.options.start_s
            problem = "no worker is connected yet"
            while asyncio.get_running_loop().time() < end_s:
                try:
                    models = await client.list_models()
                    if sum(model.workers for model in models) >= self.options.workers:
                        return models
                except FairleadError as error:
                    problem = error.message
                dead = next((child for child in self.children if not child.running), None)
                if dead is not None:
                    raise SuiteError(dead.obituary())
                await asyncio.sleep(POLL_S)
        raise SuiteError(f"the scheduler did not reach its workers within {self.options.start_s:.0f} s: {problem}")


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without our settings, which the child's own file already holds and which would win over it."""
    prefixes = tuple(f"FAIRLEAD_{section}" for section in SECTIONS)
    return {name: value for name, value in environment.items() if not name.upper().startswith(prefixes)}


def _with_page(config: Config, index: int) -> Config:
    """The configuration with the page for Prometheus `index` ports further, since workers share this host."""
    pages = config.telemetry.prometheus
    host, _, port = (pages.worker or "").rpartition(":")
    if not host or port == "0":
        return config
    own = pages.model_copy(update={"worker": f"{host}:{int(port) + index}"})
    return config.model_copy(update={"telemetry": config.telemetry.model_copy(update={"prometheus": own})})


def _any_port(listen: str) -> str:
    return f"{listen.rpartition(':')[0]}:0"
