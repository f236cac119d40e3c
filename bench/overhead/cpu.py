"""CPU time of processes, from /proc (Linux)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc")
_ENGINE_NAMES = ("EngineCore", "VLLM::Engine")


def cpu_s(pid: int) -> float:
    """CPU seconds that a process, all its threads, has used; 0 once it has ended."""
    try:
        words = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """CPU seconds by role since it was made.

    Args:
        roles: what a process is for, to its pid.
    """

    def __init__(self, roles: Mapping[str, int]) -> None:
        self._roles = roles
        self._before = {role: cpu_s(pid) for role, pid in roles.items()}

    def used(self) -> dict[str, float]:
        """By role, s."""
        return {role: cpu_s(pid) - self._before[role] for role, pid in self._roles.items()}


def engine_core_of(pid: int) -> int:
    """The EngineCore process that vLLM has started below this one: by its name, else the one that computed most.

    Raises:
        LookupError: there is none.
    """
    found = list(_descendants(pid))
    named = [each for each in found if any(name in _command(each) for name in _ENGINE_NAMES)]
    if not found:
        raise LookupError(f"process {pid} has started no engine")
    return max(named or found, key=cpu_s)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended meanwhile
                continue
    found, frontier = list[int](), {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier}
        found += frontier
    return found


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
