"""One worker put together: the engine found by name, the server bound, the service started, all ended in order."""

from __future__ import annotations

import asyncio
import socket
from importlib.metadata import entry_points
from typing import Any

from fairlead.config import ConfigError, WorkerConfig
from fairlead.rpc import Server, make_server
from fairlead.v1 import worker_pb2_grpc
from worker_svc.engines.base import Engine, EngineFailed, EngineInfo
from worker_svc.engines.simulated import monotonic_ms
from worker_svc.service import SERVICE, WorkerService

ENGINES_GROUP = "fairlead.engines"
TAKE_ENDS_WITHIN_S = 2.0


def make_engine(config: WorkerConfig) -> Engine:
    """The engine that `worker.engine` names, not started.

    Raises:
        ConfigError: no such engine is installed.
        EngineFailed: what it needs is not installed.
    """
    known = {entry.name: entry for entry in entry_points(group=ENGINES_GROUP)}
    if config.engine not in known:
        names = ", ".join(sorted(known))
        raise ConfigError(f"worker.engine: {config.engine!r} is not installed; known engines: {names}")
    try:
        engine: Any = known[config.engine].load()
    except ImportError as error:
        raise EngineFailed(
            f"worker.engine: {config.engine!r} can't be imported ({error}); install it with "
            f"pip install 'fairlead[worker-cpu]' (or [worker] with a GPU), or choose --engine simulated"
        ) from error
    return engine(config)


class WorkerHost:
    """A worker from start to stop.

    Attributes:
        address: host:port really bound.
        info: of the engine; set by `start`.
        service: set by `start`.
    """

    info: EngineInfo
    service: WorkerService

    def __init__(self, config: WorkerConfig, engine: Engine) -> None:
        """Binds the address at once, so that a taken one is told before a model is loaded. Raises PortTaken."""
        self._config = config
        self._engine = engine
        self._server: Server = make_server(config.listen, [SERVICE], port_setting="worker.listen")
        self._watch: asyncio.Task[None] | None = None
        self.address = self._server.address

    async def start(self) -> None:
        """Loads the model and serves. Raises EngineFailed."""
        self.info = await self._engine.start()
        worker_id = self._config.worker_id or f"{socket.gethostname()}:{self.address.rpartition(':')[2]}"
        self.service = WorkerService(
            self._engine, self.info, self._config, worker_id, self._set_serving, now_ms=monotonic_ms
        )
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self.service, self._server.server)
        await self._server.start(SERVICE)
        self._watch = asyncio.create_task(self._report_death())

    async def drain(self, timeout_ms: float) -> tuple[int, int]:
        """Takes no more, waits at most so long, and lets the scheduler take the ends; (finished, abandoned)."""
        done = await self.service.drain(timeout_ms)
        await self.service.settle(TAKE_ENDS_WITHIN_S)
        return done

    async def died(self) -> str:
        """Returns a sentence once the engine has died and the scheduler has had time to be told."""
        sentence = await asyncio.shield(self.service.died)
        await self.service.settle(TAKE_ENDS_WITHIN_S)
        return sentence

    async def stop(self) -> None:
        """Ends streams, engine and server; what is still held is lost."""
        if self._watch is not None:
            self._watch.cancel()
            await self.service.close()
        await self._engine.stop()
        await self._server.stop(1.0)

    async def _report_death(self) -> None:
        await asyncio.shield(self.service.died)
        await self._set_serving(False)

    async def _set_serving(self, serving: bool) -> None:
        for service in ("", SERVICE):
            await self._server.set_serving(service, serving)
