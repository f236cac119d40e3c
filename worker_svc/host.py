"""One worker put together: the engine found by name, the server bound, the service started, all ended in order."""

from __future__ import annotations

import asyncio
import socket
from importlib.metadata import entry_points
from typing import Any

from fairlead.config import ConfigError, SecurityConfig, TelemetryConfig, WorkerConfig
from fairlead.rpc import Gate, PortTaken, Role, Server, check_listen, make_server, scheduler_only
from fairlead.telemetry.opening import Telemetry, open_telemetry
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
    """A worker from start to stop; the attributes are set by `start`.

    Attributes:
        address: host:port really bound.
        info: of the engine.
        service: what answers the calls.
    """

    address: str
    info: EngineInfo
    service: WorkerService

    def __init__(
        self,
        config: WorkerConfig,
        engine: Engine,
        telemetry: TelemetryConfig | None = None,
        security: SecurityConfig | None = None,
    ) -> None:
        """Before a model is loaded.

        Raises:
            PortTaken: the address can't be had.
            ConfigError: anyone could call there, or certificates can't be used.
        """
        _probe(config.listen)
        self._config = config
        self._security = security or SecurityConfig()
        self._gate = Gate({Role.SCHEDULER: scheduler_only(self._security, "worker", config.listen)})
        check_listen(config.listen, "worker.listen", "worker", self._security)
        self._engine = engine
        self._telemetry_config = telemetry or TelemetryConfig()
        self._telemetry = Telemetry()
        self._server: Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads the model and serves. Raises EngineFailed, PortTaken or ConfigError (of telemetry)."""
        self.info = await self._engine.start()
        # Bound and exporting only now: an engine may fork, and its child must not hold our socket or gRPC's threads.
        server = self._server = make_server(
            self._config.listen,
            [SERVICE],
            port_setting="worker.listen",
            service="worker",
            security=self._security,
            gate=self._gate,
        )
        self.address = server.address
        worker_id = self._config.worker_id or f"{socket.gethostname()}:{self.address.rpartition(':')[2]}"
        self._telemetry = open_telemetry(self._telemetry_config, "worker", monotonic_ms, instance=worker_id)
        server.observe(self._telemetry.meter)
        self.service = WorkerService(
            self._engine, self.info, self._config, worker_id, self._set_serving, monotonic_ms, self._telemetry
        )
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self.service, server.server)
        await server.start(SERVICE)
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
        if self._server is not None:
            await self._server.stop(1.0)
        await self._telemetry.close()

    async def _report_death(self) -> None:
        await asyncio.shield(self.service.died)
        await self._set_serving(False)

    async def _set_serving(self, serving: bool) -> None:
        assert self._server is not None
        for service in ("", SERVICE):
            await self._server.set_serving(service, serving)


def _probe(listen: str) -> None:
    """Raises PortTaken if the address can't be listened on now; the server still has the last word."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, ValueError, OverflowError) as error:
        raise PortTaken(
            f"worker.listen: cannot listen on {listen} ({error}); stop what holds it or set another address"
        ) from None
