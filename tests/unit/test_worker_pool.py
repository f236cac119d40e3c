"""Names that stand for several workers: addresses that come are linked, those that are gone are let go."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from pydantic import SecretStr

from fairlead.config import Config, ConfigError, SchedulerConfig, Tenant
from scheduler_svc.host import SchedulerHost
from scheduler_svc.names import check_addresses, resolve
from scheduler_svc.worker_link import WorkerLink
from scheduler_svc.worker_pool import WorkerPool


@dataclass
class Link:
    """As much of a link as the pool looks at."""

    address: str
    connected: bool = False
    executions: object | None = None
    closed: bool = False

    async def close(self) -> None:
        self.closed = True


@dataclass
class Names:
    """A resolver that answers what it is told to."""

    answers: dict[str, list[str] | OSError] = field(default_factory=dict)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.set()
        answer = self.answers[host]
        if isinstance(answer, OSError):
            raise answer
        return [f"{one}:{port}" for one in answer]

    async def asked_again(self) -> None:
        for _ in range(2):  # the round that is under way may have begun before
            self.asked.clear()
            await self.asked.wait()
        await asyncio.sleep(0)


def make_pool(addresses: list[str], names: Names) -> WorkerPool:
    return WorkerPool(addresses, lambda address: cast("WorkerLink", Link(address)), 0.01, names)


async def test_addresses_come_and_go_with_their_name() -> None:
    names = Names({"w": ["10.0.0.1", "10.0.0.2"]})
    pool = make_pool(["fixed:1", "dns:///w:7"], names)
    await names.asked_again()
    assert set(pool.links) == {"fixed:1", "10.0.0.1:7", "10.0.0.2:7"}
    first, second = (cast("Link", pool.links[f"10.0.0.{index}:7"]) for index in (1, 2))
    first.connected = True
    names.answers["w"] = ["10.0.0.3"]
    await names.asked_again()
    assert set(pool.links) == {"fixed:1", "10.0.0.1:7", "10.0.0.3:7"}, "what still answers is kept"
    assert second.closed
    first.connected = False
    await names.asked_again()
    assert set(pool.links) == {"fixed:1", "10.0.0.3:7"}
    await pool.close()


async def test_a_resolver_that_fails_takes_no_worker_away_and_is_told() -> None:
    names = Names({"w": ["10.0.0.1"]})
    pool = make_pool(["dns:///w:7"], names)
    await names.asked_again()
    names.answers["w"] = OSError("no such name")
    await names.asked_again()
    assert set(pool.links) == {"10.0.0.1:7"}
    assert pool.unresolved == {"dns:///w:7": "w can't be resolved: no such name"}
    names.answers["w"] = ["10.0.0.1"]
    await names.asked_again()
    assert pool.unresolved == {}
    await pool.close()


async def test_the_systems_resolver_is_asked() -> None:
    assert "127.0.0.1:7" in await resolve("127.0.0.1", 7)


@pytest.mark.parametrize("address", ["", "host", "host:", "host:x", ":7", "host:0", "host:70000", "dns:///:7"])
def test_what_is_no_address_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(ConfigError, match="neither host:port nor dns:///name:port"):
        check_addresses(["good:1", "dns:///good:1", "[::1]:7", address], "scheduler.workers")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "best"}, "scheduler.policy: unknown policy 'best'; known: .*fcfs, .*slo"),
        ({"workers": ("nowhere",)}, "scheduler.workers: 'nowhere' is neither"),
    ],
)
async def test_a_configuration_that_cannot_work_is_told_before_anything_starts(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    scheduler = SchedulerConfig.model_validate({"listen": "127.0.0.1:0", "state_dir": tmp_path, **change})
    config = Config(scheduler=scheduler, tenants=(Tenant(name="t", key=SecretStr("k")),))
    with pytest.raises(ConfigError, match=message):
        SchedulerHost(config)
    assert not (tmp_path / "epoch").exists()
