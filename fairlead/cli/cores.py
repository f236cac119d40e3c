"""Which CPUs a suite on this machine uses: an engine on a CPU keeps one to itself.

Each token of each client wakes several processes. The kernel likes to wake them where the engine runs, which
interrupts its steps.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

YIELDING_NICE = 10
_GPU_DEVICE = Path("/dev/nvidiactl")


def engine_cpus(available: set[int], workers: int, threads: int) -> list[tuple[int, ...]]:
    """CPUs for the engine of each worker; empty where that would leave none for the services and clients.

    Args:
        available: CPUs that this process may use.
        workers: engines on this machine.
        threads: that each engine computes with (OMP_NUM_THREADS).
    """
    ordered = sorted(available)
    if len(ordered) <= workers * threads:
        return []
    return [tuple(ordered[index * threads : (index + 1) * threads]) for index in range(workers)]


def plan_cpus(engine: str, workers: int) -> list[tuple[int, ...]]:
    """`engine_cpus` for this machine; empty unless real engines run on its CPUs."""
    if engine != "vllm" or _GPU_DEVICE.exists() or not hasattr(os, "sched_getaffinity"):
        return []
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    return engine_cpus(os.sched_getaffinity(0), workers, int(threads) if threads.isdecimal() else 1)


def yield_cpu(pid: int) -> None:
    """A started process lets all others go first, where they share what an engine leaves of CPUs.

    For the predictor: it computes for milliseconds at each arrival, and a late prediction costs little; the token that
    waits behind it is somebody's first.

    Each service has a session of its own, and where the kernel groups processes by session (`autogroup`) their nice
    values count inside the group alone: then the group is what has to yield.
    """
    with suppress(OSError):  # it has ended already, and its parent will tell so
        os.setpriority(os.PRIO_PROCESS, pid, YIELDING_NICE)
    with suppress(OSError):  # a kernel without such groups, or one that lets nobody change them just now
        if os.getsid(pid) == pid:
            Path(f"/proc/{pid}/autogroup").write_text(str(YIELDING_NICE))


@contextmanager
def kept_off(cpus: list[tuple[int, ...]]) -> Generator[None]:
    """This process, and what it starts meanwhile, stays off these CPUs; afterwards it may use all of its own again."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - {cpu for chosen in cpus for cpu in chosen})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
