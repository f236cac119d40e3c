"""Several predictor processes behind one name: questions are shared out, a lost one costs none, all of them learn."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fairlead.config import ConfigError, SchedulerConfig, SecurityConfig
from fairlead.rpc import free_port, make_channel
from fairlead.v1 import predictor_pb2 as pb
from fairlead.v1 import predictor_pb2_grpc
from scheduler_svc.predictor_link import PredictorLink
from tests.live.scheduler_suite import Process, Suite, running_process, running_suite, until

pytestmark = pytest.mark.live

NAME = "predictors.test"
HOSTS = ("127.0.0.2", "127.0.0.3")


@dataclass
class Replicated:
    """A suite with two predictor processes."""

    suite: Suite
    link: PredictorLink
    processes: dict[str, Process]
    hosts: list[str]
    """What the name stands for; the tests change it."""

    async def outcomes(self, address: str) -> int:
        """How many outcomes a replica has learned from."""
        async with make_channel(address) as channel:
            stub = predictor_pb2_grpc.PredictorServiceStub(channel)
            described = await stub.Describe(pb.PredictorServiceDescribeRequest(), timeout=5)
        return max((one.outcomes for one in described.standings), default=0)

    async def generate(self, count: int, first: int = 0) -> None:
        """So many answers, eight at a time."""
        one_of = asyncio.Semaphore(8)

        async def answer(number: int) -> None:
            async with one_of:
                await self.suite.client().complete(f"prompt {number}", max_tokens=20)

        await asyncio.gather(*(answer(first + number) for number in range(count)))


@asynccontextmanager
async def replicated(folder: Path, monkeypatch: pytest.MonkeyPatch, **scheduler: Any) -> AsyncIterator[Replicated]:
    """Two replicas on two loopback addresses; the system's resolver, asked for the name, gives both."""
    port, hosts, asked = free_port(), [*map(str, HOSTS)], socket.getaddrinfo

    def resolved(host: Any, *args: Any, **kwargs: Any) -> Any:
        names = hosts if host == NAME else [host]
        return [found for name in names for found in asked(name, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    async with AsyncExitStack() as stack:
        processes: dict[str, Process] = {}
        for host in HOSTS:
            section = {"listen": f"{host}:{port}", "predictor": "history"}
            process = await stack.enter_async_context(running_process(folder, "predictor_svc", predictor=section))
            processes[f"{host}:{port}"] = process
        suite = await stack.enter_async_context(
            running_suite(
                folder / "state",
                predictor=None,
                predictor_address=f"dns:///{NAME}:{port}",
                resolve_every_s=0.1,
                security=SecurityConfig(allow_insecure=True),
                **scheduler,
            )
        )
        link = suite.scheduler.predictor
        assert link is not None
        await until(lambda: link.replicas_connected == len(HOSTS), "both replicas")
        yield Replicated(suite, link, processes, hosts)


async def test_questions_are_shared_out_and_every_replica_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replicated(tmp_path, monkeypatch) as there:
        await there.generate(60)
        assert there.link.missing == 0
        answers = [replica.answers for replica in there.link.replicas.values()]
        assert min(answers) >= 10, answers

        async def learned() -> list[int]:
            return [await there.outcomes(address) for address in there.processes]

        # An answer may end before its first prediction came: without a law to hold it against no outcome is counted.
        async with asyncio.timeout(20):
            while min(await learned()) < 30:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert max(answers) < 60 <= sum(answers), "neither was asked about all of them"
        status = await there.suite.status()
        assert (status.predictor.replicas, status.predictor.replicas_connected) == (2, 2)


async def test_a_killed_replica_costs_no_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicated(tmp_path, monkeypatch, predict_timeout_ms=60_000) as there:
        first = there.processes[f"{HOSTS[0]}:{next(iter(there.processes)).rpartition(':')[2]}"]
        first.process.send_signal(signal.SIGSTOP)
        stopped = there.link.replicas[first.address]
        generating = asyncio.create_task(there.generate(40))
        await until(lambda: stopped.in_flight > 0, "questions at the stopped replica")
        waiting = stopped.in_flight
        first.process.send_signal(signal.SIGKILL)
        await generating
        await until(lambda: there.link.in_flight == 0, "every question's answer")
        assert there.link.moved >= waiting
        assert there.link.missing == 0
        assert there.link.connected and there.link.replicas_connected == 1


async def test_a_replica_that_is_silent_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicated(tmp_path, monkeypatch, predict_timeout_ms=300) as there:
        address, first = next(iter(there.processes.items()))
        first.process.send_signal(signal.SIGSTOP)
        silent = there.link.replicas[address]
        await there.generate(16)
        await until(lambda: silent.silent_until_s > 0 and silent.in_flight == 0, "it to be noticed")
        missing = there.link.missing
        assert missing > 0
        await there.generate(40, first=100)
        assert there.link.missing == missing, "the other one answers all"
        first.process.send_signal(signal.SIGCONT)
        await until(lambda: silent.silent_until_s == 0, "it to be heard again")


async def test_a_replica_comes_and_goes_with_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with replicated(tmp_path, monkeypatch) as there:
        address, first = next(iter(there.processes.items()))
        there.hosts.remove(HOSTS[0])
        await first.end()
        await until(lambda: address not in there.link.replicas, "it to be let go")
        await there.generate(10)
        there.hosts.insert(0, HOSTS[0])
        await until(lambda: address in there.link.replicas, "it to be taken up")
        assert "UNAVAILABLE" in there.link.replicas[address].problem or not there.link.replicas[address].connected


def test_an_address_that_is_none_is_named() -> None:
    from scheduler_svc.names import check_addresses

    with pytest.raises(ConfigError, match=r"scheduler\.predictor: 'predictor' is neither"):
        check_addresses([str(SchedulerConfig(predictor="predictor").predictor)], "scheduler.predictor")
