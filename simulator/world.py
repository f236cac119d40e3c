"""The virtual-time shell: requests, predictions and workers' reports go to the real core, its decisions to the workers.

Events of one time come in a fixed order: arrivals and timers, then messages by worker, then steps by worker; nothing
depends on hashing, on how often a worker was asked, or on whether it leapt.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    AdmitRefusal,
    Arrived,
    AskPrediction,
    Assign,
    AssignRefused,
    CancelOn,
    Decision,
    End,
    Event,
    Outcome,
    Predicted,
    Reorder,
    Stepped,
    WorkerLost,
    WorkerUp,
)
from simulator.predictor import Predictor
from simulator.worker import Network, NewSequence, SimWorker, Tally
from worker_svc.engines.simulated_core import SimulatedLimits, StepResult
from worker_svc.ordering import StepModel

MODEL = "simulated"
WHOLE_ANSWER = 1 << 40
"""More tokens than any answer has."""
_TIMER, _MESSAGE, _STEP = 0, 1, 2


@dataclass(slots=True)
class Request:
    """One request of a run: what it asks for, and what became of it.

    Attributes:
        spec: as the core is told; its `job_id` is the request's name.
        answer_tokens: output tokens that it will really have.
        outcome: None while it lives, and for good where it was refused.
        relegated: it came as LS and was served as BE.
        received: output tokens that have left the scheduler.
        first_ms, last_ms: when the first and the newest of them did.
        gap_ms: longest time without a token while it ran.
        pauses, evictions: times that it lost its seat, or its KV cache.
    """

    spec: Arrived
    answer_tokens: int
    arrival_ms: float = 0.0
    outcome: Outcome | None = None
    refused: bool = False
    relegated: bool = False
    received: int = 0
    first_ms: float | None = None
    last_ms: float | None = None
    gap_ms: float = 0.0
    pauses: int = 0
    evictions: int = 0
    recomputed_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """A worker to be: its engine's size and pace."""

    limits: SimulatedLimits
    step_model: StepModel
    max_held: int


class World:
    """Runs what it is given until nothing is left to do.

    Args:
        core: the scheduler, fresh.
        predictor: answers its questions; None: nobody does.
        network: delays between scheduler and workers.
        seed: of those delays.
        leaps: whether workers leap over steps that repeat.
        tells_progress: whether workers tell of tokens between the first and the last; without it nothing may be decided
            by them, no worker lost and the policy not changed.
        log: takes one line a decision: what I9 compares.

    Attributes:
        now_ms: virtual time.
        steps: engine steps so far, over all workers.
        requests: by job id.
    """

    def __init__(
        self,
        core: SchedulerCore,
        predictor: Predictor | None = None,
        *,
        network: Network | None = None,
        seed: int = 0,
        leaps: bool = True,
        tells_progress: bool = True,
        log: TextIO | None = None,
    ) -> None:
        self.core = core
        self.now_ms = 0.0
        self.steps = 0
        self.requests: dict[int, Request] = {}
        self.workers: dict[str, SimWorker] = {}
        self._predictor = predictor
        self._network = network or Network()
        self._seed = seed
        self._leaps = leaps
        self._tells_progress = tells_progress
        self._log = log
        self._queue: list[tuple[float, int, int, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0
        self._names = 0
        self._tick_due_ms: float | None = None

    # -- time

    def at(self, time_ms: float, action: Callable[..., None], *args: object) -> None:
        """Does `action(*args)` then."""
        self._push(time_ms, _TIMER, 0, action, args)

    def advance(self) -> bool:
        """Does the next thing; False if there is none."""
        if not self._queue:
            return False
        self.now_ms, _, _, _, action, args = heapq.heappop(self._queue)
        action(*args)
        return True

    def _push(
        self, time_ms: float, order: int, index: int, action: Callable[..., None], args: tuple[object, ...]
    ) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (time_ms, order, index, self._sequence, action, args))

    # -- requests

    def submit(self, request: Request) -> None:
        """A request comes now; refused where the core has no room for it."""
        spec = request.spec
        request.arrival_ms = self.now_ms
        self.requests[spec.job_id] = request
        if self.core.refusal_for(spec.tenant, self.now_ms, spec) is not None:
            request.refused = True
            return
        self.tell(spec)

    # -- the core

    def tell(self, event: Event) -> None:
        """An event for the core, and what it decides upon it."""
        self.core.handle(event, self.now_ms)
        self.tick()

    def tick(self) -> None:
        """Lets the core decide and carries its decisions out."""
        core = self.core
        decisions = core.tick(self.now_ms)
        if decisions:
            self._do(decisions)
        due_ms = core.next_due_ms()
        if due_ms is not None and (self._tick_due_ms is None or due_ms < self._tick_due_ms):
            self._tick_due_ms = due_ms
            self.at(max(self.now_ms, due_ms), self._timed_tick, due_ms)

    def _timed_tick(self, due_ms: float) -> None:
        if self._tick_due_ms == due_ms:
            self._tick_due_ms = None
            self.tick()

    def _do(self, decisions: Sequence[Decision]) -> None:
        asks: list[AskPrediction] = []
        mail: dict[str, list[Decision]] = {}
        for decision in decisions:
            if self._log is not None:
                self._log.write(f"{self.now_ms!r} {decision!r}\\n")
            self.decided(decision)
            match decision:
                case AskPrediction():
                    asks.append(decision)
                case Assign() | Reorder() | CancelOn():
                    mail.setdefault(decision.worker, []).append(decision)
                case End():
                    self._ended(decision)
                case _:
                    pass
        for name, commands in mail.items():
            worker = self.workers.get(name)
            if worker is not None:
                self._push(worker.down_at(), _MESSAGE, worker.index, self._command, (worker, commands))
        if asks and self._predictor is not None:
            self._ask(self._predictor, asks)

    def _ended(self, end: End) -> None:
        request, job = self.requests[end.job_id], self.core.job(end.job_id)
        assert job is not None
        request.outcome = end.outcome
        request.pauses, request.evictions = job.pauses, job.evictions
        request.relegated = job.relegated
        self.core.forget(end.job_id)

    def decided(self, decision: Decision) -> None:
        """A decision is about to be carried out; nothing to do here, tests look in."""

    def _ask(self, predictor: Predictor, asks: Sequence[AskPrediction]) -> None:
        answers: dict[float, list[Predicted]] = {}
        for ask in asks:
            request = self.requests[ask.job_id]
            delay_ms, made = predictor.predict(ask.job_id, request.answer_tokens, ask.generated_tokens)
            if delay_ms is not None:
                answers.setdefault(delay_ms, []).append(Predicted(ask.job_id, ask.generated_tokens, made))
        for delay_ms, predicted in answers.items():
            self.at(self.now_ms + delay_ms, self._hear, predicted)

    def _hear(self, predicted: Sequence[Predicted]) -> None:
        """What the predictor answered together."""
        for answer in predicted:
            self.core.handle(answer, self.now_ms)
        self.tick()

    # -- workers

    def add_worker(self, machine: Machine) -> SimWorker:
        """A worker comes up."""
        limits = machine.limits
        index = self._names
        name = f"w{index}"
        self._names += 1
        worker = self.workers[name] = SimWorker(
            self,
            name,
            index,
            limits,
            machine.step_model,
            network=self._network,
            window_tokens=self._window_tokens,
            seed=f"{self._seed} {name}",
            leaps=self._leaps,
        )
        up = WorkerUp(
            name,
            MODEL,
            limits.slots,
            limits.step_seats,
            limits.kv_blocks,
            limits.kv_block_tokens,
            machine.max_held,
            machine.step_model,
        )
        self.tell(up)
        return worker

    def lose_worker(self, name: str) -> None:
        """A worker dies with all that it holds."""
        self.workers.pop(name).abandon()
        self.tell(WorkerLost(name))

    def _window_tokens(self) -> int:
        return self.core.policy.settings.window_tokens if self._tells_progress else WHOLE_ANSWER

    def _command(self, worker: SimWorker, commands: Sequence[Decision]) -> None:
        """What was sent to a worker arrives there."""
        if worker.lost:
            return
        for decision in commands:
            match decision:
                case Assign():
                    self._admit(worker, decision)
                case Reorder():
                    worker.set_ranks(decision.job_ids, decision.rules)
                case CancelOn():
                    worker.cancel(decision.job_id, decision.attempt, Outcome.CANCELLED_BY_CLIENT)
                case _:
                    pass
        worker.wake()

    def _admit(self, worker: SimWorker, assign: Assign) -> None:
        request = self.requests[assign.job_id]
        spec, forced = request.spec, assign.forced_tokens
        try:
            worker.admit(
                NewSequence(
                    assign.job_id,
                    assign.attempt,
                    spec.prompt_tokens + forced,
                    request.answer_tokens - forced,
                    spec.latency_sensitive and not assign.best_effort,
                    request.arrival_ms,
                    spec.ttft_ms,
                    spec.tpot_ms,
                    assign.rank,
                    forced,
                )
            )
        except ValueError as error:
            refused = AssignRefused(worker.name, assign.job_id, assign.attempt, AdmitRefusal.INVALID, str(error))
            self.deliver_up(worker.up_at(), worker, (refused,))

    # -- what workers need

    def at_step(self, time_ms: float, worker: SimWorker, version: int) -> None:
        """Calls `worker.step_ended(version)` then, after every message of that time."""
        self._push(time_ms, _STEP, worker.index, worker.step_ended, (version,))

    def deliver_up(self, time_ms: float, worker: SimWorker, events: Sequence[Event]) -> None:
        """Gives these events to the scheduler then, if the worker is still there."""
        self._push(time_ms, _MESSAGE, worker.index, self._receive, (worker, events))

    def review_at(self, handle: int) -> float:
        """Output tokens at which the core wants to look at a job again."""
        job = self.core.job(handle)
        return float("inf") if job is None else job.review_at

    def left(self, handle: int, tally: Tally) -> None:
        """A sequence is held no more by the worker that had it."""
        request = self.requests[handle]
        request.gap_ms = max(request.gap_ms, tally.gap_ms)
        request.recomputed_tokens += tally.recomputed_tokens

    def stepped(self, worker: SimWorker, result: StepResult | None, steps: int) -> None:  # noqa: ARG002
        """Counts steps; tests look at them."""
        self.steps += steps

    def _receive(self, worker: SimWorker, events: Sequence[Event]) -> None:
        if worker.lost:
            return
        for event in events:
            if isinstance(event, Stepped):
                self._pass_on(worker, event)
            self.core.handle(event, self.now_ms)
        self.tick()

    def _pass_on(self, worker: SimWorker, event: Stepped) -> None:
        """What a shell does with tokens: to the client, if they belong to the job's present attempt."""
        live, requests, now_ms = self.core.live_jobs(), self.requests, self.now_ms
        for job_id, attempt, count in event.tokens:
            job = live.get(job_id)
            if job is None or job.attempt != attempt or job.worker != worker.name:
                continue
            request = requests[job_id]
            request.received += count
            request.last_ms = now_ms
            if request.first_ms is None:
                request.first_ms = now_ms
