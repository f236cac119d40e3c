"""The real scheduler, workers and predictor as processes of a virtual world: killed, frozen, restarted."""

from __future__ import annotations

import asyncio
import functools
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from pydantic import SecretStr

from fairlead.config import ClassDefaults, Config, ConfigError, PredictorConfig, SchedulerConfig, Tenant, WorkerConfig
from fairlead.rpc import make_server
from fairlead.v1 import predictor_pb2_grpc
from predictor_svc.predictors.base import open_predictor
from predictor_svc.service import PredictorHost
from scheduler_svc import host as scheduler_host
from scheduler_svc.host import SchedulerHost
from scheduler_svc.jobs.office import Office
from scheduler_svc.rounds import Rounds
from scheduler_svc.worker_link import Patience
from tests.fault.bad_predictor import BadPredictor
from tests.fault.memory_grpc import installed
from tests.fault.network import Network
from tests.fault.virtual_time import Node, VirtualLoop
from worker_svc import host as worker_host
from worker_svc.engines.simulated import SimulatedEngine
from worker_svc.host import WorkerHost

SCHEDULER, SECOND, PREDICTOR = "scheduler", "second", "predictor"
TENANTS = (
    Tenant(name="alice", key=SecretStr("alice-key"), default_class="ls"),
    Tenant(name="bob", key=SecretStr("bob-key"), default_class="be"),
    Tenant(name="op", key=SecretStr("op-key"), default_class="ls", operator=True),
)
PATIENCE = Patience(grace_s=2.0, answer_s=5.0, silence_s=6.0, clear_out_s=2.0)


class Process:
    """A service that runs, or ran.

    Attributes:
        name: its host name; it keeps it over restarts.
        node: the present process.
        host: of the service, once it serves.
        failed: why it could not start.
        files: that the kernel closes when the process ends, however it ends.
        stopping: it was told to drain.
    """

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.node = Node(name)
        self.host: Any = None
        self.failed = ""
        self.stopping = False
        self.starts = 0
        self.files: list[Any] = []
        self._loop = loop
        self.node.alive = False

    @property
    def alive(self) -> bool:
        """Whether the process runs, frozen or not."""
        return self.node.alive

    def start(self, work: Callable[[], Any]) -> None:
        """Runs `work()` in a new process of this name."""
        self.node = Node(self.name)
        self.host, self.failed, self.stopping = None, "", False
        self.starts += 1
        self._loop.spawn(self.node, self._run(work))

    def close_files(self) -> None:
        """What the kernel does when a process ends."""
        for file in self.files:
            file.close()
        self.files.clear()

    async def _run(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except ConfigError as error:
            self.failed = str(error)
            self._loop.kill(self.node)


class Cluster:
    """One scheduler (and perhaps a second one by mistake), workers and a predictor.

    Args:
        loop: the world's.
        seed: of sizes, delays and names.
        folder: for state.
        workers: how many at first.
        policy: of the scheduler.
        mood: of the predictor; see `BadPredictor`.
        watch: called with each scheduler that has started.
        scheduler: settings of it that differ.

    Attributes:
        broken: handlers that raised what is no refusal.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        folder: Path,
        *,
        workers: int,
        policy: str,
        mood: str,
        watch: Callable[[SchedulerHost], None],
        scheduler: dict[str, Any],
    ) -> None:
        self.loop = loop
        self.rng = random.Random(f"cluster {seed}")
        self.network = Network(loop, seed)
        self.broken: list[str] = []
        self.processes: dict[str, Process] = {}
        self.mood = mood
        self.epoch_disk_full = False
        self._seed = seed
        self._folder = folder
        self._policy = policy
        self._watch = watch
        self._scheduler = scheduler
        self._names = [f"w{index}" for index in range(workers)]
        self._sizes = {name: self._size() for name in self._names}
        for name in (SCHEDULER, SECOND, PREDICTOR, *self._names):
            self.processes[name] = Process(name, loop)

    @property
    def workers(self) -> list[Process]:
        """All workers, whether or not they run."""
        return [self.processes[name] for name in self._names]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """What the services take from the outside comes from the virtual world meanwhile."""
        names = random.Random(f"names {self._seed}")
        with ExitStack() as stack:
            stack.enter_context(installed(self.network, self._note_broken))
            for target, name, value in (
                (secrets, "token_hex", lambda count=32: names.randbytes(count).hex()),
                (worker_host, "monotonic_ms", self.loop.now_ms),
                (worker_host, "_probe", lambda _listen: None),
                # CPU time passes a hundred times as fast, so that rounds of deltas are followed by rests.
                (Rounds.__init__, "__defaults__", (lambda: 100 * self.loop.now_s,)),
                # The journal works in threads, which virtual time does not wait for; nobody submits jobs here.
                (Office, "start", _at_once),
                (Office, "stop", _at_once),
                (scheduler_host, "find_policies", _policies),
                (scheduler_host, "find_placements", _placements),
            ):
                stack.enter_context(mock.patch.object(target, name, value))
            yield

    def address(self, name: str) -> str:
        """Where that service listens."""
        return f"127.0.0.1:{7600 + list(self.processes).index(name)}"

    def set_epoch(self, name: str, epoch: int) -> None:
        """Writes the newest epoch that this scheduler has led under, as an operator may."""
        state_dir = self._folder / name
        state_dir.mkdir(exist_ok=True)
        (state_dir / "epoch").write_text(f"{epoch}\n")

    def start_all(self) -> None:
        """Everything comes up at once, in no particular order."""
        names = [SCHEDULER, PREDICTOR, *self._names]
        self.rng.shuffle(names)
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        """Starts a service that does not run."""
        process = self.processes[name]
        if not process.alive:
            work = {PREDICTOR: self._run_predictor, SCHEDULER: self._run_scheduler, SECOND: self._run_scheduler}
            process.start(functools.partial(work.get(name, self._run_worker), process))

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self.processes[name]
        if process.alive:
            self.loop.kill(process.node)
            self.network.reset(process.node)
            process.close_files()

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        node = self.processes[name].node
        self.loop.freeze(node)
        self.network.frozen(node)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        node = self.processes[name].node
        if node.frozen is not None:
            self.loop.thaw(node)

    def stop(self, name: str, drain_s: float) -> None:
        """SIGTERM: drains, then ends."""
        process = self.processes[name]
        if process.alive and process.host is not None and not process.stopping:
            process.stopping = True
            self.loop.spawn(process.node, self._stop(process, drain_s))  # never begins if it is frozen and then killed

    async def _stop(self, process: Process, drain_s: float) -> None:
        host = process.host
        if isinstance(host, SchedulerHost):
            await host.drain(drain_s)
            await host.stop()
        elif isinstance(host, WorkerHost):
            await host.drain(drain_s * 1000)
            await host.stop()
        elif isinstance(host, PredictorHost):
            await host.drain(drain_s)
        self.kill(process.name)

    async def _run_scheduler(self, process: Process) -> None:
        state_dir = self._folder / process.name
        state_dir.mkdir(exist_ok=True)
        fresh = state_dir / "epoch.new"
        fresh.unlink(missing_ok=True)
        if self.epoch_disk_full:
            fresh.symlink_to("/dev/full")
        section = SchedulerConfig(
            listen=self.address(process.name),
            policy=self._policy,
            workers=tuple(self.address(name) for name in self._names),
            predictor=self.address(PREDICTOR),
            state_dir=state_dir,
            max_queued_requests=60,
            max_queued_per_tenant=40,
            predict_timeout_ms=300.0,
            max_buffered_tokens=400,
            fair_bound_tokens=50,
            **self._scheduler,
        )
        config = Config(scheduler=section, defaults=ClassDefaults(), tenants=TENANTS)
        host = SchedulerHost(config, patience=PATIENCE, clock_ms=self.loop.now_ms)
        process.files.append(host._folder)
        await host.start()
        process.host = host
        self._watch(host)
        # As the process does: a core that fails ends it.
        host.shell.died.add_done_callback(lambda _: self.kill(process.name))

    async def _run_worker(self, process: Process) -> None:
        config = WorkerConfig(
            listen=self.address(process.name), worker_id=process.name, engine="simulated", **self._sizes[process.name]
        )
        host = WorkerHost(config, SimulatedEngine(config, now_ms=self.loop.now_ms))
        await host.start()
        process.host = host

    async def _run_predictor(self, process: Process) -> None:
        if self.mood == "real":
            config = PredictorConfig(listen=self.address(PREDICTOR), predictor="history")
            host = PredictorHost(config, open_predictor(config))
            await host.start()
            process.host = host
            return
        server = make_server(self.address(PREDICTOR), (), port_setting="test")
        rng = random.Random(f"predictor {self._seed} {process.starts}")
        predictor_pb2_grpc.add_PredictorServiceServicer_to_server(
            BadPredictor(lambda: self.mood, rng),
            server.server,  # type: ignore[arg-type]
        )
        await server.start()
        process.host = server

    def _size(self) -> dict[str, Any]:
        rng = self.rng
        seats = rng.randint(1, 6)
        slots = seats + rng.randint(0, 6)
        return {
            "step_seats": seats,
            "slots": slots,
            "max_held": slots + rng.randint(2, 10),
            "kv_blocks": rng.randint(16, 60),
            "kv_block_tokens": 16,
            "max_context_tokens": 256,
            "step_token_budget": rng.choice((32, 256, 2048)),
            "simulated_step_ms": (rng.uniform(2, 25), rng.uniform(0, 0.1), rng.uniform(0, 0.5), 0.0),
            "simulated_answer_tokens": 24,
        }

    def _note_broken(self, path: str, error: Exception) -> None:
        self.broken.append(f"{path} raised {error!r}")


async def _at_once(_office: Office) -> None:
    """There is nothing to wait for."""


@functools.cache
def _policies() -> Any:
    return _FIND_POLICIES()


@functools.cache
def _placements() -> Any:
    return _FIND_PLACEMENTS()


_FIND_POLICIES = scheduler_host.find_policies
_FIND_PLACEMENTS = scheduler_host.find_placements


async def until(holds: Callable[[], bool], within_s: float, every_s: float = 0.05) -> bool:
    """Waits until something is so, at most so long; whether it is."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + within_s
    while not holds():
        if loop.time() >= end_s:
            return False
        await asyncio.sleep(every_s)
    return True
