"""The simulator's world under random arrivals, cancellations, deadlines, changes of policy and lost workers.

One seed repeats a run exactly. The invariants I1-I5 are checked as it runs; `log` is what I9 compares.
"""

from __future__ import annotations

import random
from dataclasses import replace

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    Assign,
    CancelRequested,
    Decision,
    End,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Stepped,
)
from simulator import world as simulated
from simulator.predictor import Answer, FailingPredictor, PredictorMood
from simulator.worker import Network, SimWorker
from simulator.world import MODEL, Machine, Request
from worker_svc.engines.simulated_core import SimulatedLimits, StepResult
from worker_svc.ordering import StepModel

__all__ = ["PredictorMood", "World"]


class Guess:
    """A predictor that is off by a third or so."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def predict(self, job_id: int, answer_tokens: int, generated_tokens: int) -> Answer:  # noqa: ARG002
        median = answer_tokens * self._rng.lognormvariate(0.0, 0.3)
        return self._rng.uniform(1.0, 20.0), LengthDistribution.lognormal(median, 0.4)


class World(simulated.World):
    """Runs until told to stop; `steps` counts engine steps over all workers."""

    def __init__(
        self,
        seed: int,
        *,
        policy: str = "slo",
        mood: PredictorMood = PredictorMood.GOOD,
        workers: int = 2,
        leaps: bool = True,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.mood = mood
        self.log: list[str] = []
        self._draining = False
        super().__init__(
            SchedulerCore(policy, self._settings(), Limits(max_queued_requests=300, max_queued_per_tenant=250)),
            FailingPredictor(Guess(random.Random(f"guess {seed}")), mood, seed),
            network=Network(0.1, 8.0),
            seed=seed,
            leaps=leaps,
        )
        for _ in range(workers):
            self.add_random_worker()

    @property
    def clients(self) -> dict[int, Request]:
        """What was accepted."""
        return {job_id: request for job_id, request in self.requests.items() if not request.refused}

    def run(self, *, until_steps: int, arrivals: bool = True) -> None:
        """Lets the world go on, with random arrivals and faults, for so many engine steps; then drains it."""
        self._open(arrivals)
        while self.steps < until_steps and self.advance():
            pass
        self._drain()

    def run_for(self, time_ms: float) -> None:
        """The same for so much virtual time: a leap counts its steps when it ends, so that steps are no clock."""
        self._open(True)
        while self.now_ms < time_ms and self.advance():
            pass
        self._drain()

    def _open(self, arrivals: bool) -> None:
        self._draining = False
        if arrivals:
            self.at(self.now_ms, self._arrive_and_again)
            self.at(self.now_ms + 5.0, self._disturb_and_again)

    def _drain(self) -> None:
        self._draining = True
        while self.core.live_jobs() and self.advance():
            if not self.workers:
                self.add_random_worker()
        while self.advance():
            pass
        self.check_end()

    # -- what is looked at on the way

    def tick(self) -> None:
        super().tick()
        self.core.ledger.check()
        self._check_pool()

    def decided(self, decision: Decision) -> None:
        self.log.append(f"{self.now_ms!r} {decision!r}")
        self._carry_out(decision)

    def _carry_out(self, decision: Decision) -> None:
        """Checks a decision that is about to be carried out."""
        if isinstance(decision, Assign):
            request = self.requests[decision.job_id]
            assert request.outcome is None, self._broken(f"I3: job {decision.job_id} assigned after its outcome")
            assert decision.forced_tokens == request.received, self._broken("I2: forced tokens are not those sent")
        elif isinstance(decision, End):
            request = self.requests[decision.job_id]
            assert request.outcome is None, self._broken(f"I1: job {decision.job_id} ended twice")
            if decision.outcome is Outcome.STOP:
                assert request.received == request.answer_tokens, self._broken("I2: an answer is not whole")

    def stepped(self, worker: SimWorker, result: StepResult | None, steps: int) -> None:
        super().stepped(worker, result, steps)
        engine = worker.engine
        held = sum(sequence.blocks for sequence in engine.sequences.values())
        assert engine.free_blocks >= 0, self._broken("I4: more KV blocks than there are")
        gone = held + engine.free_blocks
        assert gone == engine.limits.kv_blocks, self._broken(f"I4: {gone} of {engine.limits.kv_blocks} KV blocks")
        if result is not None:
            assert result.plan.quotas, self._broken("I5: an empty step while something is runnable")
            for job_id in result.tokens:
                assert job_id in worker.attempts, self._broken(f"I3: a token of job {job_id}, which was not assigned")

    def _pass_on(self, worker: SimWorker, event: Stepped) -> None:
        super()._pass_on(worker, event)
        for job_id, _, _ in event.tokens:
            request = self.requests[job_id]
            assert request.received <= request.answer_tokens, self._broken("I2: a repeat")

    # -- what happens to it

    def add_random_worker(self) -> None:
        """A worker of random size comes up."""
        rng = self.rng
        seats = rng.randint(1, 8)
        limits = SimulatedLimits(
            rng.choice((32, 256, 2048)), seats, seats + rng.randint(0, 8), rng.randint(48, 160), 16
        )
        model = StepModel(rng.uniform(1, 8), rng.uniform(0, 0.1), rng.uniform(0, 0.3), rng.uniform(0, 0.0005))
        self.add_worker(Machine(limits, model, max_held=limits.slots + 8))

    def arrive(
        self, *, ls: bool, prompt_tokens: int, answer_tokens: int, tenant: str | None = None, **changes: object
    ) -> None:
        """A request comes."""
        tenant = tenant or self.rng.choice(("acme", "bits"))
        spec = Arrived(len(self.requests), tenant, MODEL, ls, 200.0, 30.0, prompt_tokens, max_tokens=700)
        self.submit(Request(replace(spec, **changes), answer_tokens))

    def _settings(self) -> PolicySettings:
        seats = self.rng.choice((None, 1, 3, 6))
        window = self.rng.choice((1, 20, 50))
        return PolicySettings(step_seats=seats, window_tokens=window, be_share=self.rng.choice((0.0, 0.05)))

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
        self.at(self.now_ms + rng.expovariate(1 / 25.0), self._arrive_and_again)

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
            self.add_random_worker()
        elif dice < 0.75:
            self.tell(PolicyChanged(rng.choice(sorted(BUILT_IN)), self._settings()))
        self.at(self.now_ms + rng.expovariate(1 / 150.0), self._disturb_and_again)

    # -- invariants

    def _broken(self, what: str) -> str:
        return f"seed {self.seed}, mood {self.mood.value}, at {self.now_ms:.3f} ms, step {self.steps}: {what}"

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
        for job_id, request in self.clients.items():
            assert request.outcome is not None, self._broken(f"I1: job {job_id} never ended")
        for worker in self.workers.values():
            free, whole = worker.engine.free_blocks, worker.engine.limits.kv_blocks
            assert free == whole, self._broken(f"I4: {worker.name} has {free} of {whole} blocks back")
            assert self.core.workers[worker.name].placed == 0, self._broken(f"I1: {worker.name} still holds something")
