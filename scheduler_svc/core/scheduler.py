"""The machine: events and the time go in, decisions come out.

`handle` takes one event and changes what is known; `tick` says what follows from all that changed since the last one:
who enters a worker, in which order each worker runs what it has, who is asked about, cancelled or ended. Both are
deterministic: the same events at the same times give the same decisions, byte for byte (I9).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from heapq import heappop, heappush

from scheduler_svc.core.admission import Admission, AdmissionRefusal, Limits
from scheduler_svc.core.ageing import Ageing
from scheduler_svc.core.asking import should_ask
from scheduler_svc.core.checks import check_settings
from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.explain import Hindered, Standing, hindrances, standing
from scheduler_svc.core.fairness import Share
from scheduler_svc.core.feasibility import Feasibility
from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.memory import remaining_high, remaining_moments
from scheduler_svc.core.placements import BUILT_IN_PLACEMENTS, Placement
from scheduler_svc.core.policies import BUILT_IN, BrokenPolicy, Pace, Policy, make_policy
from scheduler_svc.core.priors import Priors
from scheduler_svc.core.types import (
    AdmitRefusal,
    Arrived,
    AskPrediction,
    AssignRefused,
    CancelRequested,
    Change,
    Decision,
    End,
    Event,
    ExecutionEnded,
    Job,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Rules,
    Stepped,
    TenantsChanged,
    TenantTerms,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)
from scheduler_svc.core.waiting import wait_bound_ms
from scheduler_svc.core.workers import WorkerView


class SchedulerCore:
    """The scheduler without its shell.

    Args:
        policy: name of the policy to begin with.
        settings: of the policy.
        limits: bounds.
        policies: by name; plug-ins are added here.
        placements: by name; plug-ins are added here.

    Attributes:
        ledger: what was accepted and how it ended.
        priors: observed lengths.

    Raises:
        PolicyError: no such policy, it does not take these options, or choices that make no sense with it.
    """

    def __init__(
        self,
        policy: str,
        settings: PolicySettings,
        limits: Limits,
        *,
        policies: Mapping[str, type[Policy]] = BUILT_IN,
        placements: Mapping[str, type[Placement]] = BUILT_IN_PLACEMENTS,
    ) -> None:
        self._policies = policies
        self._placements = placements
        self.ledger = Ledger()
        self.priors = Priors()
        self._admission = Admission(limits, self.ledger)
        self._dispatcher = Dispatcher(
            self.make_policy(policy, settings), self.ledger, limits.look_ahead, placements, self._weight
        )
        self._jobs: dict[int, Job] = {}
        self._live: dict[int, Job] = {}
        self._feasibility = Feasibility(self._dispatcher, self._live, self._weight)
        self._paces: dict[str, Pace] = {}
        self._expiries: list[tuple[float, int]] = []
        self._ageing = Ageing()
        self._decisions: list[Decision] = []

    # -- what the shell asks

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._dispatcher.policy

    @property
    def workers(self) -> Mapping[str, WorkerView]:
        """By name of incarnation."""
        return self._dispatcher.workers

    @property
    def rules(self) -> Rules:
        """How a step is filled under the policy and the choices in force."""
        return self._dispatcher.rules

    def standing(self, job: Job, now_ms: float) -> Standing:
        """Where a live job stands, and what keeps it waiting."""
        return standing(self._dispatcher, job, now_ms)

    def hindrances(self, job: Job, most: int) -> list[Hindered]:
        """Why the first `most` workers of its model do not take a waiting job."""
        return hindrances(self._dispatcher, job, most)

    def wait_bound_ms(self, job_id: int) -> float | None:
        """Longest that a waiting BE job will wait for its first token from now on (I6); None: nothing is promised."""
        job = self._live.get(job_id)
        return None if job is None or job.worker is not None else wait_bound_ms(self._dispatcher, job)

    def place_of(self, job: Job) -> int:
        """How many stand before a live job in the pool, or on its worker."""
        if job.worker is None:
            return self._dispatcher.backlog(job.spec.model).place_of(job)
        return self._dispatcher.workers[job.worker].place_of(job)

    def make_policy(self, name: str, settings: PolicySettings) -> Policy:
        """A policy by name.

        Raises:
            PolicyError: UnknownPolicy (lists the known ones), BadOption, BrokenPolicy, or BadChoice where the settings
                make no sense with it.
        """
        policy = make_policy(self._policies, name, settings)
        check_settings(settings, policy, self._placements)
        return policy

    def refusal_for(self, tenant: str, now_ms: float, spec: Arrived | None = None) -> AdmissionRefusal | None:
        """Why a request would not be taken now.

        Args:
            tenant: who asks.
            now_ms: when.
            spec: the request, once it is known: it may be impossible, or, where the choices in force say so, refused
                because its targets are out of reach.
        """
        if spec is None:
            return self._admission.refusal_for(tenant, now_ms)
        mean_tokens = self.priors.distribution(spec).mean_remaining()
        refusal = self._admission.refusal_for(tenant, now_ms, spec, spec.prompt_tokens + mean_tokens)
        return refusal or self._feasibility.refusal_of(spec, mean_tokens, now_ms)

    def terms(self, tenant: str) -> TenantTerms:
        """What a tenant was granted."""
        return self._admission.terms(tenant)

    def share_of(self, tenant: str, model: str, *, latency_sensitive: bool) -> Share:
        """How much of its fair share a tenant has had, with its requests of a class."""
        return self._dispatcher.fair.share(tenant, model, latency_sensitive=latency_sensitive)

    def job(self, job_id: int) -> Job | None:
        """A job that is live, or that ended and is not forgotten."""
        return self._jobs.get(job_id)

    def live_jobs(self) -> Mapping[int, Job]:
        """Accepted and not ended, by id."""
        return self._live

    def forget(self, job_id: int) -> None:
        """Drops an ended job; a live one stays."""
        if job_id not in self._live:
            self._jobs.pop(job_id, None)

    def next_due_ms(self) -> float | None:
        """When `tick` should come even if nothing happens: the next expiry or ageing slice."""
        while self._expiries and self._expiries[0][1] not in self._live:
            heappop(self._expiries)
        due = [self._expiries[0][0]] if self._expiries else []
        due += [due_ms for due_ms in (self._ageing.due_ms, self._feasibility.next_due_ms()) if due_ms is not None]
        return min(due, default=None)

    # -- events

    def handle(self, event: Event, now_ms: float) -> None:
        """Takes one event; events about ended jobs or earlier attempts change nothing."""
        match event:
            case Stepped():
                self._stepped(event, now_ms)
            case Arrived():
                self._arrived(event, now_ms)
            case Predicted():
                self._predicted(event, now_ms)
            case ExecutionEnded():
                self._execution_ended(event, now_ms)
            case AssignRefused():
                self._assign_refused(event, now_ms)
            case CancelRequested():
                self._end_by_id(event.job_id, event.outcome, event.detail, now_ms)
            case WorkerUp():
                self._worker_up(event)
            case WorkerUpdated():
                self._worker_updated(event)
            case WorkerLost():
                self._worker_lost(event, now_ms)
            case PolicyChanged():
                self._policy_changed(event, now_ms)
            case TenantsChanged():
                self._admission.tenants_changed(event.tenants, now_ms)
                self._feasibility.terms_changed()

    def _arrived(self, spec: Arrived, now_ms: float) -> None:
        assert spec.job_id not in self._jobs, f"job {spec.job_id} arrived twice"
        job = Job(spec, now_ms, self.priors.distribution(spec))
        job.key = (0.0, now_ms)
        job.base_tokens = job.output_tokens = job.estimated_at = spec.received_tokens
        self._jobs[spec.job_id] = job
        self._live[spec.job_id] = job
        job.expected_tokens = spec.prompt_tokens + job.distribution.mean_remaining()
        self.ledger.accepted(job)
        self._admission.accepted(job, now_ms)
        if spec.expires_ms is not None:
            heappush(self._expiries, (spec.expires_ms, spec.job_id))
        self._estimate(job)
        self._dispatcher.enqueue(job, now_ms)
        self._feasibility.arrived(job, now_ms)
        self._ask(job)
        if self.policy.ages:
            self._ageing.wake(now_ms)

    def _predicted(self, event: Predicted, now_ms: float) -> None:
        job = self._live.get(event.job_id)
        if job is None or event.distribution is None:
            return
        made = event.distribution.truncated(job.spec.max_tokens)
        job.predictions += 1
        if made is job.distribution and job.estimated_at == job.output_tokens and job.predicted is not None:
            return  # nothing new, and nothing out since
        job.distribution = made
        if job.predicted is None:
            job.predicted = job.distribution
        self._estimate(job)
        self._dispatcher.fair.estimated(job)
        self._dispatcher.rekey(job, now_ms)

    def _stepped(self, event: Stepped, now_ms: float) -> None:
        window = self.policy.settings.window_tokens
        worker = self.workers.get(event.worker)
        if worker is not None:
            worker.peak = None
        live, name, account_of = self._live, event.worker, self.ledger.of
        for job_id, attempt, count in event.tokens:
            job = live.get(job_id)
            if job is None or job.attempt != attempt or job.worker != name:
                continue
            before = job.output_tokens
            job.output_tokens = out = before + count
            job.last_token_ms = now_ms
            if before == job.base_tokens:
                job.started = True
                self._dispatcher.recount(job)
                if job.first_token_ms is None:
                    job.first_token_ms = now_ms
            account_of(job).output_tokens += count
            if out - job.estimated_at >= window:
                self._estimate(job)
                self._dispatcher.fair.estimated(job)
                self._ask(job)
                self._dispatcher.rekey(job, now_ms)
            elif out >= job.review_at:
                self._dispatcher.rekey(job, now_ms)
        for job_id, attempt, change in event.changes:
            job = self._live.get(job_id)
            if job is not None and job.attempt == attempt and job.worker == event.worker:
                self._changed(job, change, now_ms)

    def _changed(self, job: Job, change: Change, now_ms: float) -> None:
        job.seated = change in (Change.STARTED, Change.RESUMED)
        job.started |= job.seated
        self._dispatcher.seat_changed(job)
        if change is Change.PAUSED:
            job.pauses += 1
        elif change is Change.EVICTED:
            job.evictions += 1
        self._dispatcher.rekey(job, now_ms)

    def _execution_ended(self, event: ExecutionEnded, now_ms: float) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        worker.leaving.discard(event.job_id)
        worker.full = False
        self._dispatcher.room_changed(worker)
        job = self._live.get(event.job_id)
        if job is None or job.attempt != event.attempt or job.worker != event.worker:
            return
        if event.outcome in (Outcome.STOP, Outcome.LENGTH):
            self.priors.observe(job.spec, job.output_tokens)
        self._end(job, event.outcome, event.detail, now_ms, still_running=False)

    def _assign_refused(self, event: AssignRefused, now_ms: float) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        worker.leaving.discard(event.job_id)
        worker.entry = None
        worker.full |= event.reason is AdmitRefusal.FULL
        worker.draining |= event.reason is AdmitRefusal.DRAINING
        job = self._live.get(event.job_id)
        if job is None or job.attempt != event.attempt or job.worker != event.worker:
            return
        if event.reason in (AdmitRefusal.FULL, AdmitRefusal.DRAINING):
            self._requeue(job, worker, now_ms)
        else:
            invalid = event.reason is AdmitRefusal.INVALID
            outcome = Outcome.FAILED_ENGINE if invalid else Outcome.FAILED_INTERNAL
            self._end(job, outcome, event.detail, now_ms, still_running=False)

    def _worker_up(self, event: WorkerUp) -> None:
        worker = self._dispatcher.add_worker(event)
        self._paces[event.model] = worker.pace(self._dispatcher.rules)

    def _worker_updated(self, event: WorkerUpdated) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        if event.cost is not None:
            worker.cost = event.cost
            self._paces[worker.up.model] = worker.pace(self._dispatcher.rules)
        if event.relative_error is not None:
            worker.relative_error = event.relative_error
        if event.draining is not None:
            worker.draining = event.draining
            self._dispatcher.room_changed(worker)

    def _worker_lost(self, event: WorkerLost, now_ms: float) -> None:
        """Its jobs go back to the pool with what is out already, or end where that would not be exact."""
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        for job in list(worker.jobs.values()):
            if job.output_tokens >= job.spec.max_tokens:  # whole, only the word of its end was lost
                self._end(job, Outcome.LENGTH, "", now_ms, still_running=False)
            elif job.spec.continuable or job.output_tokens == 0:
                self._requeue(job, worker, now_ms)
            else:
                text = "its worker was lost in mid-answer; penalties or a seed forbid an exact continuation elsewhere"
                self._end(job, Outcome.FAILED_WORKER_LOST, text, now_ms, still_running=False)
        self._dispatcher.drop_worker(event.worker)

    def _policy_changed(self, event: PolicyChanged, now_ms: float) -> None:
        try:
            policy = self.make_policy(event.policy, event.settings)
        except BrokenPolicy as error:  # it could be made a moment ago: what is in force stays
            self._dispatcher.guard.note("__init__", error)
            return
        self._dispatcher.set_policy(policy, self._live.values())
        self._feasibility.settings_changed()
        for worker in self.workers.values():
            self._paces[worker.up.model] = worker.pace(self._dispatcher.rules)
        for job in self._live.values():
            job.state, job.review_at = None, math.inf
            self._estimate(job)
            self._dispatcher.rekey(job, now_ms)
        self._ageing.stop()
        if policy.ages:
            self._ageing.wake(now_ms)

    # -- decisions

    def tick(self, now_ms: float) -> list[Decision]:
        """Everything that follows from the events since the last tick, in the order in which it is to be done."""
        while self._expiries and self._expiries[0][0] <= now_ms:
            _, job_id = heappop(self._expiries)
            self._end_by_id(job_id, Outcome.EXPIRED, "its deadline passed", now_ms)
        for job_id in self._ageing.take(now_ms, self._dispatcher.ids_by_place):
            if job_id in self._live:
                self._dispatcher.rekey(self._live[job_id], now_ms)
        for job in self._feasibility.take(now_ms):
            self._dispatcher.become_best_effort(job)
            self._estimate(job)
            self._dispatcher.rekey(job, now_ms)
        decisions = self._decisions + self._dispatcher.dispatch(now_ms)
        self._decisions = []
        return decisions

    def _estimate(self, job: Job) -> None:
        """What the policy and memory derive from the distribution, given the tokens that are out."""
        job.estimated_at = job.output_tokens
        job.cost = self._dispatcher.guard.cost(job, self._paces.get(job.spec.model, Pace()))
        if self._dispatcher.reckons_memory:
            job.remaining_high = remaining_high(job)
        if self.policy.settings.reckons:
            job.remaining_mean, job.remaining_sd = remaining_moments(job)
        elif self._dispatcher.overload != "queue" or self._dispatcher.rules.be_share > 0:
            job.remaining_mean = job.distribution.mean_remaining(job.output_tokens)
        self._dispatcher.recount(job)

    def _weight(self, tenant: str) -> float:
        return self._admission.terms(tenant).weight

    def _ask(self, job: Job) -> None:
        if should_ask(job, self._dispatcher.guard, self.policy.settings):
            self._decisions.append(AskPrediction(job.job_id, job.output_tokens))

    def _requeue(self, job: Job, worker: WorkerView, now_ms: float) -> None:
        self._dispatcher.requeue(job, worker, now_ms)
        self._estimate(job)
        self._dispatcher.rekey(job, now_ms)

    def _end_by_id(self, job_id: int, outcome: Outcome, detail: str, now_ms: float) -> None:
        job = self._live.get(job_id)
        if job is not None:
            self._end(job, outcome, detail, now_ms, still_running=True)

    def _end(self, job: Job, outcome: Outcome, detail: str, now_ms: float, *, still_running: bool) -> None:
        """Gives a job its one outcome; `still_running`: the worker that it is on, if any, is told to stop it."""
        cancel = self._dispatcher.remove(job, still_running=still_running)
        if cancel is not None:
            self._decisions.append(cancel)
        job.outcome = outcome
        job.seated = False
        del self._live[job.job_id]
        self.ledger.ended(job, outcome)
        self._admission.ended(job, now_ms)
        self._decisions.append(End(job.job_id, outcome, detail))
