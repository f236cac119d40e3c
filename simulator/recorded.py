"""What a recording says of its traffic: who came when, how long each answer was, what the predictor said, who served.

True lengths are those of answers that ended by themselves. One that was cut (cancelled, expired, lost, or still running
when the recording ends) gets the median that its last prediction gave it, given the tokens that were out; without a
prediction it counts as long as it had become. One of which neither is known is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Assign,
    Change,
    End,
    Event,
    Outcome,
    PolicySettings,
    Predicted,
    StepCost,
    Stepped,
    TenantsChanged,
    TenantTerms,
    WorkerUp,
    WorkerUpdated,
)
from simulator.decision_log import Header, Item, LogError, Recording
from simulator.world import MODEL, Request

PROGRESS_EVERY = 4096
Answers = list[tuple[int, float, LengthDistribution | None]]
"""(tokens out when it was asked, ms until the answer, the answer or None), in the order of asking."""


@dataclass(frozen=True, slots=True)
class RecordedWorker:
    """A worker as it described itself, with the pace that it told last."""

    up_ms: float
    up: WorkerUp


@dataclass
class Traffic:
    """A recording as a workload.

    Attributes:
        policy, settings: under which it was recorded at first.
        offered: requests as the simulator submits them, on a clock that begins at 0.
        served: the same requests as they went when it was recorded.
        answers: of the predictor, by job id in `offered`.
        workers: of the model.
        terms: of all tenants, and from when on they held.
        notes: what a user should know of it.
    """

    name: str
    policy: str
    settings: PolicySettings
    offered: list[Request]
    served: list[Request]
    answers: dict[int, Answers]
    workers: list[RecordedWorker]
    terms: list[tuple[float, tuple[TenantTerms, ...]]] = field(
        default_factory=list[tuple[float, tuple[TenantTerms, ...]]]
    )
    notes: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Seen:
    """One recorded request."""

    spec: Arrived
    request: Request
    worker: str = ""
    attempt: int = 0
    asked: dict[int, float] = field(default_factory=dict[int, float])
    answers: Answers = field(default_factory=Answers)

    @property
    def law(self) -> LengthDistribution | None:
        """The newest prediction."""
        return next((law for _, _, law in reversed(self.answers) if law is not None), None)


class _Reader:
    """Follows a recording from its first line to its last."""

    def __init__(self) -> None:
        self.seen: dict[int, _Seen] = {}
        self.workers: dict[str, RecordedWorker] = {}
        self.terms: list[tuple[float, tuple[TenantTerms, ...]]] = []
        self.begin_ms: float | None = None

    def take(self, item: Item) -> None:
        """One line."""
        if item.event is not None:
            self._event(item.event, item.ms)
        for value in item.decided:
            self._decision(value, item)

    def worker_up(self, up: WorkerUp, at_ms: float) -> None:
        """A worker came up, or comes back in another incarnation."""
        name = worker_of(up.worker)
        before = self.workers.get(name)
        self.workers[name] = RecordedWorker(at_ms if before is None else before.up_ms, up)

    def _event(self, event: Event, ms: float) -> None:
        match event:
            case Arrived():
                self.begin_ms = ms if self.begin_ms is None else min(self.begin_ms, ms)
                request = Request(event, 0, arrival_ms=ms, received=event.received_tokens)
                self.seen[event.job_id] = _Seen(event, request)
            case Predicted(job_id, generated, law):
                self._predicted(job_id, generated, law, ms)
            case Stepped():
                self._stepped(event, ms)
            case WorkerUp():
                self.worker_up(event, ms)
            case TenantsChanged(tenants):
                self.terms.append((ms, tenants))
            case WorkerUpdated(worker, cost):
                self._paced(worker_of(worker), cost)
            case _:
                pass

    def _paced(self, name: str, cost: StepCost | None) -> None:
        known = self.workers.get(name)
        if known is not None and cost is not None:
            self.workers[name] = replace(known, up=replace(known.up, cost=cost))

    def _predicted(self, job_id: int, generated: int, law: LengthDistribution | None, ms: float) -> None:
        seen = self.seen.get(job_id)
        if seen is not None:
            asked_ms = seen.asked.pop(generated, ms)
            seen.answers.append((generated, max(0.0, ms - asked_ms), law))

    def _stepped(self, event: Stepped, ms: float) -> None:
        for job_id, attempt, count in event.tokens:
            seen = self.seen.get(job_id)
            if seen is None or seen.attempt != attempt or seen.worker != event.worker:
                continue
            request = seen.request
            if request.outcome is None:
                request.received += count
                request.last_ms = ms
                request.first_ms = ms if request.first_ms is None else request.first_ms
        for job_id, _, change in event.changes:
            seen = self.seen.get(job_id)
            if seen is not None:
                seen.request.pauses += change is Change.PAUSED
                seen.request.evictions += change is Change.EVICTED

    def _decision(self, value: Mapping[str, Any], item: Item) -> None:
        seen = self.seen.get(value.get("job_id", -1))
        if seen is None:
            return
        try:
            match value.get("d"):
                case AskPrediction.__name__:
                    seen.asked[int(value["generated_tokens"])] = item.ms
                case Assign.__name__:
                    seen.worker, seen.attempt = str(value["worker"]), int(value["attempt"])
                    seen.request.relegated = bool(value.get("best_effort", False))
                case End.__name__:
                    seen.request.outcome = Outcome(value["outcome"])
                case _:
                    pass
        except (KeyError, TypeError, ValueError) as error:
            raise LogError(f"{item.where}: {value.get('d')}: {error!r}") from None


def read_traffic(recording: Recording, progress: Callable[[int], None] | None = None) -> Traffic:
    """All that a recording says of its traffic.

    Raises:
        LogError: a line does not fit, or there is nothing in it to simulate.
    """
    reader = _Reader()
    first = recording.headers[0]
    for up in first.workers:
        reader.worker_up(up, first.ms)
    reader.terms.append((first.ms, first.terms))
    for number, item in enumerate(recording.items(), start=1):
        reader.take(item)
        if progress is not None and number % PROGRESS_EVERY == 0:
            progress(number)
    if reader.begin_ms is None:
        raise LogError(f"{first.path}: no request arrives in it, so there is nothing to simulate")
    models = Counter(seen.spec.model for seen in reader.seen.values())
    model = models.most_common(1)[0][0]
    mine = [seen for seen in reader.seen.values() if seen.spec.model == model]
    workers = [each for each in reader.workers.values() if each.up.model == model]
    if not workers:
        raise LogError(f"{first.path}: no worker of {model!r} is in it, so nothing says what served")
    traffic = _deal(mine, reader.begin_ms, first)
    traffic.workers = [replace(each, up_ms=max(0.0, each.up_ms - reader.begin_ms)) for each in workers]
    traffic.terms = [(max(0.0, at_ms - reader.begin_ms), terms) for at_ms, terms in reader.terms]
    traffic.notes += recording.notes
    if len(models) > 1:
        traffic.notes.append(f"{len(models)} models; simulated is the busiest, {model!r}: {len(mine)} requests")
    if not recording.whole:
        traffic.notes.append("its beginning is missing: requests that had arrived before are not in it")
    if recording.lost:
        traffic.notes.append(f"{recording.lost} lines were lost when it was recorded: some answers look shorter")
    return traffic


def _deal(mine: Iterable[_Seen], begin_ms: float, first: Header) -> Traffic:
    """Requests with their true lengths, in order of arrival."""
    name = f"recorded {first.started_at[:16]}"
    traffic = Traffic(name, first.policy, first.settings, [], [], {}, [])
    cut = left_out = predicted = 0
    for seen in sorted(mine, key=lambda each: (each.request.arrival_ms, each.spec.job_id)):
        length = _length(seen)
        if length is None:
            left_out += 1
            continue
        cut += seen.request.outcome not in (Outcome.STOP, Outcome.LENGTH)
        predicted += seen.law is not None
        index = len(traffic.offered)
        expires_ms = None if seen.spec.expires_ms is None else seen.spec.expires_ms - begin_ms
        spec = replace(seen.spec, job_id=index, model=MODEL, expires_ms=expires_ms)
        traffic.offered.append(Request(spec, length, arrival_ms=seen.request.arrival_ms - begin_ms))
        traffic.served.append(_from_zero(seen.request, length, begin_ms))
        traffic.answers[index] = seen.answers
    total = len(traffic.offered)
    if not total:
        raise LogError(f"{name}: of no request the length is known, so there is nothing to simulate")
    traffic.notes.append(f"{total} requests, {predicted} of them with recorded predictions")
    if cut:
        traffic.notes.append(f"{cut} answers were cut when recorded; their lengths are estimated from predictions")
    if left_out:
        traffic.notes.append(f"{left_out} requests left out: cut before any token, without a prediction")
    return traffic


def _length(seen: _Seen) -> int | None:
    """Output tokens of the whole answer; None where nothing tells."""
    out, most = seen.request.received, seen.spec.max_tokens
    if seen.request.outcome in (Outcome.STOP, Outcome.LENGTH):
        return out if out > seen.spec.received_tokens else None
    law = seen.law
    guess = out if law is None else max(out, round(law.quantile(0.5, out)))
    return min(max(guess, seen.spec.received_tokens + 1), most) if guess else None


def _from_zero(request: Request, length: int, begin_ms: float) -> Request:
    def moved(at_ms: float | None) -> float | None:
        return None if at_ms is None else at_ms - begin_ms

    return replace(
        request,
        answer_tokens=length,
        arrival_ms=request.arrival_ms - begin_ms,
        first_ms=moved(request.first_ms),
        last_ms=moved(request.last_ms),
    )


def worker_of(name: str) -> str:
    """A worker without its incarnation."""
    return name.rpartition("/")[0] or name
