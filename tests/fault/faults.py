"""What goes wrong in a virtual world: each fault by name, at a random time, for a random while, and then put right."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf import field_mask_pb2
from grpc import aio

from fairlead.v1 import admin_pb2, admin_pb2_grpc, tenants_pb2
from tests.fault.bad_predictor import MOODS
from tests.fault.cluster import PREDICTOR, SCHEDULER, SECOND, Cluster, until
from tests.fault.virtual_time import Node
from worker_svc.engines.simulated import SimulatedEngine
from worker_svc.ordering import StepModel

Fault = Callable[[], Awaitable[None]]
CLIENT = "client"
STARTS_WITHIN_S = 30.0


class Faults:
    """Brings faults about, one after another and at once.

    Args:
        cluster: the world.
        client: the process of the clients.
        rng: of everything here.
        policies: that may be asked for.

    Attributes:
        counts: faults so far, by name.
        lasting: so many have begun and are not over.
        operator_ends: a drain with a time limit has been asked for.
        client_links: a link to the clients was among them.
    """

    def __init__(self, cluster: Cluster, client: Node, rng: random.Random, policies: Sequence[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.lasting = 0
        self.operator_ends = False
        self.client_links = False
        self.wall_clock_jump_s = 0.0
        self._cluster = cluster
        self._client = client
        self._rng = rng
        self._policies = policies
        self._cuts: list[tuple[str, str]] = []
        self._kinds: dict[str, tuple[int, Fault]] = {
            "worker killed": (6, self._worker_killed),
            "worker hung": (4, self._worker_hung),
            "worker returns after its requests were given away": (2, self._worker_returns),
            "worker slow": (2, self._worker_slow),
            "worker drained and restarted": (3, self._worker_drained),
            "workers restarted one after another": (1, self._workers_rolled),
            "link to a worker cut one way": (4, self._worker_cut_one_way),
            "link to a worker cut both ways": (3, self._worker_cut),
            "connections to a worker reset": (4, self._worker_reset),
            "scheduler killed": (5, self._scheduler_killed),
            "scheduler hung": (2, self._scheduler_hung),
            "scheduler drained and restarted": (1, self._scheduler_drained),
            "scheduler restarted with a full disk": (1, self._disk_full),
            "second scheduler, own state": (1, self._second_scheduler),
            "second scheduler, newer epoch": (1, self._usurper),
            "link to the clients cut": (3, self._client_cut),
            "connections of the clients reset": (3, self._client_reset),
            "predictor killed": (2, self._predictor_killed),
            "predictor hung": (1, self._predictor_hung),
            "predictor cut off": (1, self._predictor_cut),
            "predictor's mood": (3, self._predictor_mood),
            "network slow": (2, self._network_slow),
            "wall clock jumps": (1, self._clock_jumps),
            "policy changed": (4, self._policy_changed),
            "tenant's weight changed": (2, self._tenant_changed),
        }

    async def one(self) -> None:
        """A random fault, from beginning to end."""
        names = list(self._kinds)
        (name,) = self._rng.choices(names, [self._kinds[name][0] for name in names])
        self.counts[name] += 1
        self.lasting += 1
        await self._kinds[name][1]()
        self.lasting -= 1

    async def put_right(self) -> None:
        """Ends every fault that still lasts: all that should run runs, and nothing is cut."""
        cluster = self._cluster
        cluster.kill(SECOND)
        cluster.epoch_disk_full = False
        cluster.mood = "good"
        cluster.network.delay_ms = (0.1, 3.0)
        for way in self._cuts:
            cluster.network.heal(*way)
        self._cuts.clear()
        for name in (SCHEDULER, PREDICTOR, *(worker.name for worker in cluster.workers)):
            cluster.thaw(name)
            await self._runs(name)

    # -- of workers

    def _worker(self) -> str:
        return self._rng.choice(self._cluster.workers).name

    async def _worker_killed(self) -> None:
        name = self._worker()
        self._cluster.kill(name)
        await self._sleep(0.0, 3.0)
        await self._runs(name)

    async def _worker_hung(self) -> None:
        await self._hung(self._worker(), 0.3, 6.0)

    async def _worker_returns(self) -> None:
        await self._hung(self._worker(), 10.0, 25.0)

    async def _worker_slow(self) -> None:
        process = self._cluster.processes[self._worker()]
        host = process.host
        engine: Any = getattr(host, "_engine", None)
        if isinstance(engine, SimulatedEngine):
            core = engine._core
            pace = core.model
            factor = self._rng.uniform(3, 30)
            core.model = StepModel(*(factor * part for part in _coefficients(pace)))
            await self._sleep(0.5, 5.0)
            core.model = pace

    async def _worker_drained(self) -> None:
        name = self._worker()
        self._drain(name)
        await self._sleep(0.0, 2.0)
        await self._runs(name)

    async def _workers_rolled(self) -> None:
        for worker in self._cluster.workers:
            self._drain(worker.name)
            await until(lambda worker=worker: not worker.alive, 20.0)
            await self._runs(worker.name)
            await self._sleep(0.1, 0.5)

    async def _worker_cut_one_way(self) -> None:
        ways = [(SCHEDULER, self._worker())]
        if self._rng.random() < 0.5:
            ways = [(other, one) for one, other in ways]
        await self._cut(ways, 0.2, 15.0)

    async def _worker_cut(self) -> None:
        name = self._worker()
        await self._cut([(SCHEDULER, name), (name, SCHEDULER)], 0.2, 15.0)

    async def _worker_reset(self) -> None:
        self._cluster.network.break_between(SCHEDULER, self._worker())

    # -- of the scheduler

    async def _scheduler_killed(self) -> None:
        self._cluster.kill(SCHEDULER)
        await self._sleep(0.0, 3.0)
        await self._runs(SCHEDULER)

    async def _scheduler_hung(self) -> None:
        await self._hung(SCHEDULER, 0.3, 12.0)

    async def _scheduler_drained(self) -> None:
        self._drain(SCHEDULER)
        await until(lambda: not self._cluster.processes[SCHEDULER].alive, 20.0)
        await self._runs(SCHEDULER)

    async def _disk_full(self) -> None:
        cluster = self._cluster
        cluster.kill(SCHEDULER)
        cluster.epoch_disk_full = True
        cluster.start(SCHEDULER)
        await self._sleep(0.5, 2.0)
        cluster.epoch_disk_full = False
        process = cluster.processes[SCHEDULER]
        if not process.failed and not process.alive:
            cluster.broken.append("a scheduler that can't keep its epoch said nothing")
        await self._runs(SCHEDULER)

    async def _second_scheduler(self) -> None:
        """It has a state folder of its own, so that its epochs are low; nobody asks it."""
        self._cluster.set_epoch(SECOND, 0)  # started again, it would have come to a newer one than the first has
        self._cluster.start(SECOND)
        await self._sleep(0.5, 5.0)
        self._cluster.kill(SECOND)

    async def _usurper(self) -> None:
        """A second scheduler under a newer epoch takes the workers; the first is restarted, as its log says."""
        cluster = self._cluster
        cluster.set_epoch(SECOND, 1000 * (1 + cluster.processes[SCHEDULER].starts))
        cluster.start(SECOND)
        await self._sleep(0.5, 5.0)
        cluster.kill(SECOND)
        cluster.kill(SCHEDULER)
        cluster.set_epoch(SCHEDULER, 1000 * (1 + cluster.processes[SCHEDULER].starts) + 100)
        await self._runs(SCHEDULER)

    # -- of clients and predictor

    async def _client_cut(self) -> None:
        self.client_links = True
        ways = [(SCHEDULER, CLIENT), (CLIENT, SCHEDULER)]
        await self._cut(self._rng.choice([ways, ways[:1], ways[1:]]), 0.2, 15.0)

    async def _client_reset(self) -> None:
        self._cluster.network.break_between(SCHEDULER, CLIENT)

    async def _predictor_killed(self) -> None:
        self._cluster.kill(PREDICTOR)
        await self._sleep(0.0, 3.0)
        await self._runs(PREDICTOR)

    async def _predictor_hung(self) -> None:
        await self._hung(PREDICTOR, 0.3, 12.0)

    async def _predictor_cut(self) -> None:
        await self._cut([self._rng.choice([(SCHEDULER, PREDICTOR), (PREDICTOR, SCHEDULER)])], 0.2, 15.0)

    async def _predictor_mood(self) -> None:
        if self._cluster.mood != "real":
            self._cluster.mood = self._rng.choice(MOODS[:-1])

    # -- of all

    async def _network_slow(self) -> None:
        network = self._cluster.network
        network.delay_ms = (1.0, self._rng.choice((30.0, 200.0)))
        await self._sleep(0.3, 3.0)
        network.delay_ms = (0.1, 3.0)

    async def _clock_jumps(self) -> None:
        self.wall_clock_jump_s += self._rng.choice((-86_400.0, -1.0, 3_600.0, 1e9))

    async def _policy_changed(self) -> None:
        request = admin_pb2.SetPolicyRequest(policy=self._rng.choice(self._policies))
        await self._as_operator("SetPolicy", request)

    async def _tenant_changed(self) -> None:
        tenant = tenants_pb2.Tenant(name=self._rng.choice(("alice", "bob")), weight=self._rng.choice((0.1, 1.0, 7.0)))
        mask = field_mask_pb2.FieldMask(paths=["weight"])
        await self._as_operator("UpdateTenant", tenants_pb2.UpdateTenantRequest(tenant=tenant, update_mask=mask))

    async def _as_operator(self, method: str, request: Any) -> None:
        """By the admin service; the scheduler may be away."""
        channel = aio.insecure_channel(self._cluster.address(SCHEDULER))
        async with channel:
            stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
            try:
                await getattr(stub, method)(request, metadata=(("authorization", "Bearer op-key"),), timeout=5.0)
            except aio.AioRpcError as error:
                if error.code().name not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
                    self._cluster.broken.append(f"{method}: {error.code().name}: {error.details()}")

    # -- tools

    async def _sleep(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self._rng.uniform(least_s, most_s))

    async def _hung(self, name: str, least_s: float, most_s: float) -> None:
        self._cluster.freeze(name)
        await self._sleep(least_s, most_s)
        self._cluster.thaw(name)

    async def _cut(self, ways: list[tuple[str, str]], least_s: float, most_s: float) -> None:
        for way in ways:
            self._cluster.network.cut(*way)
            self._cuts.append(way)
        await self._sleep(least_s, most_s)
        for way in ways:
            if way in self._cuts:
                self._cuts.remove(way)
                self._cluster.network.heal(*way)

    def _drain(self, name: str) -> None:
        self.operator_ends = True
        self._cluster.stop(name, self._rng.choice((0.0, 0.5, 5.0)))

    async def _runs(self, name: str) -> None:
        """Starts it if it does not run, and waits until it serves."""
        process = self._cluster.processes[name]
        if process.stopping:
            await until(lambda: not process.alive or process.node.frozen is not None, STARTS_WITHIN_S)
        self._cluster.start(name)


def _coefficients(model: StepModel) -> tuple[float, float, float, float]:
    return model.c0_ms, model.c1_ms_per_prefill_token, model.c2_ms_per_decode, model.c3_ms_per_context_token
