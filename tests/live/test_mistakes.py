"""What a new user gets wrong, done for real: one clear sentence with its remedy, no traceback, the right exit code."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.live.foreign_client import ROOT
from tests.live.scheduler_suite import running_suite
from tests.live.suite_process import environment

pytestmark = pytest.mark.live
WITHIN_S = 60.0
TENANTS = [{"name": "me", "key": "k"}]
NOBODY = "127.0.0.1:1"


async def told(
    state: Path, *command: str, code: int, more: dict[str, str] | None = None, before: Callable[[], None] | None = None
) -> str:
    """Runs a command that must end by itself with this code; returns the sentence it leaves on standard error."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**environment(state), **(more or {})}, cwd=ROOT, preexec_fn=before,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WITHIN_S):
            out, raw = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    errors = raw.decode()
    assert process.returncode == code, out.decode() + errors
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


def fairlead(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "fairlead.cli.main", *arguments)


def written(folder: Path, **sections: object) -> str:
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(sections))
    return str(path)


async def test_wrong_address(tmp_path: Path) -> None:
    said = await told(tmp_path, *fairlead("generate", "hi", "--address", NOBODY, "--key", "k"), code=1)
    assert said == (
        f"error: no scheduler answers at {NOBODY}; start one with `fairlead up` or give its address with --address"
    )


async def test_no_worker_yet(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=[], predictor=None) as suite:
        asking = fairlead("generate", "hi", "--address", suite.scheduler.address, "--key", "alice-key")
        said = await told(tmp_path, *asking, code=1)
        assert "no worker" in said
        assert "fairlead status" in said
        examined = fairlead("doctor", "--remote", "--address", suite.scheduler.address, "--key", "op-key")
        assert (await told(tmp_path, *examined, code=1)).startswith("1 of ")


async def test_wrong_key_and_unknown_model(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        address = ("--address", suite.scheduler.address)
        said = await told(tmp_path, *fairlead("generate", "hi", *address, "--key", "wrong"), code=1)
        assert "no tenant has this key" in said
        assert "--key or FAIRLEAD_KEY" in said
        asking = fairlead("generate", "hi", *address, "--key", "alice-key", "--model", "gpt")
        said = await told(tmp_path, *asking, code=1)
        assert "'gpt'" in said
        assert "demo" in said


async def test_port_taken(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        config = written(
            tmp_path, worker={"listen": listen, "engine": "simulated"}, scheduler={"listen": "127.0.0.1:0"},
            predictor={"listen": "127.0.0.1:0"},
        )  # fmt: skip
        said = await told(tmp_path, *fairlead("up", "--config", config), code=1)
    assert f"worker.listen: cannot listen on {listen}" in said
    assert "--free-ports" in said


async def test_model_folder_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "no-such-model")
    start = fairlead("up", "--model", missing, "--free-ports", "--predictor", "none", "--logs", str(tmp_path / "logs"))
    said = await told(tmp_path, *start, code=1)
    assert said == (
        f"error: worker-0 ended with code 1: worker.model: there is no folder '{missing}'; "
        "give a folder, a Hugging Face id or 'demo'"
    )


async def test_too_little_memory(tmp_path: Path) -> None:
    start = fairlead("up", "--free-ports", "--predictor", "none", "--logs", str(tmp_path / "logs"))
    said = await told(tmp_path, *start, code=1, more={"VLLM_CPU_KVCACHE_SPACE": "100000"})
    assert "not enough memory" in said
    assert "the KV cache 100000 GiB" in said
    assert "set VLLM_CPU_KVCACHE_SPACE (GiB) lower or take a smaller model" in said


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({"schedulr": {}}, "schedulr"),
        ({"scheduler": {"polcy": "slo"}}, "scheduler.polcy"),
        ({"worker": {"step_seats": 0}}, "worker.step_seats"),
        ({"tenants": [{"name": "Me!", "key": "k"}]}, "tenants.0.name"),
    ],
)
async def test_configuration_typo(sections: dict[str, object], names: str, tmp_path: Path) -> None:
    said = await told(tmp_path, *fairlead("up", "--config", written(tmp_path, **sections)), code=2)
    assert names in said
    assert "suite.yaml" in said


async def test_disk_full_for_the_state(tmp_path: Path) -> None:
    config = written(tmp_path, scheduler={"listen": "127.0.0.1:0", "predictor": None}, tenants=TENANTS)
    said = await told(
        tmp_path, sys.executable, "-m", "scheduler_svc", "--config", config, code=2,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )  # fmt: skip
    assert "scheduler.state_dir" in said
    assert "writable or set another" in said


async def test_no_vllm(tmp_path: Path) -> None:
    """The environment's own packages, without vLLM's: as after a plain `pip install fairlead`."""
    lines = (
        "import sys, importlib.util as util",
        "find = util.find_spec",
        "util.find_spec = lambda name, *rest: None if name == 'vllm' else find(name, *rest)",
        "sys.argv[1:] = ['--listen', '127.0.0.1:0']",
        "from worker_svc.__main__ import main",
        "main()",
    )
    said = await told(tmp_path, sys.executable, "-c", "\n".join(lines), code=1)
    assert "vLLM is not installed; `pip install 'fairlead[worker]'` on a machine with a GPU" in said


async def test_python_too_old(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    said = await told(tmp_path, str(ROOT / "tools" / "setup.sh"), code=1, more={"PYTHON": str(old)})
    assert said.startswith("setup: needs Python 3.11")
    assert "make setup PYTHON=python3.11" in said


async def test_doctor_of_a_running_suite_names_what_is_missing(tmp_path: Path) -> None:
    async with running_suite(tmp_path, addresses=[NOBODY]) as suite:
        file = str(tmp_path / "d.json")
        address = ("--remote", "--address", suite.scheduler.address, "--json", file)
        said = await told(tmp_path, *fairlead("doctor", *address, "--key", "op-key"), code=1)
        assert said == "1 of 5 checks fail"
    findings = json.loads((tmp_path / "d.json").read_text())["findings"]
    (failed,) = [each for each in findings if each["state"] == "fail"]
    assert failed["check"] == "workers"
    assert f"{NOBODY} is not connected" in failed["told"]
    assert "scheduler.workers" in failed["remedy"]
