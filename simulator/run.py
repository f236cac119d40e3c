"""One run: a workload at a load, a policy, machines and faults, put together, and everything that came of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TextIO

from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import PolicySettings
from simulator.policies import Choice, find_placements, find_policies, follows_progress
from simulator.predictor import FailingPredictor, NoisyPredictor, Predictor, PredictorMood
from simulator.quality import sigma_for_tau
from simulator.worker import Network
from simulator.workload import Targets, Workload, all_at_once, deal, load_workload, only_ls
from simulator.world import Machine, Request, World
from worker_svc.engines.simulated_core import SimulatedLimits
from worker_svc.ordering import StepModel

SLOTS_PER_SEAT = 4
"""A paused sequence keeps its slot, so a worker has more slots than seats."""
HELD_PER_SLOT = 2
PROGRESS_EVERY = 2048


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, and how often.

    Attributes:
        predictor: how it behaves.
        lose_every_s: mean virtual time between losses of a worker; None: never.
        back_after_s: time until another takes its place.
    """

    predictor: PredictorMood = PredictorMood.GOOD
    lose_every_s: float | None = None
    back_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Setup:
    """All that the runs of one study have in common.

    Attributes:
        requests: taken from each trace.
        workers, seats, slots, kv_tokens, block_tokens, token_budget, step_model: the machines, all alike.
        ls_fraction, targets: classes.
        tau: quality of prediction; 0: none.
        fresh_evidence: whether asking again after a window brings new knowledge.
        max_queued: requests that may wait; more are refused.
        seed: of classes, noise, network and faults.
    """

    requests: int = 10_000
    workers: int = 1
    seats: int = 64
    slots: int | None = None
    kv_tokens: int = 120_000
    block_tokens: int = 16
    token_budget: int = 2048
    step_model: StepModel = field(default_factory=StepModel)
    ls_fraction: float = 0.5
    targets: Targets = field(default_factory=Targets)
    tau: float = 0.5
    fresh_evidence: bool = False
    prediction_ms: float = 10.0
    network: Network = field(default_factory=Network)
    max_queued: int = 10_000
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    leaps: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation to do: a trace by name, at `rate_per_s` = `load` times its capacity."""

    source: str
    choice: Choice
    load: float
    rate_per_s: float


@dataclass(slots=True)
class Result:
    """What a run came to: every request that was offered, and how many engine steps it took."""

    requests: list[Request]
    steps: int


@lru_cache(maxsize=4)
def workload_of(source: str, requests: int, seed: int) -> Workload:
    """A workload, read once in a process. Raises TraceError."""
    return load_workload(source, requests, seed)


@lru_cache(maxsize=64)
def sigma_of(source: str, requests: int, seed: int, tau: float) -> float:
    """The noise of a predictor of this quality on a workload, found once in a process."""
    return sigma_for_tau(workload_of(source, requests, seed).lengths, tau)


def simulate(
    run: Run, setup: Setup, *, progress: Callable[[float], None] | None = None, log: TextIO | None = None
) -> Result:
    """Does one run.

    Args:
        run: what.
        setup: on what.
        progress: told the share of requests that have ended, now and then.
        log: takes the decision log.

    Raises:
        TraceError: the trace can't be read.
        PolicyError: the policy can't be had.
    """
    workload = workload_of(run.source, setup.requests, setup.seed)
    requests = deal(
        workload,
        rate_per_s=run.rate_per_s,
        ls_fraction=setup.ls_fraction,
        targets=setup.targets,
        seed=setup.seed,
    )
    if run.choice.ls_alone:
        requests = only_ls(requests)
    limits = Limits(setup.max_queued, setup.max_queued)
    return drive(
        run.choice, setup, predictor_of(run.source, run.choice, setup, workload), requests, limits, progress, log
    )


def measure_capacity(source: str, setup: Setup) -> float:
    """`capacity_of` a trace by name. Raises TraceError."""
    return capacity_of(workload_of(source, setup.requests, setup.seed), setup)


def capacity_of(workload: Workload, setup: Setup) -> float:
    """Requests per second that FCFS serves while more wait than it can take: the middle 80 % of completions.

    All requests come at once, in the workload's order; faults and bounds on the queue are left out.
    """
    requests = all_at_once(deal(workload, rate_per_s=1.0, ls_fraction=0.0, targets=setup.targets, seed=setup.seed))
    choice = Choice("fcfs", "fcfs", PolicySettings())
    result = drive(choice, replace(setup, faults=Faults()), None, requests, unbounded(requests))
    ends = sorted(request.last_ms for request in result.requests if request.outcome is not None and request.last_ms)
    if len(ends) < 2:
        raise ValueError(f"{workload.name}: no request of it fits into {setup.kv_tokens} KV tokens")
    first, last = len(ends) // 10, len(ends) - 1 - len(ends) // 10
    span_s = (ends[last] - ends[first]) / 1000.0
    return (last - first) / span_s if span_s > 0 else len(ends) / (ends[-1] / 1000.0)


def unbounded(requests: Sequence[Request]) -> Limits:
    """Limits under which none of these is refused."""
    return Limits(len(requests) + 1, len(requests) + 1)


def drive(
    choice: Choice,
    setup: Setup,
    predictor: Predictor | None,
    requests: list[Request],
    limits: Limits,
    progress: Callable[[float], None] | None = None,
    log: TextIO | None = None,
) -> Result:
    """Runs these requests, in order of arrival, to the end."""
    core = SchedulerCore(choice.name, choice.settings, limits, policies=find_policies(), placements=find_placements())
    world = World(
        core,
        predictor,
        network=setup.network,
        seed=setup.seed,
        leaps=setup.leaps,
        tells_progress=setup.faults.lose_every_s is not None or follows_progress(core.policy),
        log=log,
    )
    machine = machine_of(choice, setup)
    for _ in range(setup.workers):
        world.add_worker(machine)
    trouble = _Trouble(world, machine, setup) if setup.faults.lose_every_s is not None else None
    run_to_the_end(world, requests, progress)
    if trouble is not None:
        trouble.over = True
    return Result(requests, world.steps)


def run_to_the_end(world: World, requests: Sequence[Request], progress: Callable[[float], None] | None) -> None:
    """Submits everything, in order of arrival, at its time and goes on until all of it has ended."""
    arrivals = iter(requests)

    def submit(request: Request) -> None:
        following = next(arrivals, None)
        if following is not None:
            world.at(following.arrival_ms, submit, following)
        world.submit(request)

    first = next(arrivals, None)
    if first is not None:
        world.at(first.arrival_ms, submit, first)
    live, done = world.core.live_jobs(), 0
    while len(world.requests) < len(requests) or live:
        if not world.advance():
            raise RuntimeError(f"{len(live)} requests are left and nothing is going to happen: no worker can run them")
        done += 1
        if progress is not None and done % PROGRESS_EVERY == 0:
            progress((len(world.requests) - len(live)) / len(requests))


def machine_of(choice: Choice, setup: Setup) -> Machine:
    """The workers of a run, with the sizes that the policy asks for."""
    seats = choice.seats or setup.seats
    slots = choice.slots or setup.slots or SLOTS_PER_SEAT * seats
    limits = SimulatedLimits(
        choice.token_budget or setup.token_budget,
        min(seats, slots),
        slots,
        setup.kv_tokens // setup.block_tokens,
        setup.block_tokens,
    )
    return Machine(limits, setup.step_model, max_held=HELD_PER_SLOT * slots)


def predictor_of(source: str, choice: Choice, setup: Setup, workload: Workload) -> Predictor | None:
    """What answers the core's questions about a workload; None where there is no prediction."""
    tau = setup.tau if choice.tau is None else choice.tau
    if tau == 0.0:
        return None
    made = NoisyPredictor(
        workload.lengths,
        sigma_of(source, setup.requests, setup.seed, tau),
        max_tokens=workload.max_tokens,
        delay_ms=setup.prediction_ms,
        seed=setup.seed,
        fresh_evidence=setup.fresh_evidence,
    )
    mood = setup.faults.predictor
    return made if mood is PredictorMood.GOOD else FailingPredictor(made, mood, setup.seed)


class _Trouble:
    """Loses a random worker now and then, and brings another up later."""

    def __init__(self, world: World, machine: Machine, setup: Setup) -> None:
        assert setup.faults.lose_every_s is not None
        self.over = False
        self._world = world
        self._machine = machine
        self._mean_ms = setup.faults.lose_every_s * 1000.0
        self._back_ms = setup.faults.back_after_s * 1000.0
        self._rng = random.Random(f"faults {setup.seed}")
        self._again()

    def _again(self) -> None:
        self._world.at(self._world.now_ms + self._rng.expovariate(1.0 / self._mean_ms), self._strike)

    def _strike(self) -> None:
        if self.over:
            return
        if self._world.workers:
            self._world.lose_worker(self._rng.choice(list(self._world.workers)))
            self._world.at(self._world.now_ms + self._back_ms, self._return)
        self._again()

    def _return(self) -> None:
        self._world.add_worker(self._machine)
