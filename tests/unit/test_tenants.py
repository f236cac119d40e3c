"""Who the tenants are: keys that overlap, files that are read again, changes that are kept, and hostile input."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from pydantic import SecretStr, ValidationError

from fairlead.config import Config, ConfigError, Credential, SchedulerConfig, Tenant
from fairlead.config.tenants_file import load_tenants
from fairlead.rpc import Refusal
from scheduler_svc.auth import Authenticator
from scheduler_svc.core.types import TenantTerms
from scheduler_svc.tenants.audit import AuditLog
from scheduler_svc.tenants.changes import MAX_KEYS, Caller
from scheduler_svc.tenants.entries import Entry
from scheduler_svc.tenants.opening import Tenants
from scheduler_svc.tenants.registry import TenantRegistry
from scheduler_svc.tenants.salts import CacheSalts
from scheduler_svc.tenants.store import FILE_NAME, Record, TenantStore

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


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def credential(key: str, **times: str) -> Credential:
    return Credential.model_validate({"key": key, **times})


# -- credentials


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


# -- changes


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


async def test_the_audit_log_tells_each_field_before_and_after(desk: Desk) -> None:
    made, _ = await desk.changes.create(OP, "new", {"weight": 3.0, "limits": {"max_in_flight": 2}}, None, with_key=True)
    await desk.changes.update(OP, "new", "", {"limits": {"max_in_flight": 5}, "operator": True})
    rotated, _, _ = await desk.changes.rotate(OP, "new", "", 60.0, None)
    old, new = (each.key_id for each in rotated.keys)
    told = [
        {name: json.loads(text) for name, text in each.changes.items()} for each in desk.tenants.audit.newest_first()
    ]
    assert told == [
        {f"key {old}": ["counts", "until 2026-12-01T12:01:00+00:00"], f"key {new}": [None, "counts"]},
        {"limits.max_in_flight": [2, 5], "operator": [False, True]},
        {
            "classes": [None, ["ls", "be"]], "default_class": [None, "be"], "weight": [None, 3.0],
            "limits.max_in_flight": [None, 2], f"key {old}": [None, "counts"],
        },
    ]  # fmt: skip
    assert made.keys[0].key_id == old


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


# -- the file


def write(path: Path, *tenants: dict[str, Any]) -> None:
    fresh = path.with_suffix(".tmp")
    fresh.write_text(yaml.safe_dump({"tenants": list(tenants)}))
    fresh.replace(path)


async def test_a_changed_file_holds_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    write(file, {"name": "filed", "key": "filed-key"}, {"name": "going", "key": "going-key"})
    desk = Desk(tmp_path / "state", tenants_file=file)
    assert desk.asks("filed-key") == "filed"
    write(file, {"name": "filed", "key": "other-key", "weight": 2.0}, {"name": "coming", "key": "coming-key"})
    assert await desk.tenants.watch.reload()
    assert (desk.asks("other-key"), desk.asks("coming-key")) == ("filed", "coming")
    assert desk.refused("filed-key") == desk.refused("going-key") == "UNAUTHENTICATED"
    newest = next(desk.tenants.audit.newest_first())
    assert (newest.actor, newest.action) == ("file", "ReloadTenants")
    assert {name: json.loads(text) for name, text in newest.changes.items()} == {
        "added": [1, ["coming"]], "removed": [1, ["going"]], "changed": [1, ["filed"]],
    }  # fmt: skip
    assert "other-key" not in (desk.folder / "audit.jsonl").read_text()


BROKEN = [
    ("tenants: [", "is not YAML"),
    ("", "must be a list of tenants"),
    ("tenants: {}", "must be a list of tenants"),
    ("[]\n---\n[]", "is not YAML"),
    ("tenants: [{name: x, key: secret-in-file, wieght: 2}]", r"tenants\.0\.wieght"),
    ("tenants: [{name: x, key: secret-in-file, weight: -2}]", r"tenants\.0\.weight"),
    ("tenants: [{name: x}]", "give exactly one of key"),
    ("tenants: [{name: x, key: a}, {name: x, key: b}]", "'x' is there twice"),
    ("tenants: [{name: alice, key: b}]", "in the configuration and in the tenants file"),
    ("tenants: [{name: x, key: alice-key}]", "have the same key"),
    ("tenants: [{name: x, key_file: /nonexistent/key}]", "does not exist"),
    ("tenants: [{name: x, key_env: NO_SUCH_VARIABLE_HERE}]", "is not set"),
    ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ("[" * 100_000, "nested more than 10 deep"),
    ("a: &a [x]\ntenants: [*a, *a]", "must be a list of tenants"),
    ("\xff\xfe", "must be a list|can't be read"),
]


@pytest.mark.parametrize(("text", "says"), BROKEN)
async def test_a_broken_file_keeps_what_was_in_force_and_says_so(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tenants.yaml"
    write(file, {"name": "filed", "key": "filed-key"})
    desk = Desk(tmp_path / "state", tenants_file=file)
    file.write_text(text)
    assert not await desk.tenants.watch.reload()
    status = desk.tenants.status()
    assert desk.asks("filed-key") == "filed"
    with pytest.raises(ConfigError, match=says):
        raise ConfigError(status.file_problem)
    assert "secret-in-file" not in status.file_problem
    assert desk.tenants.watch.reloads == {"ok": 0, "refused": 1}
    with pytest.raises(ConfigError, match=says):
        Desk(tmp_path / "elsewhere", tenants_file=file)
    write(file, {"name": "mended", "key": "filed-key"})
    assert await desk.tenants.watch.reload()
    assert (desk.asks("filed-key"), desk.tenants.status().file_problem) == ("mended", "")


async def test_a_file_that_goes_keeps_what_was_in_force(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    write(file, {"name": "filed", "key": "filed-key"})
    desk = Desk(tmp_path / "state", tenants_file=file)
    file.unlink()
    assert not await desk.tenants.watch.reload()
    assert "does not exist" in desk.tenants.watch.problem
    assert desk.asks("filed-key") == "filed"


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_changes_of_file_and_key_files_are_seen(tmp_path: Path) -> None:
    file, secret = tmp_path / "tenants.yaml", tmp_path / "key"
    secret.write_text("first-key")
    write(file, {"name": "filed", "key_file": str(secret)})
    desk = Desk(tmp_path / "state", tenants_file=file, tenants_watch_s=0.01)
    desk.tenants.start()
    try:
        secret.write_text("second-key")
        await until(lambda: desk.registry.by_key(hashlib.sha256(b"second-key").digest()) is not None)
        assert desk.refused("first-key") == "UNAUTHENTICATED"
        write(file, {"name": "filed", "key_file": str(secret), "disabled": True})
        await until(lambda: desk.entry("filed").tenant.disabled)
    finally:
        await desk.tenants.close()


async def test_what_an_operator_made_is_not_taken_over_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    write(file)
    desk = Desk(tmp_path / "state", tenants_file=file)
    _, key = await desk.changes.create(OP, "mine", {"weight": 2.0}, None, with_key=True)
    write(file, {"name": "mine", "key": "file-key", "operator": True})
    assert await desk.tenants.watch.reload()
    assert desk.asks(key) == "mine"
    assert desk.refused("file-key") == "UNAUTHENTICATED"
    assert list(desk.tenants.status().hidden) == ["mine"]


async def test_what_is_changed_while_the_file_is_read_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    write(file, {"name": "filed", "key": "filed-key"})
    desk = Desk(tmp_path / "state", tenants_file=file)
    write(file, {"name": "filed", "key": "filed-key", "default_class": "ls"})
    await asyncio.gather(
        desk.tenants.watch.reload(),
        desk.changes.update(OP, "filed", "", {"weight": 3.0}),
        desk.changes.update(OP, "alice", "", {"weight": 4.0}),
        desk.tenants.watch.reload(),
    )
    filed = desk.entry("filed").tenant
    assert (filed.weight, filed.default_class, desk.entry("alice").tenant.weight) == (3.0, "ls", 4.0)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    with file.open("wb") as opened:
        os.truncate(opened.fileno(), 9 * 1024 * 1024)
    with pytest.raises(ConfigError, match="at most 8 MB"):
        load_tenants(file)


# -- the audit log, salts


def test_the_audit_log_is_bounded_and_keeps_the_newest(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=8_000)
    for index in range(200):
        log.append(NOON_S + index, "op", "peer", "UpdateTenant", f"t{index}", {"weight": (1, index)})
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8_000
    kept = [each.sequence for each in log.newest_first()]
    assert kept[0] == 200
    assert kept == list(range(200, 200 - len(kept), -1))
    assert len(kept) > 15
    assert AuditLog(tmp_path, max_bytes=8_000).append(NOON_S, "op", "", "X").sequence == 201


def test_a_line_that_a_crash_cut_spoils_no_other(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=20_000)
    log.append(NOON_S, "op", "", "First")
    with (tmp_path / "audit.jsonl").open("a") as file:
        file.write('{"sequence": 2, "at')
    later = AuditLog(tmp_path, max_bytes=20_000)
    later.append(NOON_S, "op", "", "Second")
    assert [each.action for each in later.newest_first()] == ["Second", "First"]


def test_hostile_text_stays_one_line(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=100_000)
    log.append(NOON_S, "op", "peer\n{}", "X", "t", {"certificate_names": ([], ["\n\r\u2028" * 3000])}, "\n" * 5000)
    assert len((tmp_path / "audit.jsonl").read_text().split("\n")) == 2
    found = next(log.newest_first())
    assert found.peer == "peer\n{}"
    assert len(found.changes["certificate_names"]) == len(found.problem) == 2000


def test_salts_differ_by_tenant_stay_and_name_nobody(tmp_path: Path) -> None:
    salts, again = CacheSalts.kept(tmp_path), CacheSalts.kept(tmp_path)
    assert salts.of("alice") == again.of("alice") != salts.of("bob")
    assert CacheSalts.kept(tmp_path / "other").of("alice") != salts.of("alice")
    assert "alice" not in salts.of("alice")
    assert len(salts.of("alice")) == 32
