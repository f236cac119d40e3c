"""All about tenants on a real folder, with a calendar of its own, for the tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from fairlead.config import Config, SchedulerConfig, Tenant
from fairlead.rpc import Refusal
from scheduler_svc.auth import Authenticator
from scheduler_svc.tenants.changes import Caller
from scheduler_svc.tenants.entries import Entry
from scheduler_svc.tenants.opening import Tenants

OP = Caller("op", "ipv4:192.0.2.1:5")
NOON_S = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
CODE = grpc.StatusCode
ROOT = Tenant(name="op", key=SecretStr("op-key"), operator=True)
ALICE = Tenant(name="alice", key=SecretStr("alice-key"), default_class="ls")


class Clock:
    """A calendar that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = NOON_S

    def __call__(self) -> float:
        return self.now_s


class Desk:
    """All about tenants on a real folder, with a calendar of its own."""

    def __init__(self, folder: Path, *tenants: Tenant, clock: Clock | None = None, **scheduler: Any) -> None:
        self.folder = folder
        self.clock = clock or Clock()
        config = Config(tenants=tenants or (ROOT, ALICE), scheduler=SchedulerConfig.model_validate(scheduler))
        self.tenants = Tenants(config, folder, self.clock)
        self.registry, self.changes = self.tenants.registry, self.tenants.changes
        self.authenticator = Authenticator(self.registry)

    def asks(self, key: str) -> str:
        """The tenant of a key."""
        return self.authenticator.tenant_of([("authorization", f"Bearer {key}")]).name

    def refused(self, key: str) -> str:
        with pytest.raises(Refusal) as caught:
            self.asks(key)
        return caught.value.reason

    def entry(self, name: str) -> Entry:
        found = self.registry.get(name)
        assert found is not None
        return found

    def again(self) -> Desk:
        """A scheduler that starts on the same folder."""
        return Desk(self.folder, clock=self.clock)

    def audit(self) -> list[tuple[str, str, str]]:
        return [(each.action, each.tenant, each.problem) for each in self.tenants.audit.newest_first()]
