"""What workers tell, carried over to the jobs: tokens, seats, ends, refusals; and workers that come, change or go.

Events about ended jobs or earlier attempts change nothing. Pure.
"""

from __future__ import annotations

from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.ledger import Ledger
from scheduler_svc.core.lives import Lives
from scheduler_svc.core.priors import Priors
from scheduler_svc.core.types import (
    AdmitRefusal,
    AssignRefused,
    Change,
    ExecutionEnded,
    Job,
    Outcome,
    Stepped,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)


class Reports:
    """Takes the events of workers.

    Args:
        lives: the jobs.
        dispatcher: knows the workers.
        ledger: counts tokens.
        priors: learn the lengths of whole answers.
    """

    def __init__(self, lives: Lives, dispatcher: Dispatcher, ledger: Ledger, priors: Priors) -> None:
        self._lives = lives
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._priors = priors

    def stepped(self, event: Stepped, now_ms: float) -> None:
        """Tokens are out, seats were taken or lost."""
        window = self._dispatcher.settings.window_tokens
        worker = self._dispatcher.workers.get(event.worker)
        if worker is not None:
            worker.peak = None
        live, name, account_of = self._lives.live, event.worker, self._ledger.of
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
                self._lives.estimate(job)
                self._dispatcher.fair.estimated(job)
                self._lives.ask(job)
                self._dispatcher.rekey(job, now_ms)
            elif out >= job.review_at:
                self._dispatcher.rekey(job, now_ms)
        for job_id, attempt, change in event.changes:
            job = self._lives.live.get(job_id)
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

    def execution_ended(self, event: ExecutionEnded, now_ms: float) -> None:
        """A worker let go of a job: it ran to its end, or was stopped."""
        worker = self._dispatcher.workers.get(event.worker)
        if worker is None:
            return
        worker.leaving.discard(event.job_id)
        worker.full = False
        self._dispatcher.room_changed(worker)
        job = self._lives.live.get(event.job_id)
        if job is None or job.attempt != event.attempt or job.worker != event.worker:
            return
        if event.outcome in (Outcome.STOP, Outcome.LENGTH):
            self._priors.observe(job.spec, job.output_tokens)
        self._lives.end(job, event.outcome, event.detail, now_ms, still_running=False)

    def assign_refused(self, event: AssignRefused, now_ms: float) -> None:
        """A worker does not take a job."""
        worker = self._dispatcher.workers.get(event.worker)
        if worker is None:
            return
        worker.leaving.discard(event.job_id)
        worker.entry = None
        worker.full |= event.reason is AdmitRefusal.FULL
        worker.draining |= event.reason is AdmitRefusal.DRAINING
        job = self._lives.live.get(event.job_id)
        if job is None or job.attempt != event.attempt or job.worker != event.worker:
            return
        if event.reason in (AdmitRefusal.FULL, AdmitRefusal.DRAINING):
            self._lives.requeue(job, worker, now_ms)
        else:
            invalid = event.reason is AdmitRefusal.INVALID
            outcome = Outcome.FAILED_ENGINE if invalid else Outcome.FAILED_INTERNAL
            self._lives.end(job, outcome, event.detail, now_ms, still_running=False)

    def worker_up(self, event: WorkerUp) -> None:
        """A worker takes jobs from now on."""
        worker = self._dispatcher.add_worker(event)
        self._lives.paces[event.model] = worker.pace(self._dispatcher.rules)

    def worker_updated(self, event: WorkerUpdated) -> None:
        """A worker has another pace, or drains."""
        worker = self._dispatcher.workers.get(event.worker)
        if worker is None:
            return
        if event.cost is not None:
            worker.cost = event.cost
            self._lives.paces[worker.up.model] = worker.pace(self._dispatcher.rules)
        if event.relative_error is not None:
            worker.relative_error = event.relative_error
        if event.draining is not None:
            worker.draining = event.draining
            self._dispatcher.room_changed(worker)

    def worker_lost(self, event: WorkerLost, now_ms: float) -> None:
        """Its jobs go back to the pool with what is out already, or end where that would not be exact."""
        worker = self._dispatcher.workers.get(event.worker)
        if worker is None:
            return
        for job in list(worker.jobs.values()):
            if job.output_tokens >= job.spec.max_tokens:  # whole, only the word of its end was lost
                self._lives.end(job, Outcome.LENGTH, "", now_ms, still_running=False)
            elif job.spec.continuable or job.output_tokens == 0:
                self._lives.requeue(job, worker, now_ms)
            else:
                text = "its worker was lost in mid-answer; penalties or a seed forbid an exact continuation elsewhere"
                self._lives.end(job, Outcome.FAILED_WORKER_LOST, text, now_ms, still_running=False)
        self._dispatcher.drop_worker(event.worker)
