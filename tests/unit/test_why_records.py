"""The record of a request: what it tells is what happened, within its bounds, and nothing that decides is changed."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.placement import Hindrance
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    AdmitRefusal,
    Arrived,
    Assign,
    AssignRefused,
    CancelRequested,
    Change,
    Decision,
    Event,
    ExecutionEnded,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Stepped,
    WorkerLost,
    WorkerUp,
)
from scheduler_svc.record_types import Kind, Moment, Record
from scheduler_svc.records import Records
from scheduler_svc.why import Teller

LAW = LengthDistribution.lognormal(100.0, 0.5, source="encoder")


class Bench:
    """A core with records beside it, as the shell has them."""

    def __init__(self, policy: str = "slo", *, events: int = 64, finished: int = 10, **settings: Any) -> None:
        self.core = SchedulerCore(policy, PolicySettings(**settings), Limits(look_ahead=0))
        self.records = Records(self.core, lambda job_id: f"r{job_id}", events=events, finished=finished)
        self.now_ms = 0.0
        self.decisions: list[Decision] = []

    def tell(self, *events: Event, after_ms: float = 10.0) -> list[Decision]:
        self.now_ms += after_ms
        for event in events:
            self.records.saw(event, self.now_ms)
            self.core.handle(event, self.now_ms)
        decisions = self.core.tick(self.now_ms)
        self.records.ticked(self.now_ms, decisions)
        self.decisions += decisions
        return decisions

    def worker(self, name: str = "w", *, seats: int = 1, slots: int = 4, blocks: int = 100) -> None:
        self.tell(WorkerUp(f"{name}/1", "m", slots, seats, blocks, 16, 32))

    def arrive(self, job_id: int, *, ls: bool = False, prompt: int = 50, after_ms: float = 10.0) -> list[Decision]:
        tenant = "alice" if ls else "bob"
        return self.tell(Arrived(job_id, tenant, "m", ls, 1000.0, 50.0, prompt, 512), after_ms=after_ms)

    def record(self, job_id: int) -> Record:
        found = self.records.of(job_id)
        assert found is not None
        return found

    def kinds(self, job_id: int) -> list[Kind]:
        return [moment.kind for moment in self.record(job_id).moments]

    def moment(self, job_id: int, kind: Kind) -> Moment:
        return next(moment for moment in self.record(job_id).moments if moment.kind is kind)


def test_a_request_that_finds_room_is_told_to_have_found_it_at_once() -> None:
    bench = Bench()
    bench.worker()
    bench.arrive(1)
    assigned = bench.moment(1, Kind.ASSIGNED)
    assert (assigned.worker, assigned.text) == ("w/1", "there was room as it arrived")
    assert assigned.figures["waited_ms"] == 0
    assert assigned.figures["ahead"] == 0
    assert Kind.WAITS not in bench.kinds(1)


@pytest.mark.parametrize(
    ("make", "hindrance"),
    [
        (Bench, Hindrance.NO_WORKER),
        (lambda: _full(Bench("fcfs"), slots=4), Hindrance.SEATS),
        (lambda: _full(Bench("fcfs"), slots=1), Hindrance.SLOTS),
        (lambda: _full(Bench("slo", kv_admission="peak"), seats=4, blocks=8), Hindrance.KV_PEAK),
        (lambda: _refusing(Bench("fcfs")), Hindrance.REFUSED_FULL),
    ],
)
def test_what_keeps_a_request_waiting_is_named(make: Any, hindrance: Hindrance) -> None:
    bench: Bench = make()
    assert not [each for each in bench.arrive(9) if isinstance(each, Assign)]
    waits = bench.moment(9, Kind.WAITS)
    assert waits.hindrance is hindrance
    job = bench.core.job(9)
    assert job is not None
    standing = bench.core.standing(job, bench.now_ms)
    assert {reason for _, reason in standing.hindrances} == {hindrance}


def _full(bench: Bench, **sizes: int) -> Bench:
    bench.worker(**sizes)
    bench.arrive(1)
    return bench


def _refusing(bench: Bench) -> Bench:
    _full(bench, slots=4, seats=2)
    bench.tell(Stepped("w/1", (), ((1, 1, Change.STARTED),)))
    bench.arrive(2)
    bench.tell(AssignRefused("w/1", 2, 1, AdmitRefusal.FULL))
    return bench


def test_who_left_and_who_was_ahead_is_told() -> None:
    bench = Bench("fcfs")
    bench.worker(slots=1)
    for job_id in (1, 2, 3):
        bench.arrive(job_id)
    job = bench.core.job(3)
    assert job is not None
    standing = bench.core.standing(job, bench.now_ms)
    assert (standing.ahead, [other.job_id for other in standing.first_ahead]) == (1, [2])
    assert standing.ahead_by_class == {("bob", False): 1}
    assert bench.moment(3, Kind.WAITS).figures["ahead"] == 1
    bench.tell(ExecutionEnded("w/1", 1, 1, Outcome.STOP), after_ms=500)
    assigned = bench.moment(2, Kind.ASSIGNED)
    assert (assigned.text, assigned.others) == ("others left the worker", (1,))
    assert assigned.figures["waited_ms"] == 510


def test_displacing_is_told_on_both_sides() -> None:
    bench = Bench()
    bench.worker()
    bench.arrive(1)
    bench.tell(Stepped("w/1", ((1, 1, 3),), ((1, 1, Change.STARTED),)))
    bench.arrive(2, ls=True)
    assigned = bench.moment(2, Kind.ASSIGNED)
    assert assigned.others == (1,)
    assert "goes before" in assigned.text
    bench.tell(Stepped("w/1", ((2, 1, 1),), ((2, 1, Change.STARTED), (1, 1, Change.PAUSED))))
    assert bench.moment(2, Kind.DISPLACED).others == (1,)
    paused = bench.moment(1, Kind.PAUSED)
    assert paused.others == (2,)
    assert paused.figures["ahead"] == 1
    bench.tell(Stepped("w/1", (), ((2, 1, Change.EVICTED),)))
    assert bench.moment(2, Kind.EVICTED).others == ()
    assert "nobody took its place" in bench.moment(2, Kind.EVICTED).text


def test_predictions_late_missing_and_open_are_told_apart() -> None:
    bench = Bench()
    bench.worker()
    bench.arrive(1)
    assert list(bench.record(1).asked) == [0]
    bench.tell(Predicted(1, 0, None), after_ms=2000)
    assert bench.moment(1, Kind.NOT_PREDICTED).figures == {"asked_at_tokens": 0, "answered_after_ms": 2000}
    bench.tell(Stepped("w/1", ((1, 1, 60),)))
    bench.tell(Predicted(1, 60, LAW), after_ms=7)
    made = bench.moment(1, Kind.PREDICTED)
    assert made.text == "encoder"
    assert made.all_figures()["asked_at_tokens"] == made.all_figures()["output_tokens"] == 60
    assert made.all_figures()["answered_after_ms"] == 7
    assert made.all_figures()["p50_tokens"] == pytest.approx(LAW.truncated(512).quantile(0.5, 60))
    assert made.all_figures()["mean_remaining_tokens"] == pytest.approx(LAW.truncated(512).mean_remaining(60))
    assert not bench.record(1).asked


def test_a_lost_worker_and_the_next_attempt_are_told() -> None:
    bench = Bench()
    bench.worker()
    bench.arrive(1)
    bench.tell(Stepped("w/1", ((1, 1, 3),), ((1, 1, Change.STARTED),)))
    bench.tell(WorkerLost("w/1"))
    assert bench.moment(1, Kind.RETURNED).text == "its worker was lost"
    bench.worker("v")
    assert [
        (each.worker, each.figures["attempt"]) for each in bench.record(1).moments if each.kind is Kind.ASSIGNED
    ] == [
        ("w/1", 1),
        ("v/1", 2),
    ]


def test_records_are_bounded_and_say_what_was_left_out() -> None:
    bench = Bench(events=8, finished=2)
    bench.worker(seats=4)
    for job_id in (1, 2, 3):
        bench.arrive(job_id)
    for _ in range(10):
        bench.tell(Stepped("w/1", (), ((1, 1, Change.PAUSED),)))
        bench.tell(Stepped("w/1", (), ((1, 1, Change.RESUMED),)))
    assert len(bench.record(1).moments) == 8
    assert bench.record(1).left_out > 0
    for job_id in (1, 2, 3):
        bench.tell(ExecutionEnded("w/1", job_id, 1, Outcome.STOP))
    assert bench.records.of(1) is None
    assert bench.record(2).moments[-1].kind is Kind.ENDED
    assert bench.record(3).ended_ms == bench.now_ms


def test_attainment_counts_as_the_design_says() -> None:
    bench = Bench()
    bench.worker(seats=4, slots=8)
    for job_id in (1, 2, 3, 4):
        bench.arrive(job_id, ls=True, after_ms=0)
    bench.tell(Stepped("w/1", ((1, 1, 1),)), after_ms=100)  # in time
    bench.tell(Stepped("w/1", ((1, 1, 1), (2, 1, 1))), after_ms=1000)  # 1: 1000 ms a token; 2: too late
    bench.tell(Stepped("w/1", ((1, 1, 99),)), after_ms=10)  # 1: on average within 50 ms
    bench.tell(*(ExecutionEnded("w/1", job_id, 1, Outcome.STOP) for job_id in (1, 2)))
    bench.tell(CancelRequested(3, Outcome.CANCELLED_BY_CLIENT))
    bench.tell(CancelRequested(4, Outcome.EXPIRED))
    assert (bench.records.offered["alice"], bench.records.met["alice"]) == (3, 1)


def test_a_start_that_is_told_after_the_end_of_its_request_is_passed_over() -> None:
    """Both in one turn of the loop: it has left its worker by then, and has no place there."""
    bench = Bench()
    bench.worker()
    bench.arrive(1)
    started = Stepped("w/1", (), ((1, 1, Change.STARTED),))
    bench.tell(CancelRequested(1, Outcome.CANCELLED_BY_CLIENT), started)
    assert Kind.STARTED not in bench.kinds(1)


def test_the_policies_in_force_since_it_came_are_told() -> None:
    bench = Bench("fcfs")
    bench.tell(PolicyChanged("hrrn", PolicySettings()))
    bench.arrive(1)
    bench.tell(PolicyChanged("slo", PolicySettings()), after_ms=40)
    told = Teller(bench.core, bench.records).why(bench.record(1), bench.now_ms)
    assert [(each.policy, each.from_ms) for each in told.policies] == [("hrrn", 0), ("slo", 40)]
    assert told.rules.class_tiers


def test_what_an_engine_said_in_words_is_not_kept() -> None:
    bench = Bench()
    bench.worker()
    bench.arrive(1)
    bench.tell(ExecutionEnded("w/1", 1, 1, Outcome.FAILED_ENGINE, "prompt 'my secret' is bad"))
    assert "secret" not in str(Teller(bench.core, bench.records).why(bench.record(1), bench.now_ms))


@pytest.mark.parametrize("seed", range(3))
def test_watching_changes_no_decision(seed: int) -> None:
    """The same random events with records (and questions in between) and without: the same decisions."""
    seen: list[list[Decision]] = []
    for watched in (True, False):
        rng = random.Random(f"watch {seed}")
        bench = Bench("slo", kv_admission="peak")
        if not watched:
            bench.records.saw = bench.records.ticked = lambda *_: None  # type: ignore[method-assign, assignment]
        bench.worker(seats=3, slots=5, blocks=60)
        for job_id in range(1, 60):
            bench.arrive(job_id, ls=rng.random() < 0.4, prompt=rng.randrange(1, 200), after_ms=rng.uniform(1, 400))
            bench.tell(Predicted(job_id, 0, LengthDistribution.lognormal(rng.uniform(10, 300), 0.5)))
            live = list(bench.core.live_jobs().values())
            placed = [job for job in live if job.worker is not None]
            if watched:
                for job in live:
                    Teller(bench.core, bench.records).why(bench.record(job.job_id), bench.now_ms)
            tokens = tuple((job.job_id, job.attempt, rng.randrange(1, 30)) for job in placed)
            kinds = list(Change)
            changes = tuple((job.job_id, job.attempt, rng.choice(kinds)) for job in placed if rng.random() < 0.5)
            bench.tell(Stepped("w/1", tokens, changes))
            if placed:
                job = rng.choice(placed)
                bench.tell(ExecutionEnded("w/1", job.job_id, job.attempt, Outcome.STOP))
        seen.append(bench.decisions)
    assert seen[0] == seen[1], f"seed {seed}"
    assert len(seen[0]) > 100
