"""The command line without a suite: help, and errors that say what to do."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.cli.problems import explain
from fairlead.cli.session import Session, drop_session, find_access, load_session, reachable, save_session, session_file
from fairlead.cli.suite import Suite, SuiteOptions, change, child_environment, plain, with_demo_tenants
from fairlead.cli.up import choose
from fairlead.client import FairleadError, Overloaded, PermissionDenied, Unauthenticated, Unavailable
from fairlead.config import Config, ConfigError, load_config
from fairlead.rpc import ErrorDetails

NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No suite, key or address of the machine's owner reaches a test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("FAIRLEAD_KEY", "FAIRLEAD_ADDRESS", "FAIRLEAD_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("command", ["up", "generate", "replay", "policy", "status", "doctor"])
def test_every_command_explains_itself(command: str) -> None:
    code, text = run(command, "--help")
    assert code == 0
    assert "Usage" in text
    assert command in run("--help")[1]


def test_version_is_printed() -> None:
    code, text = run("--version")
    assert code == 0
    assert text


@pytest.mark.parametrize(
    "command",
    [("generate", "hi"), ("status",), ("policy", "list"), ("policy", "set", "slo"), ("replay", "--requests", "1")],
)
def test_wrong_address_is_one_sentence_with_its_remedy(command: tuple[str, ...]) -> None:
    code, text = run(*command, "--address", NOBODY, "--key", "k")
    if command[0] == "replay":
        assert (code, "no request finished" in text) == (1, True)
    else:
        assert code == 1
        assert f"no scheduler answers at {NOBODY}; start one with `fairlead up`" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("replay", "--trace", "t.csv", "--mix"), "--trace and --mix exclude each other"),
        (("replay", "--rate", "1", "--load", "1"), "--rate and --load exclude each other"),
        (("replay", "--rate", "-1"), "must be positive"),
        (("replay", "--rate", "nan"), "must be positive"),
        (("replay", "--key", "k", "--trace", "none.csv"), "none.csv: there is no such file"),
        (("generate", "hi", "--class", "urgent"), "Invalid value for '--class'"),
        (("generate", "hi", "--tenant", "nobody"), "no key is known for tenant 'nobody'"),
        (("generate", "hi", "--config", "none.yaml"), "none.yaml does not exist"),
        (("up", "--config", "none.yaml"), "none.yaml does not exist"),
        (("up", "--workers", "0"), "Invalid value for '--workers'"),
    ],
)
def test_wrong_use_is_said_before_anything_starts(arguments: tuple[str, ...], told: str) -> None:
    code, text = run(*arguments, "--address", NOBODY) if arguments[0] != "up" else run(*arguments)
    assert code != 0
    assert told in text


def test_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        file = tmp_path / "c.yaml"
        file.write_text(f"worker: {{listen: '127.0.0.1:{port}', engine: simulated}}\n")
        code, text = run("up", "--config", str(file), "--port", "0")
    assert code == 1
    assert f"worker.listen: cannot listen on 127.0.0.1:{port}" in text
    assert "--free-ports" in text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unauthenticated("unknown key"), "unknown key; give a key that the scheduler knows with --key"),
        (PermissionDenied("operators only"), "give an operator's key"),
        (Unavailable("no workers"), "cannot serve now: no workers"),
        (
            Unavailable("no worker is connected", details=ErrorDetails(reason="NO_WORKERS")),
            "cannot serve now: no worker",
        ),
        (Overloaded("queue full.", details=ErrorDetails(retry_after_ms=1500)), "queue full; try again in 1.5 s"),
    ],
)
def test_refusals_come_with_a_remedy(error: FairleadError, told: str) -> None:
    assert told in explain(error, NOBODY)


def test_session_is_private_found_and_forgotten_by_its_owner_alone() -> None:
    save_session(Session("127.0.0.1:9", 42, {"interactive": "a", "operator": "o"}))
    assert stat.S_IMODE(session_file().stat().st_mode) == 0o600
    access = find_access(None, None, None)
    assert (access.address, access.key(None), access.key(None, operator=True)) == ("127.0.0.1:9", "a", "o")
    drop_session(41)
    assert load_session() is not None
    drop_session(42)
    assert load_session() is None
    session_file().write_text("{}")
    assert load_session() is None


def test_options_win_over_environment_over_session(monkeypatch: pytest.MonkeyPatch) -> None:
    save_session(Session("127.0.0.1:9", 42, {"interactive": "a"}))
    monkeypatch.setenv("FAIRLEAD_ADDRESS", "env:1")
    monkeypatch.setenv("FAIRLEAD_KEY", "env-key")
    assert find_access(None, None, None).address == "env:1"
    assert find_access("given:2", None, None).address == "given:2"
    assert find_access(None, None, None).key("interactive") == "env-key"
    assert find_access(None, "given", None).key(None) == "given"


def test_configuration_names_scheduler_and_keys(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    tenants = [
        {"name": "a", "key": "ka"},
        {"name": "b", "key_env": "TEST_KEY_B"},
        {"name": "c", "key_sha256": "0" * 64},
    ]
    file.write_text(json.dumps({"scheduler": {"listen": "0.0.0.0:7000"}, "tenants": tenants}))
    os.environ["TEST_KEY_B"] = "kb"
    try:
        access = find_access(None, None, file)
    finally:
        del os.environ["TEST_KEY_B"]
    assert access.address == "127.0.0.1:7000"
    assert access.keys == {"a": "ka", "b": "kb"}
    with pytest.raises(ConfigError, match="no key is known for tenant 'c'"):
        access.key("c")


def test_listeners_on_all_interfaces_are_reached_locally() -> None:
    assert [reachable(each) for each in ("0.0.0.0:1", "[::]:2", "10.0.0.1:3")] == [
        "127.0.0.1:1",
        "127.0.0.1:2",
        "10.0.0.1:3",
    ]


def test_children_read_back_the_very_configuration_with_its_keys(tmp_path: Path) -> None:
    config = with_demo_tenants(choose(Config(), engine="simulated", seats=60, predictor="none", port=0))
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(plain(config)))
    again = load_config(file)
    assert again.model_dump() == config.model_dump()
    assert [tenant.key_digest() for tenant in again.tenants] == [tenant.key_digest() for tenant in config.tenants]
    assert (again.scheduler.predictor, again.worker.step_seats, again.worker.slots) == (None, 60, 60)
    assert [tenant.name for tenant in again.tenants if tenant.operator] == ["operator"]


def test_keys_that_overlap_reach_children_too(tmp_path: Path) -> None:
    credentials = [{"key": "old", "retired_after": "2026-12-01T00:00:00Z"}, {"key": "new"}]
    config = Config.model_validate({"tenants": [{"name": "a", "credentials": credentials}]})
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(plain(config)))
    assert load_config(file).tenants == config.tenants


def test_settings_in_the_environment_do_not_reach_children_twice() -> None:
    kept = child_environment(
        {"FAIRLEAD_WORKER__LISTEN": "x", "FAIRLEAD_CONFIG": "y", "FAIRLEAD_KEY_A": "k", "PATH": "p"}
    )
    assert kept == {"FAIRLEAD_KEY_A": "k", "PATH": "p"}


def test_values_that_do_not_fit_are_configuration_errors() -> None:
    with pytest.raises(ConfigError, match="step_seats"):
        choose(Config(), seats=10, slots=5)
    with pytest.raises(ValueError, match="slots"):
        change(Config(), "worker", slots=1)


async def test_suite_whose_service_ends_says_which_and_what_it_wrote(tmp_path: Path) -> None:
    config = change(Config(), "predictor", predictor="no-such-predictor")
    config = change(with_demo_tenants(config), "worker", engine="simulated")
    options = SuiteOptions(free_ports=True, logs=tmp_path / "logs", start_s=60, drain_s=5)
    with pytest.raises(Exception, match="predictor ended with code") as caught:
        async with Suite(config, options):
            pass
    assert "no-such-predictor" in str(caught.value)
    assert (tmp_path / "logs" / "predictor.log").read_text()


def test_the_table_of_a_simulation_cuts_no_name_and_no_figure_off() -> None:
    policies = "slo@overload=relegate,be_share=0.125,slo@overload=reject,be_share=0.125"
    code, text = run("simulate", "--policy", policies, "--load", "0.7", "--requests", "30", "--jobs", "1")
    assert code == 0
    assert "…" not in text
    assert text.replace(" ", "").count("be_share") == 2


def test_every_setting_reaches_the_services_of_a_suite_with_its_secrets(tmp_path: Path) -> None:
    """What `fairlead up` writes for its children is the configuration that it was given."""
    config = Config.model_validate(
        {
            "scheduler": {"journal": "postgresql://user:secret@host/db", "state_dir": str(tmp_path), "predictor": None},
            "security": {"folder": str(tmp_path), "client_ca": str(tmp_path / "ca.crt")},
            "tenants": [
                {"name": "a", "key": "key-of-a"},
                {"name": "b", "credentials": [{"key": "key-of-b", "not_before": "2026-01-01T00:00:00Z"}]},
            ],
        }
    )
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(plain(config)))) == config
