"""What an operator is told of a request: its record, and where it stands now, as messages of the admin service."""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from fairlead.rpc import Refusal, invalid
from fairlead.v1 import admin_pb2, types_pb2
from scheduler_svc.core.placement import Hindrance
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import Change, Job
from scheduler_svc.policy_settings import told
from scheduler_svc.record_types import Kind, Moment, Record
from scheduler_svc.records import Records
from scheduler_svc.requests import Book
from scheduler_svc.wire import OUTCOME_TO_WIRE, class_to_wire, rules_to_wire

MAX_ID_CHARS = 256

STATES = {
    Change.STARTED: admin_pb2.REQUEST_STATE_RUNNING,
    Change.RESUMED: admin_pb2.REQUEST_STATE_RUNNING,
    Change.PAUSED: admin_pb2.REQUEST_STATE_PAUSED,
    Change.EVICTED: admin_pb2.REQUEST_STATE_EVICTED,
}


class Teller:
    """Turns records into messages.

    Args:
        core: where live requests stand.
        records: what happened to them.
    """

    def __init__(self, core: SchedulerCore, records: Records) -> None:
        self._core = core
        self._records = records

    def why(self, record: Record, now_ms: float) -> admin_pb2.WhyResponse:
        """All that is known of a request."""
        job, spec, policy = record.job, record.spec, self._core.policy
        answer = admin_pb2.WhyResponse(
            request=self.view(record, now_ms),
            slo=types_pb2.Slo(ttft_ms=spec.ttft_ms, tpot_ms=spec.tpot_ms, completion_ms=spec.completion_ms),
            outcome=None if job.outcome is None else OUTCOME_TO_WIRE[job.outcome],
            times=_times(record),
            moments=[self._moment(record, moment) for moment in self._all_moments(record)],
            moments_left_out=record.left_out,
            policies=self._spells(record),
            settings=told(policy),
            rules=rules_to_wire(self._core.rules),
        )
        if job.outcome is None:
            answer.standing.CopyFrom(self._standing(job, now_ms))
        return answer

    def view(self, record: Record, now_ms: float) -> admin_pb2.RequestView:
        """A request in one line."""
        job, spec = record.job, record.spec
        law, out = job.distribution, job.output_tokens
        return admin_pb2.RequestView(
            request_id=record.request_id,
            tenant=spec.tenant,
            model=spec.model,
            service_class=class_to_wire(job.spec.latency_sensitive),
            relegated=job.relegated,
            state=state_of(record),
            worker_id=worker_id(job.worker or ""),
            age_ms=(now_ms if record.ended_ms is None else record.ended_ms) - record.arrived_ms,
            prompt_tokens=spec.prompt_tokens,
            output_tokens=out,
            max_tokens=spec.max_tokens,
            expected_tokens=law.quantile(0.5, out),
            mean_remaining_tokens=law.mean_remaining(out),
            predictions=job.predictions,
            pauses=job.pauses,
            evictions=job.evictions,
            attempts=job.attempt,
            rank=_rank(job),
        )

    def _standing(self, job: Job, now_ms: float) -> admin_pb2.Standing:
        found = self._core.standing(job, now_ms)
        return admin_pb2.Standing(
            rank=_rank(job),
            inputs=found.inputs,
            ahead=found.ahead,
            standing=found.standing,
            seats=found.seats,
            first_ahead=[self._other(other.job_id, other) for other in found.first_ahead],
            ahead_by_class={
                f"{tenant} {'ls' if latency_sensitive else 'be'}": count
                for (tenant, latency_sensitive), count in found.ahead_by_class.items()
            },
            hindrances=[
                admin_pb2.Hindrance(worker_id=worker_id(worker), reason=_reason(reason))
                for worker, reason in found.hindrances
            ],
        )

    def _all_moments(self, record: Record) -> Iterable[Moment]:
        """With its arrival before them and the questions that are still open behind them."""
        spec = record.spec
        begun = {"prompt_tokens": float(spec.prompt_tokens), "max_tokens": float(spec.max_tokens)}
        if spec.received_tokens:
            begun["received_tokens"] = float(spec.received_tokens)
        yield Moment(record.arrived_ms, Kind.ARRIVED, figures=begun)
        yield from record.moments
        for tokens, at_ms in record.asked.items():
            yield Moment(at_ms, Kind.ASKED, text="not answered yet", figures={"asked_at_tokens": float(tokens)})

    def _moment(self, record: Record, moment: Moment) -> admin_pb2.Moment:
        return admin_pb2.Moment(
            at_ms=moment.at_ms - record.arrived_ms,
            kind=f"MOMENT_KIND_{moment.kind.name}",
            worker_id=worker_id(moment.worker),
            text=moment.text,
            figures=moment.all_figures(),
            others=[self._other(job_id) for job_id in moment.others],
            hindrance=None if moment.hindrance is None else _reason(moment.hindrance),
        )

    def _other(self, job_id: int, job: Job | None = None) -> admin_pb2.OtherRequest:
        record = self._records.of(job_id)
        if record is None:
            return admin_pb2.OtherRequest()
        return admin_pb2.OtherRequest(
            request_id=record.request_id,
            tenant=record.spec.tenant,
            service_class=class_to_wire(record.job.spec.latency_sensitive),
            rank=None if job is None else _rank(job),
        )

    def _spells(self, record: Record) -> list[admin_pb2.PolicySpell]:
        spells = list(self._records.spells)
        end_ms = float("inf") if record.ended_ms is None else record.ended_ms
        first = max((index for index, (at_ms, _) in enumerate(spells) if at_ms <= record.arrived_ms), default=0)
        return [
            admin_pb2.PolicySpell(policy=name, from_ms=max(at_ms - record.arrived_ms, 0.0))
            for at_ms, name in spells[first:]
            if at_ms <= end_ms
        ]


def find_record(request: admin_pb2.WhyRequest, book: Book, records: Records) -> Record:
    """The record of a request by its id. Raises Refusal where there is none, or more than one tenant has such an id."""
    wanted, tenant = request.request_id[:MAX_ID_CHARS], request.tenant
    if not wanted:
        raise invalid("request_id", "must be given; `fairlead top` lists those that live")
    found = book.find_any(wanted, tenant or None)
    if not found:
        whose = f"of tenant {tenant!r} " if tenant else ""
        raise _unknown(f"no request {wanted!r} {whose}is known here; it was never accepted, or is forgotten")
    if len(found) > 1:
        names = ", ".join(sorted(each.accepted.tenant for each in found))
        raise invalid("tenant", f"must be given: {names} have a request {wanted!r} each")
    record = records.of(found[0].handle)
    if record is None:
        raise _unknown(
            f"the record of request {wanted!r} is gone: scheduler.why_finished says how many ended ones are kept"
        )
    return record


def _unknown(what: str) -> Refusal:
    return Refusal(grpc.StatusCode.NOT_FOUND, f"request_id: {what}", fields=[("request_id", what)], reason="NO_RECORD")


def state_of(record: Record) -> admin_pb2.RequestState:
    """Where a request is in its life."""
    job = record.job
    if job.outcome is not None:
        return admin_pb2.REQUEST_STATE_ENDED
    if job.worker is None:
        return admin_pb2.REQUEST_STATE_WAITING
    return admin_pb2.REQUEST_STATE_PLACED if record.change is None else STATES[record.change]


def worker_id(name: str) -> str:
    """A worker as operators know it: the core's name of it ends in its incarnation."""
    return name.rpartition("/")[0] or name


def _rank(job: Job) -> admin_pb2.RankKey:
    return admin_pb2.RankKey(tier=job.key[0], value=job.key[1], cost=job.cost)


def _reason(hindrance: Hindrance) -> str:
    return f"HINDRANCE_REASON_{hindrance.name}"


def _times(record: Record) -> admin_pb2.RequestTimes:
    job = record.job

    def since(at_ms: float | None) -> float | None:
        return None if at_ms is None else at_ms - record.arrived_ms

    return admin_pb2.RequestTimes(
        predicted_ms=since(record.predicted_ms),
        assigned_ms=since(job.first_assigned_ms),
        first_token_ms=since(job.first_token_ms),
        last_token_ms=since(job.last_token_ms),
        ended_ms=since(record.ended_ms),
    )
