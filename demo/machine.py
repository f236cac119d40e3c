"""Whether the machine was ours: the CPU that other programs used while a run was measured (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


class OtherCpu:
    """CPU time of everything but this process and what it started, since the last look."""

    def __init__(self) -> None:
        self._others_s, self._up_s = self._look()

    def cpus(self) -> float | None:
        """CPUs that others used on average since the last look; None where the system does not tell."""
        before, since = self._others_s, self._up_s
        self._others_s, self._up_s = self._look()
        span_s = self._up_s - since
        return max(0.0, (self._others_s - before) / span_s) if span_s > 0 else None

    def _look(self) -> tuple[float, float]:
        """Busy CPU seconds of the others, and seconds since boot."""
        try:
            ticks = os.sysconf("SC_CLK_TCK")
            user, nice, system, _, _, irq, softirq, *_ = (
                int(word) for word in (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
            )
            busy = user + nice + system + irq + softirq
            up_s = float((_PROC / "uptime").read_text().split()[0])
            return (busy - _own_ticks()) / ticks, up_s
        except (OSError, ValueError):
            return 0.0, 0.0


def _own_ticks() -> int:
    """CPU ticks of this process and its living descendants."""
    parents, used = dict[int, int](), dict[int, int]()
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            parents[int(folder.name)] = int(words[1])
            used[int(folder.name)] = int(words[11]) + int(words[12])
    return sum(ticks for pid, ticks in used.items() if _descends(pid, parents))


def _descends(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = parents.get(pid, 0)
    return False
