"""Live jobs, from their arrival to their one outcome: estimated, asked about, put back, ended. Pure."""

from __future__ import annotations

from heapq import heappop, heappush

from scheduler_svc.core.admission import Admission
from scheduler_svc.core.asking import should_ask
from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.memory import remaining_high, remaining_moments
from scheduler_svc.core.policies import Pace
from scheduler_svc.core.types import AskPrediction, Decision, End, Job, Outcome
from scheduler_svc.core.workers import WorkerView


class Lives:
    """Keeps every job that is live, and those that ended until they are forgotten.

    Args:
        dispatcher: knows where each of them stands.
        ledger: counts them.
        admission: counts them by tenant.

    Attributes:
        live: accepted and not ended, by id.
        paces: what work costs, by model.
    """

    def __init__(self, dispatcher: Dispatcher, ledger: Ledger, admission: Admission) -> None:
        self.live: dict[int, Job] = {}
        self.paces: dict[str, Pace] = {}
        self._known: dict[int, Job] = {}
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._admission = admission
        self._expiries: list[tuple[float, int]] = []
        self._decisions: list[Decision] = []

    def job(self, job_id: int) -> Job | None:
        """A job that is live, or that ended and is not forgotten."""
        return self._known.get(job_id)

    def add(self, job: Job, now_ms: float) -> None:
        """A job was accepted."""
        spec = job.spec
        assert spec.job_id not in self._known, f"job {spec.job_id} arrived twice"
        self._known[spec.job_id] = self.live[spec.job_id] = job
        self._ledger.accepted(job)
        self._admission.accepted(job, now_ms)
        if spec.expires_ms is not None:
            heappush(self._expiries, (spec.expires_ms, spec.job_id))

    def forget(self, job_id: int) -> None:
        """Drops an ended job; a live one stays."""
        if job_id not in self.live:
            self._known.pop(job_id, None)

    def next_expiry_ms(self) -> float | None:
        """When the next live job expires."""
        while self._expiries and self._expiries[0][1] not in self.live:
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def expire(self, now_ms: float) -> None:
        """Ends what has expired."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, job_id = heappop(self._expiries)
            self.end_by_id(job_id, Outcome.EXPIRED, "its deadline passed", now_ms)

    def take_decisions(self) -> list[Decision]:
        """What has been decided since the last time."""
        decisions, self._decisions = self._decisions, []
        return decisions

    def estimate(self, job: Job) -> None:
        """What the policy and memory derive from the distribution, given the tokens that are out."""
        job.estimated_at = job.output_tokens
        job.cost = self._dispatcher.guard.cost(job, self.paces.get(job.spec.model, Pace()))
        if self._dispatcher.reckons_memory:
            job.remaining_high = remaining_high(job)
        if self._dispatcher.settings.reckons:
            job.remaining_mean, job.remaining_sd = remaining_moments(job)
        elif self._dispatcher.overload != "queue" or self._dispatcher.rules.be_share > 0:
            job.remaining_mean = job.distribution.mean_remaining(job.output_tokens)
        self._dispatcher.recount(job)

    def ask(self, job: Job) -> None:
        """Asks the predictor about a job, where policy and choices want to know."""
        if should_ask(job, self._dispatcher.guard, self._dispatcher.settings):
            self._decisions.append(AskPrediction(job.job_id, job.output_tokens))

    def requeue(self, job: Job, worker: WorkerView, now_ms: float) -> None:
        """Puts a job that its worker will not run back into the pool."""
        self._dispatcher.requeue(job, worker, now_ms)
        self.estimate(job)
        self._dispatcher.rekey(job, now_ms)

    def end_by_id(self, job_id: int, outcome: Outcome, detail: str, now_ms: float) -> None:
        """Ends a job that is live."""
        job = self.live.get(job_id)
        if job is not None:
            self.end(job, outcome, detail, now_ms, still_running=True)

    def end(self, job: Job, outcome: Outcome, detail: str, now_ms: float, *, still_running: bool) -> None:
        """Gives a job its one outcome; `still_running`: the worker that it is on, if any, is told to stop it."""
        cancel = self._dispatcher.remove(job, still_running=still_running)
        if cancel is not None:
            self._decisions.append(cancel)
        job.outcome = outcome
        job.seated = False
        del self.live[job.job_id]
        self._ledger.ended(job, outcome)
        self._admission.ended(job, now_ms)
        self._decisions.append(End(job.job_id, outcome, detail))
