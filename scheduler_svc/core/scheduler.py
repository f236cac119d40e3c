"""The machine: events and the time go in, decisions come out.

`handle` takes one event and changes what is known; `tick` says what follows from all that changed since the last one:
who enters a worker, in which order each worker runs what it has, who is asked about, cancelled or ended. Both are
deterministic: the same events at the same times give the same decisions, byte for byte (I9).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scheduler_svc.core.admission import Admission, AdmissionRefusal, Limits
from scheduler_svc.core.ageing import Ageing
from scheduler_svc.core.checks import check_settings
from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.explain import Hindered, Standing, hindrances, standing
from scheduler_svc.core.fairness import Share
from scheduler_svc.core.feasibility import Feasibility
from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.lives import Lives
from scheduler_svc.core.placements import BUILT_IN_PLACEMENTS, Placement
from scheduler_svc.core.policies import BUILT_IN, BrokenPolicy, Policy, make_policy
from scheduler_svc.core.priors import Priors
from scheduler_svc.core.reports import Reports
from scheduler_svc.core.types import (
    Arrived,
    AssignRefused,
    CancelRequested,
    Decision,
    Event,
    ExecutionEnded,
    Job,
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
        self._lives = Lives(self._dispatcher, self.ledger, self._admission)
        self._reports = Reports(self._lives, self._dispatcher, self.ledger, self.priors)
        self._feasibility = Feasibility(self._dispatcher, self._lives.live, self._weight)
        self._ageing = Ageing()

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
        job = self._lives.live.get(job_id)
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
        return self._lives.job(job_id)

    def live_jobs(self) -> Mapping[int, Job]:
        """Accepted and not ended, by id."""
        return self._lives.live

    def forget(self, job_id: int) -> None:
        """Drops an ended job; a live one stays."""
        self._lives.forget(job_id)

    def next_due_ms(self) -> float | None:
        """When `tick` should come even if nothing happens: the next expiry or ageing slice."""
        due = (self._lives.next_expiry_ms(), self._ageing.due_ms, self._feasibility.next_due_ms())
        return min((due_ms for due_ms in due if due_ms is not None), default=None)

    # -- events

    def handle(self, event: Event, now_ms: float) -> None:
        """Takes one event; events about ended jobs or earlier attempts change nothing."""
        match event:
            case Stepped():
                self._reports.stepped(event, now_ms)
            case Arrived():
                self._arrived(event, now_ms)
            case Predicted():
                self._predicted(event, now_ms)
            case ExecutionEnded():
                self._reports.execution_ended(event, now_ms)
            case AssignRefused():
                self._reports.assign_refused(event, now_ms)
            case CancelRequested():
                self._lives.end_by_id(event.job_id, event.outcome, event.detail, now_ms)
            case WorkerUp():
                self._reports.worker_up(event)
            case WorkerUpdated():
                self._reports.worker_updated(event)
            case WorkerLost():
                self._reports.worker_lost(event, now_ms)
            case PolicyChanged():
                self._policy_changed(event, now_ms)
            case TenantsChanged():
                self._admission.tenants_changed(event.tenants, now_ms)
                self._feasibility.terms_changed()

    def _arrived(self, spec: Arrived, now_ms: float) -> None:
        job = Job(spec, now_ms, self.priors.distribution(spec))
        job.key = (0.0, now_ms)
        job.base_tokens = job.output_tokens = job.estimated_at = spec.received_tokens
        job.expected_tokens = spec.prompt_tokens + job.distribution.mean_remaining()
        self._lives.add(job, now_ms)
        self._lives.estimate(job)
        self._dispatcher.enqueue(job, now_ms)
        self._feasibility.arrived(job, now_ms)
        self._lives.ask(job)
        if self.policy.ages:
            self._ageing.wake(now_ms)

    def _predicted(self, event: Predicted, now_ms: float) -> None:
        job = self._lives.live.get(event.job_id)
        if job is None or event.distribution is None:
            return
        made = event.distribution.truncated(job.spec.max_tokens)
        job.predictions += 1
        if made is job.distribution and job.estimated_at == job.output_tokens and job.predicted is not None:
            return  # nothing new, and nothing out since
        job.distribution = made
        if job.predicted is None:
            job.predicted = job.distribution
        self._lives.estimate(job)
        self._dispatcher.fair.estimated(job)
        self._dispatcher.rekey(job, now_ms)

    def _policy_changed(self, event: PolicyChanged, now_ms: float) -> None:
        try:
            policy = self.make_policy(event.policy, event.settings)
        except BrokenPolicy as error:  # it could be made a moment ago: what is in force stays
            self._dispatcher.guard.note("__init__", error)
            return
        self._dispatcher.set_policy(policy, self._lives.live.values())
        self._feasibility.settings_changed()
        for worker in self.workers.values():
            self._lives.paces[worker.up.model] = worker.pace(self._dispatcher.rules)
        for job in self._lives.live.values():
            job.state, job.review_at = None, math.inf
            self._lives.estimate(job)
            self._dispatcher.rekey(job, now_ms)
        self._ageing.stop()
        if policy.ages:
            self._ageing.wake(now_ms)

    # -- decisions

    def tick(self, now_ms: float) -> list[Decision]:
        """Everything that follows from the events since the last tick, in the order in which it is to be done."""
        self._lives.expire(now_ms)
        for job_id in self._ageing.take(now_ms, self._dispatcher.ids_by_place):
            if job_id in self._lives.live:
                self._dispatcher.rekey(self._lives.live[job_id], now_ms)
        for job in self._feasibility.take(now_ms):
            self._dispatcher.become_best_effort(job)
            self._lives.estimate(job)
            self._dispatcher.rekey(job, now_ms)
        return self._lives.take_decisions() + self._dispatcher.dispatch(now_ms)

    def _weight(self, tenant: str) -> float:
        return self._admission.terms(tenant).weight
