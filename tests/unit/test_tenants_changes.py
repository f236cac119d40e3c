"""Operators' changes to tenants: one after another, kept over restarts, or not made."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fairlead.config import ConfigError, Tenant
from fairlead.rpc import Refusal
from scheduler_svc.tenants.entries import Entry
from scheduler_svc.tenants.store import FILE_NAME, Record, TenantStore
from tests.unit.tenant_desk import CODE, OP, ROOT, Desk


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_tenant_is_made_changed_disabled_and_enabled_and_all_of_it_is_kept(desk: Desk) -> None:
    told: list[float] = []
    desk.registry.on_change(
        lambda: told.append(next(each.weight for each in desk.registry.terms() if each.name == "new"))
    )
    made, key = await desk.changes.create(OP, "new", {"weight": 3.0}, None, with_key=True)
    assert desk.asks(key) == "new"
    changed = await desk.changes.update(OP, "new", made.etag, {"weight": 4.0, "limits": {"max_in_flight": 2}})
    assert (changed.tenant.weight, changed.tenant.limits.max_in_flight) == (4.0, 2)
    disabled = await desk.changes.set_disabled(OP, "new", changed.etag, True)
    assert desk.refused(key) == "TENANT_DISABLED"
    assert await desk.changes.set_disabled(OP, "new", "", True) == disabled, "idempotent"
    assert desk.again().refused(key) == "TENANT_DISABLED", "over a restart too"
    await desk.changes.set_disabled(OP, "new", disabled.etag, False)
    again = desk.again()
    assert again.asks(key) == "new"
    assert again.entry("new") == desk.entry("new")
    assert told == [3.0, 4.0, 4.0, 4.0], "whoever needs to know is told of each change, and of nothing else"
    kept = (desk.folder / FILE_NAME).read_text() + (desk.folder / "audit.jsonl").read_text()
    assert key not in kept
    assert hashlib.sha256(key.encode()).hexdigest() not in (desk.folder / "audit.jsonl").read_text()
    assert desk.audit() == [
        ("EnableTenant", "new", ""),
        ("DisableTenant", "new", ""),
        ("UpdateTenant", "new", ""),
        ("CreateTenant", "new", ""),
    ]


async def nothing_left(_tenant: str) -> int:
    return 2


async def test_a_tenant_that_is_deleted_is_as_one_that_never_was(desk: Desk) -> None:
    _, key = await desk.changes.create(OP, "new", {"weight": 3.0}, None, with_key=True)
    disabled = await desk.changes.set_disabled(OP, "new", "", True)
    assert await desk.changes.delete(OP, "new", disabled.etag, nothing_left) == 2
    for here in (desk, desk.again()):
        assert here.registry.get("new") is None
        assert here.refused(key) == "UNAUTHENTICATED"
    (gone, *_) = desk.tenants.audit.newest_first()
    assert (gone.action, gone.tenant, gone.actor) == ("DeleteTenant", "new", OP.name)
    assert "weight" in gone.changes
    _, other = await desk.changes.create(OP, "new", {}, None, with_key=True)
    assert desk.asks(other) == "new"
    assert desk.entry("new").tenant.weight == 1.0


async def test_a_tenant_that_is_enabled_busy_or_configured_is_not_deleted(desk: Desk) -> None:
    async def busy(_tenant: str) -> int:
        raise Refusal(CODE.FAILED_PRECONDITION, "it runs", reason="TENANT_BUSY")

    await desk.changes.create(OP, "new", {}, None, with_key=True)
    with pytest.raises(Refusal) as enabled:
        await desk.changes.delete(OP, "new", "", nothing_left)
    await desk.changes.set_disabled(OP, "new", "", True)
    with pytest.raises(Refusal) as running:
        await desk.changes.delete(OP, "new", "", busy)
    await desk.changes.set_disabled(OP, "alice", "", True)
    with pytest.raises(Refusal) as configured:
        await desk.changes.delete(OP, "alice", "", nothing_left)
    with pytest.raises(Refusal) as unknown:
        await desk.changes.delete(OP, "nobody", "", nothing_left)
    with pytest.raises(Refusal) as changed:
        await desk.changes.delete(OP, "new", "an older one", nothing_left)
    assert [each.value.reason for each in (enabled, running, configured, unknown, changed)] == [
        "TENANT_ENABLED", "TENANT_BUSY", "TENANT_CONFIGURED", "UNKNOWN_TENANT", "ETAG_MISMATCH",
    ]  # fmt: skip
    assert desk.again().entry("new").tenant.disabled


async def test_files_are_for_this_user_alone(desk: Desk) -> None:
    await desk.changes.create(OP, "new", {}, None, with_key=True)
    assert {path.name: path.stat().st_mode & 0o077 for path in desk.folder.iterdir()} == {
        "tenants.json": 0, "audit.jsonl": 0, "cache_salt_key": 0,
    }  # fmt: skip


async def test_of_two_who_read_the_same_tenant_one_is_told_to_read_it_again(desk: Desk) -> None:
    etag = desk.entry("alice").etag
    results = await asyncio.gather(
        *(desk.changes.update(OP, "alice", etag, {"weight": float(weight)}) for weight in range(2, 10)),
        return_exceptions=True,
    )
    won = [each for each in results if isinstance(each, Entry)]
    lost = [each for each in results if isinstance(each, Refusal)]
    assert len(won) == 1
    assert len(lost) == 7
    assert {(each.code, each.reason) for each in lost} == {(CODE.ABORTED, "ETAG_MISMATCH")}
    assert desk.entry("alice").tenant.weight == won[0].tenant.weight
    assert len(desk.audit()) == 1


async def test_changes_without_an_etag_all_hold_one_after_another(desk: Desk) -> None:
    await asyncio.gather(
        desk.changes.update(OP, "alice", "", {"weight": 7.0}),
        desk.changes.update(OP, "alice", "", {"limits": {"max_in_flight": 4}}),
        desk.changes.update(OP, "alice", "", {"limits": {"max_queued_requests": 5}}),
    )
    tenant = desk.again().entry("alice").tenant
    assert (tenant.weight, tenant.limits.max_in_flight, tenant.limits.max_queued_requests) == (7.0, 4, 5)


async def test_a_change_that_changes_nothing_is_not_written_down(desk: Desk) -> None:
    before = desk.entry("alice")
    assert await desk.changes.update(OP, "alice", before.etag, {"weight": 1.0}) is before
    assert desk.audit() == []


async def test_a_change_to_a_configured_tenant_lies_over_the_configuration(desk: Desk, tmp_path: Path) -> None:
    await desk.changes.update(OP, "alice", "", {"weight": 5.0})
    other = Tenant(name="alice", key=SecretStr("another-key"), default_class="be")
    later = Desk(tmp_path, ROOT, other)
    found = later.entry("alice")
    assert (found.tenant.weight, found.tenant.default_class, found.changed) == (5.0, "be", True)
    assert later.asks("another-key") == "alice"
    gone = Desk(tmp_path, ROOT)
    assert gone.registry.get("alice") is None, "what is taken out of the configuration is gone"
    assert gone.again().entry("alice").tenant.weight == 5.0, "and what was said of it waits for it"


@pytest.mark.parametrize("change", ["disable", "demote", "rotate"])
async def test_the_last_operator_can_not_lock_everybody_out(desk: Desk, change: str) -> None:
    if change == "rotate":  # the operator has the new key
        assert await desk.changes.rotate(OP, "op", "", 0.0, None)
        return
    with pytest.raises(Refusal) as caught:
        if change == "disable":
            await desk.changes.set_disabled(OP, "op", "", True)
        else:
            await desk.changes.update(OP, "op", "", {"operator": False})
    assert (caught.value.code, caught.value.reason) == (CODE.FAILED_PRECONDITION, "LAST_OPERATOR")
    await desk.changes.create(OP, "second", {"operator": True}, None, with_key=True)
    assert (await desk.changes.set_disabled(OP, "op", "", True)).tenant.disabled


async def test_what_can_not_be_kept_is_not_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: TenantStore, records: object) -> None:  # noqa: ARG001
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TenantStore, "write", full)
    with pytest.raises(Refusal, match="No space left") as caught:
        await desk.changes.update(OP, "alice", "", {"weight": 9.0})
    assert (caught.value.code, caught.value.reason) == (CODE.UNAVAILABLE, "STATE_NOT_WRITABLE")
    assert desk.entry("alice").tenant.weight == 1.0
    assert [problem for _, _, problem in desk.audit()] == ["not kept: No space left on device", ""]


async def test_a_change_goes_on_when_its_caller_goes(desk: Desk) -> None:
    asked = asyncio.create_task(desk.changes.to_the_end(desk.changes.update(OP, "alice", "", {"weight": 8.0})))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    async with desk.registry.lock:
        assert desk.entry("alice").tenant.weight == 8.0
    assert desk.again().entry("alice").tenant.weight == 8.0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"weight": 5.0', '"weight": 6.0'),
        lambda text: text.replace('"fairlead_tenants": 1', '"fairlead_tenants": 2'),
        lambda _: "",
        lambda _: "[]",
        lambda _: "\x00",
    ],
)
async def test_what_was_kept_and_is_damaged_stops_the_start(desk: Desk, spoil: Any) -> None:
    await desk.changes.update(OP, "alice", "", {"weight": 5.0})
    path = desk.folder / FILE_NAME
    text = path.read_text()
    assert spoil(text) != text
    path.write_text(spoil(text))
    with pytest.raises(ConfigError, match=r"tenants\.json can't be used .*put back a copy"):
        desk.again()


def test_a_torn_write_leaves_what_was(tmp_path: Path) -> None:
    store = TenantStore(tmp_path)
    record = Record(name="a", made=True, updated=datetime.now(UTC))
    store.write({"a": record})
    (tmp_path / f"{FILE_NAME}.new").write_text("half of")
    assert store.read() == {"a": record}


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["create", "weight", "limit", "disable", "enable", "rotate", "later", "restart"]),
        st.sampled_from(["alice", "op", "one", "two"]),
        st.integers(1, 9),
    ),
    max_size=14,
)


Keys = dict[str, list[tuple[str, float]]]
"""By tenant: each key it ever had, and the time at which it ends."""


async def carry_out(desk: Desk, keys: Keys, what: str, name: str, number: int) -> None:
    changes = desk.changes
    match what:
        case "create":
            keys[name] = [((await changes.create(OP, name, {}, None, with_key=True))[1], inf)]
        case "weight":
            await changes.update(OP, name, "", {"weight": float(number)})
        case "limit":
            await changes.update(OP, name, "", {"limits": {"max_in_flight": number}})
        case "disable" | "enable":
            await changes.set_disabled(OP, name, "", what == "disable")
        case "rotate":
            _, key, until = await changes.rotate(OP, name, "", float(number), None)
            keys[name] = [(each, min(ends, until.timestamp())) for each, ends in keys[name]] + [(key, inf)]
        case _:
            desk.clock.now_s += number


def what_is_said(desk: Desk, key: str) -> str:
    try:
        return desk.asks(key)
    except Refusal as refusal:
        return refusal.reason


@settings(max_examples=40, deadline=None)
@given(OPERATIONS)
async def test_whatever_operators_do_a_restart_finds_the_same_tenants(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str, int]]
) -> None:
    """And a key opens the door exactly as long as it was said."""
    desk = Desk(tmp_path_factory.mktemp("state"))
    keys: Keys = {"alice": [("alice-key", inf)], "op": [("op-key", inf)]}
    for what, name, number in operations:
        if what == "restart":
            desk = desk.again()
            continue
        try:
            await carry_out(desk, keys, what, name, number)
        except Refusal as refusal:
            assert refusal.reason in ("TENANT_EXISTS", "UNKNOWN_TENANT", "LAST_OPERATOR", "TOO_MANY_KEYS")
    again, now_s = desk.again(), desk.clock.now_s
    assert again.registry.entries() == desk.registry.entries()
    assert any(entry.can_operate(now_s) for entry in again.registry.entries())
    for name, known in keys.items():
        open_door = "TENANT_DISABLED" if again.entry(name).tenant.disabled else name
        for key, ends_s in known:
            assert what_is_said(again, key) == (open_door if now_s < ends_s else "KEY_NOT_VALID_NOW")
