"""The audit log of admin changes, and the salts of prefix caches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler_svc.tenants.audit import AuditLog
from scheduler_svc.tenants.salts import CacheSalts
from tests.unit.tenant_desk import NOON_S, OP, Desk


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


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
