"""The tenants file: read again without a restart, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.config import ConfigError
from fairlead.config.tenants_file import load_tenants
from tests.unit.tenant_desk import OP, Desk


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
