"""Keys in files: read, made where they are missing, refused with the remedy; and the probe of health checks."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.config import ConfigError, Tenant
from fairlead.keys import make_missing_keys
from fairlead.probe import probe
from fairlead.rpc import free_port, make_server
from scheduler_svc.tenants.registry import TenantRegistry


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("FAIRLEAD_KEY", "FAIRLEAD_ADDRESS", "FAIRLEAD_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def tenant(name: str, file: Path) -> Tenant:
    return Tenant(name=name, key_file=file)


def test_made_keys_differ_are_private_and_stay(tmp_path: Path) -> None:
    tenants = [tenant(name, tmp_path / "keys" / name) for name in ("a", "b")]
    assert make_missing_keys(tenants) == ["a", "b"]
    keys = [each.read_key() for each in tenants]
    assert len(set(keys)) == 2
    assert all(len(key) >= 24 for key in keys)
    assert all(stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600 for name in ("a", "b"))
    assert make_missing_keys(tenants) == []
    assert [each.read_key() for each in tenants] == keys
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["a", "b"]


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine\n")
    assert make_missing_keys([tenant("a", tmp_path / "a"), tenant("b", tmp_path / "b")]) == ["b"]
    assert tenant("a", tmp_path / "a").read_key() == "mine"


def test_a_key_that_cannot_be_had_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tenant 'a': .*nowhere \(key_file\) does not exist; write the key there"):
        TenantRegistry([tenant("a", tmp_path / "nowhere")])
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match=r"empty \(key_file\) is empty"):
        TenantRegistry([tenant("a", tmp_path / "empty")])
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"no key can be made at .*make the folder writable"):
        make_missing_keys([tenant("a", tmp_path / "file" / "a")])


def test_keys_command_reads_the_configuration_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = CliRunner().invoke(app, ["keys"])
    assert nothing.exit_code == 1
    assert "no key is known here" in nothing.output
    (tmp_path / "a").write_text("key-of-a\n")
    tenants = [{"name": "a", "key_file": str(tmp_path / "a")}, {"name": "b", "key_file": str(tmp_path / "nowhere")}]
    (tmp_path / "c.yaml").write_text(json.dumps({"tenants": tenants}))
    monkeypatch.setenv("FAIRLEAD_CONFIG", str(tmp_path / "c.yaml"))
    assert CliRunner().invoke(app, ["keys", "a"]).stdout == "key-of-a\n"
    assert "key-of-a" in CliRunner().invoke(app, ["keys"]).stdout
    missing = CliRunner().invoke(app, ["keys", "b"])
    assert missing.exit_code == 1
    assert "no key is known for tenant 'b' (known: a)" in " ".join(missing.output.split())


async def test_probe_tells_a_server_that_serves_from_one_that_does_not() -> None:
    server = make_server("127.0.0.1:0", [], port_setting="test")
    await server.start("some.Service")
    try:
        assert await asyncio.to_thread(probe, server.address, "", 5.0) == ""
        assert await asyncio.to_thread(probe, server.address, "some.Service", 5.0) == ""
        await server.set_serving("some.Service", False)
        assert "NOT_SERVING" in await asyncio.to_thread(probe, server.address, "some.Service", 5.0)
        assert "has no service" in await asyncio.to_thread(probe, server.address, "other.Service", 5.0)
    finally:
        await server.stop(0)
    assert "does not answer" in probe(f"127.0.0.1:{free_port()}", "", 1.0)
