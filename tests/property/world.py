"""A small world in virtual time: the real core, real engines' ordering on simulated engines, a network and faults.

One seed repeats a run exactly. The invariants I1-I5 are checked as it runs; `log` is what I9 compares.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Assign,
    CancelOn,
    CancelRequested,
    Change,
    Decision,
    End,
    Event,
    ExecutionEnded,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Reorder,
    Stepped,
    WorkerLost,
    WorkerUp,
)
from worker_svc.engines.simulated_core import SimulatedCore, SimulatedLimits, StepResult
from worker_svc.ordering import StepModel

MODEL = "demo"


class PredictorMood(Enum):
    """How the predictor behaves (I10)."""

    GOOD = "good"
    SLOW = "slow"
    LYING = "lying"
    DEAD = "dead"


@dataclass
class Client:
    """What one client asked for and has received."""

    answer_tokens: int
    received: int = 0
    outcome: Outcome | None = None
    prompt_tokens: int = 0


@dataclass
class Placed:
    """A simulated worker: its engine, and which attempt of which job it runs."""

    name: str
    engine: SimulatedCore
    attempts: dict[int, int] = field(default_factory=dict[int, int])
    stepping: bool = False
    lost: bool = False
    last_down_ms: float = 0.0
    last_up_ms: float = 0.0


class World:
    """Runs until told to stop; `steps` counts engine steps over all workers."""

    def __init__(self, seed: int, *, policy: str = "slo", mood: PredictorMood = PredictorMood.GOOD, workers: int = 2):
        self.seed = seed
        self.rng = random.Random(seed)
        self.mood = mood
        self.now_ms = 0.0
        self.steps = 0
        self.log: list[str] = []
        self.clients: dict[int, Client] = {}
        self.core = SchedulerCore(policy, self._settings(), Limits(max_queued_requests=300, max_queued_per_tenant=250))
        self.workers: dict[str, Placed] = {}
        self._names = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._next_tick_ms: float | None = None
        for _ in range(workers):
            self.add_worker()

    # -- time

    def at(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Does `action` after a delay."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._sequence, action))

    def run(self, *, until_steps: int, arrivals: bool = True) -> None:
        """Lets the world go on, with random arrivals and faults, for so many engine steps; then drains it."""
        if arrivals:
            self.at(0.0, self._arrive_and_again)
            self.at(5.0, self._disturb_and_again)
        self._draining = False
        while self.steps < until_steps and self._advance():
            pass
        self._draining = True
        while self.core.live_jobs() and self._advance():
            if not self.workers:
                self.add_worker()
        while self._queue and self._advance():
            pass
        self.check_end()

    def _advance(self) -> bool:
        if not self._queue:
            return False
        self.now_ms, _, action = heapq.heappop(self._queue)
        action()
        return True

    # -- the core's shell

    def tell(self, event: Event) -> None:
        """An event for the core, and what it decides."""
        self.core.handle(event, self.now_ms)
        self.tick()

    def tick(self) -> None:
        """Lets the core decide and carries its decisions out."""
        for decision in self.core.tick(self.now_ms):
            self.log.append(f"{self.now_ms!r} {decision!r}")
            self._carry_out(decision)
        self.core.ledger.check()
        self._check_pool()
        due_ms = self.core.next_due_ms()
        if due_ms is not None and (self._next_tick_ms is None or due_ms < self._next_tick_ms):
            self._next_tick_ms = due_ms
            self.at(max(0.0, due_ms - self.now_ms), self._timed_tick)

    def _timed_tick(self) -> None:
        self._next_tick_ms = None
        self.tick()

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case AskPrediction():
                self._ask(decision)
            case Assign():
                client = self.clients[decision.job_id]
                assert client.outcome is None, self._broken(f"I3: job {decision.job_id} assigned after its outcome")
                assert decision.forced_tokens == client.received, self._broken("I2: forced tokens are not those sent")
                self._down(decision.worker, lambda worker: self._admit(worker, decision))
            case Reorder():
                self._down(decision.worker, lambda worker: worker.engine.set_ranks(decision.job_ids, decision.rules))
            case CancelOn():
                self._down(decision.worker, lambda worker: self._cancel(worker, decision))
            case End():
                client = self.clients[decision.job_id]
                assert client.outcome is None, self._broken(f"I1: job {decision.job_id} ended twice")
                client.outcome = decision.outcome
                if decision.outcome is Outcome.STOP:
                    assert client.received == client.answer_tokens, self._broken("I2: an answer is not whole")

    def _ask(self, ask: AskPrediction) -> None:
        if self.mood is PredictorMood.DEAD:
            return
        true_tokens = self.clients[ask.job_id].answer_tokens
        delay_ms = self.rng.uniform(1.0, 20.0)
        if self.mood is PredictorMood.SLOW:
            delay_ms = self.rng.uniform(500.0, 4000.0)
        if self.mood is PredictorMood.LYING:
            true_tokens = self.rng.choice((1, 2, 100_000, max(1, 600 - true_tokens)))
        made = LengthDistribution.lognormal(true_tokens * self.rng.lognormvariate(0.0, 0.3), 0.4)
        self.at(delay_ms, lambda: self.tell(Predicted(ask.job_id, ask.generated_tokens, made)))

    # -- workers

    def add_worker(self) -> None:
        """A worker of random size comes up."""
        rng = self.rng
        seats = rng.randint(1, 8)
        limits = SimulatedLimits(
            rng.choice((32, 256, 2048)), seats, seats + rng.randint(0, 8), rng.randint(48, 160), 16
        )
        name = f"w{self._names}"
        self._names += 1
        model = StepModel(rng.uniform(1, 8), rng.uniform(0, 0.1), rng.uniform(0, 0.3), rng.uniform(0, 0.0005))
        self.workers[name] = Placed(name, SimulatedCore(limits, model))
        up = WorkerUp(
            name, MODEL, limits.slots, seats, limits.kv_blocks, limits.kv_block_tokens, max_held=limits.slots + 8
        )
        self.at(0.0, lambda: self.tell(up))

    def lose_worker(self, name: str) -> None:
        """A worker dies with all that it holds."""
        worker = self.workers.pop(name)
        worker.lost = True
        self.tell(WorkerLost(name))

    def _down(self, name: str, action: Callable[[Placed], None]) -> None:
        """To a worker, in order, after the network's delay."""
        worker = self.workers.get(name)
        if worker is None:
            return
        worker.last_down_ms = max(worker.last_down_ms, self.now_ms + self.rng.uniform(0.1, 8.0))

        def deliver() -> None:
            if not worker.lost:
                action(worker)
                self._wake(worker)

        self.at(worker.last_down_ms - self.now_ms, deliver)

    def _up(self, worker: Placed, *events: Event) -> None:
        """One message from a worker, in order, after the network's delay."""
        worker.last_up_ms = max(worker.last_up_ms, self.now_ms + self.rng.uniform(0.1, 8.0))

        def deliver() -> None:
            if worker.lost:
                return
            for event in events:
                if isinstance(event, Stepped):
                    self._receive(worker, event)
                self.core.handle(event, self.now_ms)
            self.tick()

        self.at(worker.last_up_ms - self.now_ms, deliver)

    def _admit(self, worker: Placed, assign: Assign) -> None:
        client = self.clients[assign.job_id]
        job = self.core.job(assign.job_id)
        assert job is not None
        worker.attempts[assign.job_id] = assign.attempt
        worker.engine.add(
            assign.job_id,
            prompt_tokens=client.prompt_tokens + assign.forced_tokens,
            answer_tokens=client.answer_tokens - assign.forced_tokens,
            latency_sensitive=job.spec.latency_sensitive,
            arrival_ms=job.arrival_ms,
            ttft_ms=job.spec.ttft_ms,
            tpot_ms=job.spec.tpot_ms,
            rank=assign.rank,
        )

    def _cancel(self, worker: Placed, cancel: CancelOn) -> None:
        if worker.engine.cancel(cancel.job_id):
            del worker.attempts[cancel.job_id]
            ended = ExecutionEnded(worker.name, cancel.job_id, cancel.attempt, Outcome.CANCELLED_BY_CLIENT)
            self._up(worker, ended)

    def _wake(self, worker: Placed) -> None:
        if not worker.stepping and worker.engine.sequences:
            worker.stepping = True
            self.at(0.0, lambda: self._step(worker))

    def _step(self, worker: Placed) -> None:
        if worker.lost:
            return
        runnable = bool(worker.engine.sequences)
        result = worker.engine.step(self.now_ms)
        self._check_engine(worker, result, runnable)
        worker.stepping = False
        if not result.plan.quotas:
            return
        self.steps += 1
        worker.stepping = True
        self.at(result.step_ms, lambda: self._stepped(worker, result))

    def _stepped(self, worker: Placed, result: StepResult) -> None:
        worker.stepping = False
        if worker.lost:
            return
        attempts = worker.attempts
        changes = tuple(
            (job_id, attempts[job_id], Change(kind.value)) for job_id, kind in result.changes if job_id in attempts
        )
        tokens = tuple((job_id, attempts[job_id], 1) for job_id in result.tokens if job_id in attempts)
        ended = [
            ExecutionEnded(worker.name, job_id, attempts.pop(job_id), Outcome.STOP)
            for job_id in result.ended
            if job_id in attempts
        ]
        self._up(worker, Stepped(worker.name, tokens, changes), *ended)
        self._wake(worker)

    def _receive(self, worker: Placed, event: Stepped) -> None:
        """What the shell does with tokens: to the client, if they belong to the job's present attempt."""
        for job_id, attempt, count in event.tokens:
            job = self.core.live_jobs().get(job_id)
            if job is None or job.attempt != attempt or job.worker != worker.name:
                continue
            self.clients[job_id].received += count
            assert self.clients[job_id].received <= self.clients[job_id].answer_tokens, self._broken("I2: a repeat")

    # -- what happens to it

    def _settings(self) -> PolicySettings:
        seats = self.rng.choice((None, 1, 3, 6))
        window = self.rng.choice((1, 20, 50))
        return PolicySettings(step_seats=seats, window_tokens=window, be_share=self.rng.choice((0.0, 0.05)))

    def arrive(self, *, ls: bool, prompt_tokens: int, answer_tokens: int, **changes: object) -> None:
        """A request is accepted, or refused where the pool is full."""
        tenant = self.rng.choice(("acme", "bits"))
        if self.core.refusal_for(tenant, self.now_ms) is not None:
            return
        job_id = len(self.clients)
        self.clients[job_id] = Client(answer_tokens, prompt_tokens=prompt_tokens)
        spec = Arrived(job_id, tenant, MODEL, ls, 200.0, 30.0, prompt_tokens, max_tokens=700)
        self.tell(replace(spec, **changes))

    def _arrive_and_again(self) -> None:
        rng = self.rng
        if self._draining:
            return
        expires_ms = self.now_ms + rng.uniform(20, 3_000) if rng.random() < 0.1 else None
        self.arrive(
            ls=rng.random() < 0.5,
            prompt_tokens=rng.randint(1, 250),
            answer_tokens=min(500, max(1, int(rng.lognormvariate(3.5, 1.0)))),
            continuable=rng.random() < 0.8,
            expires_ms=expires_ms,
        )
        self.at(rng.expovariate(1 / 25.0), self._arrive_and_again)

    def _disturb_and_again(self) -> None:
        rng = self.rng
        if self._draining:
            return
        live = list(self.core.live_jobs())
        dice = rng.random()
        if dice < 0.5 and live:
            self.tell(CancelRequested(rng.choice(live), Outcome.CANCELLED_BY_CLIENT))
        elif dice < 0.56 and self.workers:
            self.lose_worker(rng.choice(list(self.workers)))
        elif dice < 0.65 and len(self.workers) < 3:
            self.add_worker()
        elif dice < 0.75:
            self.tell(PolicyChanged(rng.choice(sorted(BUILT_IN)), self._settings()))
        self.at(rng.expovariate(1 / 150.0), self._disturb_and_again)

    # -- invariants

    def _broken(self, what: str) -> str:
        return f"seed {self.seed}, mood {self.mood.value}, at {self.now_ms:.3f} ms, step {self.steps}: {what}"

    def _check_engine(self, worker: Placed, result: StepResult, runnable: bool) -> None:
        engine = worker.engine
        held = sum(sequence.blocks for sequence in engine.sequences.values())
        assert engine.free_blocks >= 0, self._broken("I4: more KV blocks than there are")
        gone = held + engine.free_blocks
        assert gone == engine.limits.kv_blocks, self._broken(f"I4: {gone} of {engine.limits.kv_blocks} KV blocks")
        assert result.plan.quotas or not runnable, self._broken("I5: an empty step while something is runnable")
        for job_id in result.tokens:
            assert job_id in worker.attempts, self._broken(f"I3: a token of job {job_id}, which was not assigned")

    def _check_pool(self) -> None:
        """I5 for the pool: nothing waits while a worker that takes jobs has a free seat, but for want of memory."""
        rules = self.core.policy.rules()
        waiting = [job for job in self.core.live_jobs().values() if job.worker is None]
        if not waiting:
            return
        for worker in self.core.workers.values():
            idle = not worker.jobs and not worker.leaving
            free = worker.placed < worker.seats(rules)
            if self.core.policy.admits_by_memory and not any(job.spec.latency_sensitive for job in waiting):
                free = idle
            assert not free, self._broken(f"I5: {len(waiting)} wait while {worker.up.worker} has a free seat")

    def check_end(self) -> None:
        """Everything accepted has ended once, and every KV block is back."""
        for job_id, client in self.clients.items():
            assert client.outcome is not None, self._broken(f"I1: job {job_id} never ended")
        for worker in self.workers.values():
            free, whole = worker.engine.free_blocks, worker.engine.limits.kv_blocks
            assert free == whole, self._broken(f"I4: {worker.name} has {free} of {whole} blocks back")
            assert self.core.workers[worker.name].placed == 0, self._broken(f"I1: {worker.name} still holds something")
