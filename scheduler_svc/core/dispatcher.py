"""Where each live job stands, in the pool or on a worker, and what the workers must be told of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.backlog import Backlog
from scheduler_svc.core.fairness import FairRules, FairShares, Group
from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.placement import Gate
from scheduler_svc.core.placements import Placement
from scheduler_svc.core.placing import Round
from scheduler_svc.core.policies import Policy, Room
from scheduler_svc.core.policies.guard import PolicyGuard
from scheduler_svc.core.types import Arrived, Assign, CancelOn, Decision, Job, PolicySettings, Reorder, WorkerUp
from scheduler_svc.core.workers import Key, WorkerView


class Dispatcher:
    """Pool and workers; every change marks what `place` and `reorder` have to look at again.

    Attributes:
        workers: by name of incarnation.
        guard: asks the policy in force.
        rules: how a step is filled under the policy and the choices in force.
        fair: the tenants' counters.
    """

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        look_ahead: int,
        placements: Mapping[str, type[Placement]],
        weight: Callable[[str], float] = lambda _: 1.0,
    ) -> None:
        self.workers: dict[str, WorkerView] = {}
        self.fair = FairShares(weight, self._crossed)
        self._look_ahead = look_ahead
        self._placements = placements
        self._take_policy(policy)
        self._planned_ms: dict[str, float] = {}
        self._plans = 0
        self._ledger = ledger
        self._backlogs: dict[str, Backlog] = {}
        self._stale_workers: dict[str, None] = {}
        self._stale_models: dict[str, None] = {}

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.guard.policy

    @property
    def settings(self) -> PolicySettings:
        """Of the policy in force, with the choices beside it."""
        return self.guard.policy.settings

    @property
    def gate(self) -> Gate:
        """Says who has room for whom."""
        return self._gate

    @property
    def reckons_memory(self) -> bool:
        """Whether predicted KV peaks decide who enters."""
        return self._gate.reckons_memory

    @property
    def overload(self) -> str:
        """What becomes of a request that would miss its target."""
        return self.guard.policy.overload

    def _take_policy(self, policy: Policy) -> bool:
        """True where the counters of fairness begin anew."""
        settings = policy.settings
        self.guard = PolicyGuard(policy)
        self.rules = settings.step_rules(self.guard.rules())
        self._gate = Gate(self._look_ahead, self._placements[settings.placement](), policy, self.rules, settings)
        for worker in self.workers.values():
            worker.entry = None
        return self.fair.take_rules(FairRules.of(settings, fair=policy.fair_shares, apart=policy.classes_apart))

    def set_policy(self, policy: Policy, live: Iterable[Job]) -> None:
        """Takes another policy; the caller gives every live job its new key."""
        if self._take_policy(policy):
            for job in live:
                self.fair.begins_anew(job)
        for backlog in self._backlogs.values():
            backlog.regroup()
        for worker in self.workers.values():
            for job in worker.jobs.values():
                worker.rekey(job, self.fair.band_of(job))
        self._planned_ms.clear()
        self._stale_workers.update(dict.fromkeys(self.workers))
        self._stale_models.update(dict.fromkeys(self._backlogs))

    def add_worker(self, up: WorkerUp) -> WorkerView:
        """A worker that takes jobs from now on."""
        assert up.worker not in self.workers, f"worker {up.worker} came up twice"
        worker = self.workers[up.worker] = WorkerView(up, up.cost)
        self._stale_workers[up.worker] = None
        self._stale_models[up.model] = None
        return worker

    def drop_worker(self, name: str) -> WorkerView | None:
        """Forgets a worker; the caller sees to the jobs that it had."""
        self._stale_workers.pop(name, None)
        return self.workers.pop(name, None)

    def room_changed(self, worker: WorkerView) -> None:
        """Something left this worker, or it takes jobs again, or no more."""
        worker.entry = None
        self._stale_models[worker.up.model] = None

    def enqueue(self, job: Job, now_ms: float) -> None:
        """Puts a new job into the pool."""
        job.key = self.guard.key(job, now_ms)
        self._ledger.waits(job)
        self.fair.waits(job)
        self.backlog(job.spec.model).put(job)
        self._stale_models[job.spec.model] = None

    def requeue(self, job: Job, worker: WorkerView, now_ms: float) -> None:
        """Takes a job from a worker that will not run it and puts it back into the pool."""
        worker.take(job)
        self._ledger.runs_no_more(job)
        self.fair.leaves(job)
        job.worker = None
        job.seated = False
        job.base_tokens = job.output_tokens
        self.enqueue(job, now_ms)

    def rekey(self, job: Job, now_ms: float) -> None:
        """Gives a live job the key that it has now."""
        key = self.guard.key(job, now_ms)
        if key == job.key:
            return
        self._stale_models[job.spec.model] = None
        if job.worker is None:
            self.backlog(job.spec.model).rekey(job, key)
            return
        job.key = key
        self.workers[job.worker].rekey(job)
        self._stale_workers[job.worker] = None

    def rank_of(self, job: Job) -> Key:
        """Where a live job stands in the whole order: its band of fairness, then the policy's key."""
        return (self.fair.band_of(job), *job.key) if job.worker is None else self.workers[job.worker].rank_of(job)

    def _crossed(self, model: str, group: Group) -> None:
        """A tenant has entered another band: what it has waiting moves."""
        self.backlog(model).reband(group)
        self._stale_models[model] = None

    def seat_changed(self, job: Job) -> None:
        """A placed job got a seat, or lost it."""
        if job.seated:
            self.fair.seated(job)
        else:
            self.fair.paused(job)

    def recount(self, job: Job) -> None:
        """A job was estimated anew, or began its answer: what it adds to the sums is another."""
        if job.worker is not None:
            worker = self.workers[job.worker]
            worker.tally.put(job)
            worker.peak = None
        elif job in (backlog := self.backlog(job.spec.model)):
            backlog.tally.put(job)

    def become_best_effort(self, job: Job) -> None:
        """A waiting LS job is BE from now on; the caller estimates it anew and gives it its key."""
        backlog = self.backlog(job.spec.model)
        backlog.take(job)
        self._ledger.waits_no_more(job)
        self.fair.leaves(job)
        job.relegated = True
        job.spec = replace(job.spec, latency_sensitive=False)
        job.charged = 0.0
        self._ledger.waits(job)
        self.fair.waits(job)
        backlog.put(job)

    def key_of(self, spec: Arrived, mean_tokens: float, now_ms: float) -> Key:
        """Where a request would stand if it came now and were as long as is expected."""
        job = Job(spec, now_ms, LengthDistribution.from_point(mean_tokens))
        workers = self.workers_of(spec.model)
        job.cost = self.guard.cost(job, workers[0].pace(self.rules)) if workers else 0.0
        return (self.fair.band_of(job), *self.guard.key(job, now_ms))

    def ids_by_place(self) -> list[int]:
        """Every live job, those of one place together: what is refreshed at once then concerns few workers."""
        ids = [job_id for backlog in self._backlogs.values() for job_id in backlog.ids()]
        for worker in self.workers.values():
            ids += worker.jobs
        return ids

    def workers_of(self, model: str) -> list[WorkerView]:
        """Those that run a model."""
        return [worker for worker in self.workers.values() if worker.up.model == model]

    def backlog(self, model: str) -> Backlog:
        """What waits for a model."""
        found = self._backlogs.get(model)
        if found is None:
            found = self._backlogs[model] = Backlog(self.fair.group, partial(self.fair.band, model))
        return found

    def remove(self, job: Job, *, still_running: bool) -> CancelOn | None:
        """Takes an ending job out of pool or worker; where its worker still runs it, says how to stop it."""
        if job.worker is None:
            self.backlog(job.spec.model).take(job)
            self._ledger.waits_no_more(job)
            self.fair.leaves(job)
            return None
        worker = self.workers[job.worker]
        worker.take(job)
        self._ledger.runs_no_more(job)
        self.fair.leaves(job)
        self.room_changed(worker)
        if not still_running:
            return None
        worker.leaving.add(job.job_id)
        return CancelOn(job.worker, job.job_id, job.attempt)

    def dispatch(self, now_ms: float) -> list[Decision]:
        """Places what can be placed and orders what changed."""
        decisions: list[Decision] = []
        for model in self._stale_models:
            self._place(model, now_ms, decisions)
        self._stale_models.clear()
        for name in self._stale_workers:
            self._reorder(self.workers[name], decisions)
        self._stale_workers.clear()
        decisions += self.guard.take_faults()
        return decisions

    def _place(self, model: str, now_ms: float, decisions: list[Decision]) -> None:
        backlog = self._backlogs.get(model)
        workers = self.workers_of(model)
        if not backlog or not workers:
            return
        placing = Round(
            backlog, workers, self._gate, self.fair, lambda job, worker: self._assign(job, worker, now_ms, decisions)
        )
        if self.rules.be_share > 0:
            placing.share()
        if self.guard.plan_head():
            self._plan(model, backlog, workers, now_ms)
        if self._gate.placement.longest_first:
            placing.longest_first()
        placing.in_order()

    def _plan(self, model: str, backlog: Backlog, workers: list[WorkerView], now_ms: float) -> None:
        """Has the policy order the first of what waits together: if one could be placed now, and not too often."""
        head = list(islice(backlog.best_first(), self.guard.plan_head()))
        if not head or self._gate.choose(head[0], self.rank_of(head[0]), workers) is None:
            return
        since_ms = now_ms - self._planned_ms.get(model, -math.inf)
        if head[0].state is not None and since_ms < self.guard.plan_every_ms():
            return
        self._planned_ms[model] = now_ms
        kv_tokens = sum(worker.up.kv_blocks * worker.up.kv_block_tokens for worker in workers)
        room = Room(sum(worker.seats(self.rules) for worker in workers), kv_tokens, workers[0].pace(self.rules))
        for job in self.guard.plan(head, room, now_ms):
            self._plans += 1
            job.state = float(self._plans)
            self.rekey(job, now_ms)

    def _assign(self, job: Job, worker: WorkerView, now_ms: float, decisions: list[Decision]) -> None:
        self.backlog(job.spec.model).take(job)
        self._ledger.waits_no_more(job)
        self._ledger.runs(job)
        job.worker = worker.up.worker
        job.attempt += 1
        job.base_tokens = job.output_tokens
        if job.first_assigned_ms is None:
            job.first_assigned_ms = now_ms
        worker.put(job, self.fair.band_of(job))
        self.fair.places(job)
        decisions.append(
            Assign(
                job.job_id,
                worker.up.worker,
                job.attempt,
                worker.next_rank,
                job.output_tokens,
                best_effort=job.relegated,
            )
        )
        worker.next_rank += 1
        worker.order_sent = (*worker.order_sent, job.job_id)
        self._stale_workers[worker.up.worker] = None

    def _reorder(self, worker: WorkerView, decisions: list[Decision]) -> None:
        """Tells a worker its order where it differs from what it has."""
        order = tuple([job_id for _, job_id in worker.order])
        rules = None if worker.rules_sent == self.rules else self.rules
        if order == worker.order_sent and rules is None:
            return
        known = tuple([job_id for job_id in worker.order_sent if job_id in worker.jobs])
        if rules is None and self._ranked(worker, order) == self._ranked(worker, known):
            worker.order_sent = known
            return
        worker.order_sent = order
        worker.rules_sent = self.rules
        worker.next_rank = len(order)
        decisions.append(Reorder(worker.up.worker, order, rules))

    def _ranked(self, worker: WorkerView, order: tuple[int, ...]) -> tuple[int, ...]:
        """The part of an order that a worker goes by: with tiers it orders LS itself, by its own clock."""
        if not self.rules.class_tiers:
            return order
        return tuple([job_id for job_id in order if not worker.jobs[job_id].spec.latency_sensitive])
