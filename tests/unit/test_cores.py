"""Which CPUs a suite uses on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.cli.cores import YIELDING_NICE, engine_cpus, kept_off, yield_cpu


@pytest.mark.parametrize(
    ("available", "workers", "threads", "expected"),
    [
        ({0, 1}, 1, 1, [(0,)]),
        ({0}, 1, 1, []),
        ({0, 1}, 2, 1, []),
        ({4, 5, 6, 7, 8}, 2, 2, [(4, 5), (6, 7)]),
    ],
)
def test_engines_keep_cpus_only_where_some_are_left_for_the_rest(
    available: set[int], workers: int, threads: int, expected: list[tuple[int, ...]]
) -> None:
    assert engine_cpus(available, workers, threads) == expected


def test_this_process_gets_its_cpus_back() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("needs two CPUs")
    kept = (min(before),)
    with kept_off([kept]):
        assert os.sched_getaffinity(0) == before - {*kept}
    assert os.sched_getaffinity(0) == before


def test_a_process_that_yields_lets_others_go_first() -> None:
    if os.nice(0) >= YIELDING_NICE:
        pytest.skip("this process yields already")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield_cpu(process.pid)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == YIELDING_NICE
        process.communicate(b"\n")
    yield_cpu(process.pid)  # it has ended: nothing to be done, and no error


@pytest.mark.parametrize("own_session", [True, False])
def test_a_session_of_its_own_yields_whole_and_a_shared_one_does_not(own_session: bool) -> None:
    group = Path("/proc/self/autogroup")
    if not group.exists():
        pytest.skip("this kernel does not group processes by session")
    before = group.read_text()
    with subprocess.Popen(
        [sys.executable, "-c", "print(); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        start_new_session=own_session,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        yield_cpu(process.pid)
        told = Path(f"/proc/{process.pid}/autogroup").read_text()
        process.communicate(b"\n")
    assert told.endswith(f"nice {YIELDING_NICE}\n") == (own_session or before.endswith(f"nice {YIELDING_NICE}\n"))
    assert group.read_text() == before
