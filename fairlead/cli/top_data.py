"""One frame of `fairlead top` as data: two answers of the scheduler, and what changed between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from fairlead.cli.why_view import class_word, state_word
from fairlead.v1 import admin_pb2


@dataclass(frozen=True)
class WorkerRow:
    """One worker; None where it is not known."""

    worker: str
    model: str
    state: str
    seats_used: int
    step_seats: int
    held: int
    slots: int
    kv_blocks_used: int
    kv_blocks: int
    step_ms: float
    steps_per_s: float | None
    step_model_error: float | None


@dataclass(frozen=True)
class ClassRow:
    """One tenant's requests of one class. `attainment`: share of LS within both targets since the scheduler's start."""

    tenant: str
    service_class: str
    waiting: int
    running: int
    accepted_per_s: float | None
    tokens_per_s: float | None
    attainment: float | None
    attainment_now: float | None


@dataclass(frozen=True)
class RequestRow:
    """One live request."""

    request_id: str
    tenant: str
    service_class: str
    state: str
    worker: str
    age_ms: float
    prompt_tokens: int
    output_tokens: int
    expected_tokens: float
    mean_remaining_tokens: float
    predictions: int
    pauses: int
    evictions: int
    tier: float
    value: float


@dataclass(frozen=True)
class Frame:
    """What is shown at once.

    Attributes:
        over_s: time between the two answers that rates are reckoned from; None: there was one answer.
        live: live requests that fit the filter, by state; `requests` are the first of them.
    """

    policy: str
    uptime_s: float
    draining: bool
    predictor: str
    predictor_connected: bool
    predictions_answered: int
    predictions_missing: int
    predictions_in_flight: int
    policy_faults: dict[str, int]
    over_s: float | None
    workers: list[WorkerRow]
    classes: list[ClassRow]
    requests: list[RequestRow]
    live: dict[str, int] = field(default_factory=dict[str, int])

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """Two answers of about one time."""

    at_s: float
    status: admin_pb2.GetStatusResponse
    page: admin_pb2.ListRequestsResponse


def frame_of(now: Sample, before: Sample | None) -> Frame:
    """What `now` says, with rates since `before`."""
    status = now.status
    over_s = None if before is None or now.at_s <= before.at_s else now.at_s - before.at_s
    predictor = status.predictor
    return Frame(
        policy=status.policy,
        uptime_s=status.uptime_s,
        draining=status.draining,
        predictor=predictor.predictor,
        predictor_connected=predictor.connected,
        predictions_answered=predictor.answered,
        predictions_missing=predictor.late_or_missing,
        predictions_in_flight=predictor.in_flight,
        policy_faults=dict(status.policy_faults),
        over_s=over_s,
        workers=_workers(status, before, over_s),
        classes=_classes(status, before, over_s),
        requests=[_request(view) for view in now.page.requests],
        live={state_word(each.state): each.requests for each in now.page.counts},
    )


def _rate(now: float, before: float | None, over_s: float | None) -> float | None:
    """None without a figure before, or where it began anew (a restart)."""
    return None if before is None or over_s is None or now < before else (now - before) / over_s


def _workers(status: admin_pb2.GetStatusResponse, before: Sample | None, over_s: float | None) -> list[WorkerRow]:
    steps = {each.address: each.steps for each in before.status.workers} if before is not None else {}
    rows: list[WorkerRow] = []
    for each in status.workers:
        state = "draining" if each.draining else "connected" if each.connected else each.problem or "not connected"
        error = each.step_model.relative_error if each.step_model.HasField("relative_error") else None
        rows.append(
            WorkerRow(
                each.worker_id or each.address, each.model, state, each.seats_used, each.step_seats, each.assigned,
                each.slots, each.kv_blocks_used, each.kv_blocks, each.step_ms,
                _rate(each.steps, steps.get(each.address), over_s), error,
            )
        )  # fmt: skip
    return rows


def _classes(status: admin_pb2.GetStatusResponse, before: Sample | None, over_s: float | None) -> list[ClassRow]:
    known = {(each.tenant, each.service_class): each for each in before.status.classes} if before is not None else {}
    rows: list[ClassRow] = []
    for each in status.classes:
        old = known.get((each.tenant, each.service_class))
        ended = each.slo_offered - (old.slo_offered if old is not None else 0)
        met = each.slo_met - (old.slo_met if old is not None else 0)
        rows.append(
            ClassRow(
                each.tenant, class_word(each.service_class), each.waiting, each.running,
                _rate(each.accepted, old.accepted if old is not None else None, over_s),
                _rate(each.output_tokens, old.output_tokens if old is not None else None, over_s),
                each.slo_met / each.slo_offered if each.slo_offered else None,
                met / ended if old is not None and ended > 0 else None,
            )
        )  # fmt: skip
    return rows


def _request(view: admin_pb2.RequestView) -> RequestRow:
    return RequestRow(
        view.request_id, view.tenant, class_word(view.service_class), state_word(view.state), view.worker_id,
        view.age_ms, view.prompt_tokens, view.output_tokens, view.expected_tokens, view.mean_remaining_tokens,
        view.predictions, view.pauses, view.evictions, view.rank.tier, view.rank.value,
    )  # fmt: skip
