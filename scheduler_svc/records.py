"""Why each request ran when it did: a bounded record, made from the events and decisions that pass the shell.

Nothing is decided here and nothing that decides is changed. A step without a start, pause, resumption or eviction
costs one look; tokens are never gone through. What is told of a request is made when an operator asks (`why.py`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scheduler_svc.core.explain import weightiest
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Assign,
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
    Predicted,
    Stepped,
    TenantsChanged,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)
from scheduler_svc.metrics import COMPLETE, NOT_OFFERED, tpot_ms
from scheduler_svc.record_types import Kind, Moment, Record

SAMPLE_EVERY_MS = 1000.0
MOST_SAMPLED = 32
"""Waiting requests whose hindrance is looked at again, every so often: the cost does not grow with the queue."""
MOST_WORKERS = 4
"""Workers that are looked at for it."""
MOST_OTHERS = 8
MOST_TRIGGERS = 32
MOST_SPELLS = 64
MOST_ASKED = 16


_OF_CHANGE = {
    Change.STARTED: Kind.STARTED,
    Change.RESUMED: Kind.RESUMED,
    Change.PAUSED: Kind.PAUSED,
    Change.EVICTED: Kind.EVICTED,
}
_TAKES_SEAT = (Change.STARTED, Change.RESUMED)


class Records:
    """Watches a core.

    Args:
        core: read, never changed.
        name_of: request id of a job that is live.
        events: moments kept of each request.
        finished: ended requests kept.

    Attributes:
        spells: (since when, policy) as they were in force, the newest last.
        offered, met: LS requests that ended, by tenant, without those that their client cancelled; and those of them
            that met both targets.
    """

    def __init__(self, core: SchedulerCore, name_of: Callable[[int], str], *, events: int, finished: int) -> None:
        self._core = core
        self._name_of = name_of
        self._events = events
        self._finished = finished
        self._live: dict[int, Record] = {}
        self._ended: OrderedDict[int, Record] = OrderedDict()
        self._arriving: list[tuple[Arrived, float]] = []
        self._waiting: dict[int, None] = {}
        self._triggers: list[Event] = []
        self._predictions: list[tuple[Record, Moment]] = []
        self._sample_due_ms = 0.0
        self.spells: deque[tuple[float, str]] = deque([(0.0, core.policy.name)], maxlen=MOST_SPELLS)
        self.offered: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self._on: dict[type[Any], Callable[[Any, float], None]] = {
            Arrived: self._arrived,
            Predicted: self._predicted,
            Stepped: self._stepped,
            ExecutionEnded: self._trigger,
            AssignRefused: self._refused,
            CancelRequested: self._trigger,
            WorkerUp: self._trigger,
            WorkerUpdated: self._trigger,
            WorkerLost: self._worker_lost,
            PolicyChanged: self._policy_changed,
            TenantsChanged: self._trigger,
        }

    def of(self, job_id: int) -> Record | None:
        """The record of a request that is live, or ended and not pushed out."""
        return self._live.get(job_id) or self._ended.get(job_id)

    # -- what passes

    def saw(self, event: Event, at_ms: float) -> None:
        """An event is about to go into the core."""
        self._on[type(event)](event, at_ms)

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        """The core has decided; nothing of it is carried out yet."""
        if self._arriving:
            self._begin()
        if self._predictions:
            self._tell_predictions()
        for decision in decisions:
            if isinstance(decision, Assign):
                self._assigned(decision, now_ms)
            elif isinstance(decision, AskPrediction):
                self._asked(decision, now_ms)
            elif isinstance(decision, End):
                self._end(decision, now_ms)
        if self._arriving:
            for spec, _ in self._arriving:
                self._look(spec.job_id, now_ms)
            self._arriving.clear()
        if self._waiting and now_ms >= self._sample_due_ms:
            self._sample(now_ms)
        if self._triggers:
            self._triggers.clear()

    # -- events

    def _trigger(self, event: Event, at_ms: float) -> None:  # noqa: ARG002
        if len(self._triggers) < MOST_TRIGGERS:
            self._triggers.append(event)

    def _arrived(self, event: Arrived, at_ms: float) -> None:
        self._arriving.append((event, at_ms))

    def _begin(self) -> None:
        """Records of those that came since the last tick: the core knows them by now."""
        for spec, at_ms in self._arriving:
            job = self._core.job(spec.job_id)
            if job is not None:
                moments: deque[Moment] = deque(maxlen=self._events)
                self._live[spec.job_id] = Record(self._name_of(spec.job_id), spec, at_ms, job, moments)

    def _predicted(self, event: Predicted, at_ms: float) -> None:
        record = self._live.get(event.job_id)
        if record is None:
            return
        asked_ms = record.asked.pop(event.generated_tokens, None)
        figures = {"asked_at_tokens": float(event.generated_tokens)}
        if asked_ms is not None:
            figures["answered_after_ms"] = at_ms - asked_ms
        law = event.distribution
        if law is None:
            record.add(Moment(at_ms, Kind.NOT_PREDICTED, text="no sound answer came in time", figures=figures))
            return
        if record.predicted_ms is None:
            record.predicted_ms = at_ms
        moment = Moment(at_ms, Kind.PREDICTED, text=law.source, figures=figures)
        record.add(moment)
        self._predictions.append((record, moment))

    def _tell_predictions(self) -> None:
        """What the core made of the answers since the last tick: it has them cut at the request's bound by now."""
        for record, moment in self._predictions:
            moment.law = record.job.distribution, record.job.output_tokens
        self._predictions.clear()

    def _stepped(self, event: Stepped, at_ms: float) -> None:
        if not event.changes:
            return
        took: list[Record] = []
        lost: list[Record] = []
        for job_id, attempt, change in event.changes:
            record = self._live.get(job_id)
            job = None if record is None else record.job
            if record is None or job is None or job.attempt != attempt or job.worker != event.worker:
                continue
            if job.outcome is not None:  # it has ended meanwhile, in this turn of the loop, and has left its worker
                continue
            record.change = change
            takes = change in _TAKES_SEAT
            (took if takes else lost).append(record)
        takers, losers = _ids(took), _ids(lost)
        for record in took:
            assert record.change is not None
            record.add(Moment(at_ms, _OF_CHANGE[record.change], event.worker, figures=self._place(record.job)))
            if losers:
                record.add(Moment(at_ms, Kind.DISPLACED, event.worker, others=losers))
        for record in lost:
            assert record.change is not None
            text = (
                "others took seats in the same step"
                if takers
                else "nobody took its place in that step: its time, tokens or KV blocks went to those who run"
            )
            figures = self._place(record.job)
            record.add(Moment(at_ms, _OF_CHANGE[record.change], event.worker, text, figures, takers))

    def _refused(self, event: AssignRefused, at_ms: float) -> None:
        self._trigger(event, at_ms)
        record = self._live.get(event.job_id)
        if record is not None and record.job.attempt == event.attempt:
            self._returned(record, event.worker, f"the worker did not take it: {event.reason.value}", at_ms)

    def _worker_lost(self, event: WorkerLost, at_ms: float) -> None:
        self._trigger(event, at_ms)
        worker = self._core.workers.get(event.worker)
        for job_id in worker.jobs if worker is not None else ():
            record = self._live.get(job_id)
            if record is not None:
                self._returned(record, event.worker, "its worker was lost", at_ms)

    def _returned(self, record: Record, worker: str, text: str, at_ms: float) -> None:
        record.add(Moment(at_ms, Kind.RETURNED, worker, text))
        record.change = None
        self._waiting[record.spec.job_id] = None

    def _policy_changed(self, event: PolicyChanged, at_ms: float) -> None:
        self._trigger(event, at_ms)
        self.spells.append((at_ms, event.policy))

    # -- decisions

    def _asked(self, decision: AskPrediction, now_ms: float) -> None:
        record = self._live.get(decision.job_id)
        if record is not None and len(record.asked) < MOST_ASKED:
            record.asked[decision.generated_tokens] = now_ms

    def _assigned(self, decision: Assign, now_ms: float) -> None:
        record = self._live.get(decision.job_id)
        if record is None:
            return
        self._waiting.pop(decision.job_id, None)
        record.change = None
        job, worker = record.job, self._core.workers[decision.worker]
        if job.relegated:
            self._relegated(record, now_ms)
        figures = {
            "waited_ms": now_ms - record.arrived_ms,
            "attempt": float(decision.attempt),
            "output_tokens": float(decision.forced_tokens),
            **self._place(job),
        }
        text, others = self._let_in(record, decision.worker)
        seats = worker.seats(self._core.rules)
        if figures.get("ahead", 0.0) < seats < len(worker.order):
            first_out = worker.order[seats][1]
            if first_out != decision.job_id:
                text += "; it goes before the first one without a seat"
                others = (*others, first_out)
        record.add(Moment(now_ms, Kind.ASSIGNED, decision.worker, text, figures, others))

    def _let_in(self, record: Record, worker: str) -> tuple[str, tuple[int, ...]]:
        """What of the events since the last tick gave it room: (in words, who left)."""
        job_id = record.spec.job_id
        if any(spec.job_id == job_id for spec, _ in self._arriving):
            return "there was room as it arrived", ()
        left = tuple(
            event.job_id
            for event in self._triggers
            if (isinstance(event, ExecutionEnded) and event.worker == worker) or isinstance(event, CancelRequested)
        )
        if left:
            return "others left the worker", left[:MOST_OTHERS]
        for kind, words in _WORDS:
            if any(isinstance(event, kind) for event in self._triggers):
                return words, ()
        return "the order changed: by a prediction, a window of tokens, a pause, or with time", ()

    def _end(self, decision: End, now_ms: float) -> None:
        self._waiting.pop(decision.job_id, None)
        record = self._live.pop(decision.job_id, None)
        if record is None:
            return
        # What an engine says in words may quote what it was asked.
        words = "" if decision.outcome is Outcome.FAILED_ENGINE else decision.detail
        record.ended_ms = now_ms
        record.asked.clear()
        record.add(Moment(now_ms, Kind.ENDED, record.job.worker or "", words))
        if record.spec.latency_sensitive and decision.outcome not in NOT_OFFERED:
            self.offered[record.spec.tenant] += 1
            self.met[record.spec.tenant] += _met(record, decision.outcome)
        if self._finished:
            self._ended[decision.job_id] = record
            if len(self._ended) > self._finished:
                self._ended.popitem(last=False)

    # -- what waits

    def _sample(self, now_ms: float) -> None:
        """Looks again at some of those that wait, in turn."""
        self._sample_due_ms = now_ms + SAMPLE_EVERY_MS
        for _ in range(min(MOST_SAMPLED, len(self._waiting))):
            job_id = next(iter(self._waiting))
            del self._waiting[job_id]
            self._look(job_id, now_ms)

    def _look(self, job_id: int, now_ms: float) -> None:
        """Notes what keeps a request waiting, where that is another thing than it was."""
        record = self._live.get(job_id)
        if record is None or record.job.worker is not None:
            return
        self._waiting[job_id] = None
        job = record.job
        if job.relegated:
            self._relegated(record, now_ms)
        worker, hindrance = weightiest(self._core.hindrances(job, MOST_WORKERS))
        ahead = float(self._core.place_of(job))
        last = record.moments[-1] if record.moments else None
        if last is not None and last.kind is Kind.WAITS and last.hindrance is hindrance:
            last.figures["ahead_last"] = ahead
            last.figures["seen_for_ms"] = now_ms - last.at_ms
            return
        figures = {"ahead": ahead, **_key(job)}
        record.add(Moment(now_ms, Kind.WAITS, worker, hindrance.value, figures, hindrance=hindrance))

    def _relegated(self, record: Record, now_ms: float) -> None:
        if not any(moment.kind is Kind.RELEGATED for moment in record.moments):
            record.add(Moment(now_ms, Kind.RELEGATED, text="its targets were out of reach: served as BE"))

    def _place(self, job: Job) -> dict[str, float]:
        """Where a placed job stands on its worker."""
        figures = _key(job)
        worker = self._core.workers.get(job.worker) if job.worker is not None else None
        if worker is not None and job.job_id in worker.jobs:  # it may have ended in this very turn
            figures["ahead"] = float(worker.place_of(job))
            figures["held"] = float(len(worker.order))
            figures["seats"] = float(worker.seats(self._core.rules))
            figures["ls_held"] = float(worker.tally.latency_sensitive)
        return figures


_WORDS: tuple[tuple[type[Any], str], ...] = (
    (WorkerUp, "a worker came up"),
    (WorkerUpdated, "a worker told its pace, or takes requests again"),
    (WorkerLost, "it was placed anew after a worker was lost"),
    (AssignRefused, "it was placed anew after a worker did not take it"),
    (PolicyChanged, "the policy changed"),
    (TenantsChanged, "the tenants' weights or limits changed"),
)


def _key(job: Job) -> dict[str, float]:
    return {"tier": job.key[0], "value": job.key[1], "cost": job.cost}


def _ids(records: Iterable[Record]) -> tuple[int, ...]:
    return tuple([record.spec.job_id for record in records][:MOST_OTHERS])


def _met(record: Record, outcome: Outcome) -> bool:
    """Whether an LS request met both of its targets, as it came."""
    spec, job = record.spec, record.job
    if outcome not in COMPLETE or job.first_token_ms is None:
        return False
    pace_ms = tpot_ms(job)
    return job.first_token_ms - job.arrival_ms <= spec.ttft_ms and (pace_ms is None or pace_ms <= spec.tpot_ms)
