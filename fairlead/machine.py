"""What this machine has, as Linux tells it: CPU instructions, memory, GPUs. Files are read anew at each call."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
GPU_DEVICES = tuple(Path(name) for name in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
"""NVIDIA's driver, AMD's, and either under WSL."""


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Instruction sets of the first CPU in the text of /proc/cpuinfo; empty where it names none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def read_cpu_flags() -> frozenset[str]:
    """`cpu_flags` of this machine; empty where the system does not tell."""
    try:
        return cpu_flags(CPUINFO.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return frozenset()


def lacks_avx2(flags: frozenset[str], machine: str | None = None) -> bool:
    """Whether vLLM's CPU build can't run: an x86 CPU that is known to have no AVX2 (`machine`: as platform.machine)."""
    return (machine or platform.machine()) in ("x86_64", "AMD64") and bool(flags) and "avx2" not in flags


def available_bytes() -> int | None:
    """Memory that a new process can have without swapping, a container's limit included; None where nobody tells."""
    found = [value for value in (_system_bytes(), _cgroup_bytes()) if value is not None]
    return min(found, default=None)


def gpu_visible() -> bool:
    """Whether a GPU's driver is there for this process (in a container: whether it was given one)."""
    return any(device.exists() for device in GPU_DEVICES)


def _system_bytes() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _cgroup_bytes() -> int | None:
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (CGROUP / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return max(0, int(limit) - int(used)) if limit.isdecimal() and used.isdecimal() else None
