"""Many runs: capacities first, then every policy at every load, or the highest load that still keeps the SLOs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from simulator.figures import Origin, Row, rows_of
from simulator.policies import Choice, find_policies
from simulator.run import Result, Run, Setup, machine_of, measure_capacity, simulate, workload_of

T = TypeVar("T")

GOODPUT_ATTAINMENT = 0.99
GOODPUT_LEAST, GOODPUT_MOST, GOODPUT_STEP = 0.1, 2.5, 0.01

_shares: Any = None
"""In a worker process: the share done of each task, shared with the parent."""


@dataclass(frozen=True, slots=True)
class Study:
    """What to compare.

    Attributes:
        sources: traces.
        choices: policies.
        loads: multiples of each trace's FCFS capacity.
        setup: the rest.
    """

    sources: tuple[str, ...]
    choices: tuple[Choice, ...]
    loads: tuple[float, ...]
    setup: Setup


Watch = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


class Pool:
    """Does tasks in this process or in several, in any order; results come as they are ready.

    Args:
        jobs: processes; 1: this one.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def map(
        self, tasks: Sequence[tuple[Callable[..., T], tuple[Any, ...]]], done: Callable[[float], None]
    ) -> Iterator[tuple[int, T]]:
        """(index of the task, its result); `done` is told how many tasks are done, parts of them included."""
        if self._jobs == 1 or len(tasks) < 2:
            for index, (function, args) in enumerate(tasks):
                _use(_Local(index, done))
                yield index, function(*args)
                done(index + 1.0)
            return
        context = multiprocessing.get_context("spawn")
        shares = context.Array("d", len(tasks))
        with ProcessPoolExecutor(min(self._jobs, len(tasks)), context, initializer=_use, initargs=(shares,)) as pool:
            futures: dict[Future[T], int] = {
                pool.submit(_numbered, index, function, args): index for index, (function, args) in enumerate(tasks)
            }
            try:
                pending = set(futures)
                while pending:
                    ready, pending = wait(pending, 0.2, FIRST_COMPLETED)
                    done(sum(shares[:]))
                    for future in ready:
                        shares[futures[future]] = 1.0
                        yield futures[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


class _Local:
    """Shares done, where there is one process."""

    def __init__(self, before: int, done: Callable[[float], None]) -> None:
        self._before = before
        self._done = done

    def __setitem__(self, index: int, share: float) -> None:
        self._done(self._before + share)


_number = 0


def _use(shares: Any) -> None:
    global _shares  # noqa: PLW0603 - a process pool hands shared memory to its processes through a global only
    _shares = shares


def _numbered(index: int, function: Callable[..., T], args: tuple[Any, ...]) -> T:
    global _number  # noqa: PLW0603 - as above: which of the shares is this task's
    _number = index
    return function(*args)


def _report(share: float) -> None:
    if _shares is not None:
        _shares[_number] = share


def rows_for(run: Run, setup: Setup) -> list[Row]:
    """Simulates one run and says what came of it."""
    return rows_from(run, setup, simulate(run, setup, progress=_report))


def rows_from(run: Run, setup: Setup, result: Result) -> list[Row]:
    """What came of one run."""
    settings = run.choice.settings
    rules = settings.step_rules(find_policies()[run.choice.name](settings).rules())
    budget = machine_of(run.choice, setup).limits.step_token_budget
    name = workload_of(run.source, setup.requests, setup.seed).name
    origin = Origin(name, run.choice.text, run.load, rules.class_tiers and rules.relegate_late)
    return rows_of(origin, result.requests, setup.step_model, budget)


def capacities(study: Study, jobs: int, watch: Watch) -> dict[str, float]:
    """FCFS capacity of each trace on these machines, requests per second."""
    tasks = [(measure_capacity, (source, study.setup)) for source in study.sources]
    found: dict[str, float] = {}
    for index, capacity in Pool(jobs).map(tasks, lambda done: watch("capacity", done / len(tasks))):
        found[study.sources[index]] = capacity
    watch("capacity", 1.0)
    return found


def sweep(study: Study, capacity: dict[str, float], jobs: int, watch: Watch) -> Iterator[list[Row]]:
    """The rows of every run, in the order of traces, loads and policies."""
    runs = [
        Run(source, choice, load, load * capacity[source])
        for source in study.sources
        for load in study.loads
        for choice in study.choices
    ]
    tasks = [(rows_for, (run, study.setup)) for run in runs]
    ready: dict[int, list[Row]] = {}
    following = 0
    for index, rows in Pool(jobs).map(tasks, lambda done: watch("runs", done / len(tasks))):
        ready[index] = rows
        while following in ready:
            yield ready.pop(following)
            following += 1
    watch("runs", 1.0)


def goodputs(study: Study, capacity: dict[str, float], jobs: int, watch: Watch) -> Iterator[list[Row]]:
    """For each trace and policy the rows at the highest load, to a hundredth, that keeps 99 % of LS within SLO."""
    cases = [(source, choice) for source in study.sources for choice in study.choices]
    tasks = [(find_goodput, (source, choice, study.setup, capacity[source])) for source, choice in cases]
    for _, rows in Pool(jobs).map(tasks, lambda done: watch("goodput", done / len(tasks))):
        yield rows
    watch("goodput", 1.0)


def find_goodput(source: str, choice: Choice, setup: Setup, capacity: float) -> list[Row]:
    """Halves the range of loads, on the assumption that attainment falls with load."""

    def at(load: float) -> list[Row]:
        return rows_for(Run(source, choice, load, load * capacity), setup)

    low, high = round(GOODPUT_LEAST / GOODPUT_STEP), round(GOODPUT_MOST / GOODPUT_STEP)
    best = at(low * GOODPUT_STEP)
    if not keeps_slo(best):
        return [replace(row, goodput=0.0) for row in best]
    tries = (high - low).bit_length()
    for done in range(tries):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        rows = at(round(middle * GOODPUT_STEP, 6))
        if keeps_slo(rows):
            low, best = middle, rows
        else:
            high = middle
        _report(min(0.99, (done + 1) / tries))
    return [replace(row, goodput=row.load) for row in best]


def keeps_slo(rows: Iterable[Row]) -> bool:
    """Whether enough of LS met its targets."""
    return any(row.class_ == "ls" and (row.attainment or 0.0) >= GOODPUT_ATTAINMENT for row in rows)
