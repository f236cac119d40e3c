"""Keys and certificates of tenants: overlap, rotation, and what does not fit."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fairlead.config import ConfigError, Credential, Tenant
from fairlead.rpc import Refusal
from scheduler_svc.core.types import TenantTerms
from scheduler_svc.tenants.changes import MAX_KEYS
from scheduler_svc.tenants.registry import TenantRegistry
from tests.unit.tenant_desk import CODE, NOON_S, OP, ROOT, Desk


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def credential(key: str, **times: str) -> Credential:
    return Credential.model_validate({"key": key, **times})


@pytest.mark.parametrize(
    ("hour", "old", "new"),
    [
        ("11:59:59", "a", "KEY_NOT_VALID_NOW"),
        ("12:00:00", "a", "a"),
        ("12:59:59", "a", "a"),
        ("13:00:00", "KEY_NOT_VALID_NOW", "a"),
    ],
)
async def test_keys_of_the_configuration_overlap(tmp_path: Path, hour: str, old: str, new: str) -> None:
    tenant = Tenant(
        name="a",
        credentials=(
            credential("old", retired_after="2026-12-01T13:00:00Z"),
            credential("new", not_before="2026-12-01T13:00:00+01:00"),
        ),
    )
    desk = Desk(tmp_path, tenant)
    desk.clock.now_s = datetime.fromisoformat(f"2026-12-01T{hour}Z").timestamp()
    for key, expected in (("old", old), ("new", new)):
        assert expected == (desk.asks(key) if expected == "a" else desk.refused(key))


async def test_a_key_that_does_not_count_says_when_and_never_itself(tmp_path: Path) -> None:
    desk = Desk(
        tmp_path, Tenant(name="a", credentials=(credential("old-secret", retired_after="2026-12-01T11:00:00Z"),))
    )
    with pytest.raises(Refusal) as caught:
        desk.asks("old-secret")
    assert caught.value.code is CODE.UNAUTHENTICATED
    assert "replaced and ended at 2026-12-01T11:00:00" in caught.value.message
    assert "old-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "give exactly one of key"),
        ({"key": "x", "key_env": "Y"}, "give exactly one of key"),
        ({"credentials": [{}]}, "for each credential"),
        ({"credentials": [{"key": "x", "key_file": "y"}]}, "for each credential"),
        ({"credentials": [{"key": "x", "retired_after": "2026-12-01T00:00:00"}]}, "timezone"),
        (
            {
                "credentials": [
                    {"key": "x", "not_before": "2026-12-02T00:00:00Z", "retired_after": "2026-12-01T00:00:00Z"}
                ]
            },
            "the key never counts",
        ),
        ({"key": "x", "weight": 0}, "weight"),
        ({"key": "x", "weight": "nan"}, "weight"),
        ({"key": "x", "classes": []}, "classes"),
        ({"key": "x", "classes": ["be"], "default_class": "ls"}, "not among its classes"),
        ({"key": "x", "limits": {"max_in_flight": 0}}, "max_in_flight"),
        ({"key": "x", "limits": {"tokens_per_minute": "inf"}}, "tokens_per_minute"),
        ({"key": "x", "slo": {"ttft_ms": -1}}, "ttft_ms"),
        ({"key": "x", "limits": {"max_inflight": 1}}, "max_inflight"),
    ],
)
def test_a_tenant_that_does_not_fit_is_told_by_field(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Tenant.model_validate({"name": "a", **fields})


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "../a", "-a", "a\n", "ä", "a" * 64, "a\x00"])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Tenant.model_validate({"name": name, "key": "x"})


async def test_certificates_stand_for_tenants(tmp_path: Path) -> None:
    tenant = Tenant(name="a", certificate_names=("a.example", "b.example"))
    desk = Desk(tmp_path, tenant, ROOT)
    assert desk.registry.by_certificate("b.example") == tenant
    assert desk.registry.by_certificate("c.example") is None
    with pytest.raises(ConfigError, match=r"'a' and 'twin' have the certificate name 'b.example'"):
        TenantRegistry([tenant, Tenant(name="twin", certificate_names=("b.example",))])


async def test_the_core_is_told_weights_and_limits(tmp_path: Path) -> None:
    limits = {"max_in_flight": 3, "tokens_per_minute": 600.0}
    desk = Desk(tmp_path, ROOT, Tenant.model_validate({"name": "a", "key": "x", "weight": 2.5, "limits": limits}))
    assert desk.registry.terms() == (
        TenantTerms("a", 2.5, max_in_flight=3, tokens_per_minute=600.0),
        TenantTerms("op"),
    )


@pytest.mark.parametrize("overlap_s", [0.0, 3600.0])
async def test_a_new_key_counts_at_once_and_the_old_one_for_the_overlap(desk: Desk, overlap_s: float) -> None:
    _, new, until = await desk.changes.rotate(OP, "alice", "", overlap_s, None)
    assert until.timestamp() == NOON_S + overlap_s
    for door in (desk, desk.again()):
        assert door.asks(new) == "alice"
        if overlap_s:
            assert door.asks("alice-key") == "alice"
            desk.clock.now_s += overlap_s - 1
            assert door.asks("alice-key") == "alice"
            desk.clock.now_s += 1
        assert door.refused("alice-key") == "KEY_NOT_VALID_NOW"
        assert door.asks(new) == "alice"
        desk.clock.now_s = NOON_S
    newer = (await desk.changes.rotate(OP, "alice", "", 10.0, None))[1]
    desk.clock.now_s += 11
    assert desk.refused(new) == "KEY_NOT_VALID_NOW"
    assert desk.asks(newer) == "alice"


async def test_a_later_rotation_never_lengthens_the_life_of_an_old_key(desk: Desk) -> None:
    await desk.changes.rotate(OP, "alice", "", 10.0, None)
    await desk.changes.rotate(OP, "alice", "", 10_000.0, None)
    desk.clock.now_s += 11
    assert desk.refused("alice-key") == "KEY_NOT_VALID_NOW"


async def test_keys_are_bounded_and_old_ones_make_room(desk: Desk) -> None:
    for _ in range(MAX_KEYS + 5):
        _, key, _ = await desk.changes.rotate(OP, "alice", "", 1.0, None)
        desk.clock.now_s += 2
    assert desk.asks(key) == "alice"
    assert len(desk.registry.records["alice"].keys) == MAX_KEYS
    with pytest.raises(Refusal) as caught:
        for _ in range(MAX_KEYS + 1):
            await desk.changes.rotate(OP, "alice", "", 1000.0, None)
    assert (caught.value.code, caught.value.reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_KEYS")


async def test_a_hash_that_the_operator_brings_is_a_key(desk: Desk) -> None:
    digest = hashlib.sha256(b"own").hexdigest()
    _, key = await desk.changes.create(OP, "new", {}, digest, with_key=True)
    assert (key, desk.asks("own")) == ("", "new")
    with pytest.raises(Refusal, match="have the same key"):
        await desk.changes.create(OP, "other", {}, digest, with_key=True)
    assert desk.registry.get("other") is None
