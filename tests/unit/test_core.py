"""The scheduler's machine, one rule a test, on a worker that does exactly what it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import pytest

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits, RefusalReason
from scheduler_svc.core.memory import predicted_peak_tokens
from scheduler_svc.core.policies import UnknownPolicy
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    AdmitRefusal,
    Arrived,
    AskPrediction,
    Assign,
    AssignRefused,
    CancelOn,
    CancelRequested,
    Change,
    Decision,
    End,
    ExecutionEnded,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Reorder,
    Stepped,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)

T = TypeVar("T")

WORKER = WorkerUp("w1", "demo", slots=8, step_seats=2, kv_blocks=1000, kv_block_tokens=32, max_held=64)


def arrived(job_id: int, *, ls: bool = False, **changes: object) -> Arrived:
    spec = Arrived(job_id, "acme", "demo", ls, 1000.0, 50.0, prompt_tokens=30, max_tokens=512)
    return replace(spec, **changes)


def core_with(policy: str, *, settings: PolicySettings | None = None, **limits: int) -> SchedulerCore:
    core = SchedulerCore(policy, settings or PolicySettings(be_share=0.0), Limits(look_ahead=0, **limits))
    core.handle(WORKER, 0.0)
    core.tick(0.0)
    return core


def of_kind(decisions: list[Decision], kind: type[T]) -> list[T]:
    return [decision for decision in decisions if isinstance(decision, kind)]


def assigned(decisions: list[Decision]) -> list[int]:
    return [decision.job_id for decision in of_kind(decisions, Assign)]


def predict(core: SchedulerCore, job_id: int, tokens: float, now_ms: float = 0.0) -> None:
    core.handle(Predicted(job_id, 0, LengthDistribution.lognormal(tokens, 0.1)), now_ms)


def test_fcfs_fills_the_seats_in_order_of_arrival_and_keeps_the_rest_central() -> None:
    core = core_with("fcfs")
    for job_id in (1, 2, 3):
        core.handle(arrived(job_id), float(job_id))
    assert assigned(core.tick(4.0)) == [1, 2]
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.STOP), 5.0)
    decisions = core.tick(5.0)
    assert assigned(decisions) == [3]
    assert of_kind(decisions, End) == [End(1, Outcome.STOP, "")]


def test_look_ahead_holds_a_little_in_advance() -> None:
    core = SchedulerCore("fcfs", PolicySettings(), Limits(look_ahead=1))
    core.handle(WORKER, 0.0)
    for job_id in (1, 2, 3, 4):
        core.handle(arrived(job_id), 0.0)
    assert assigned(core.tick(0.0)) == [1, 2, 3]


def test_isrtf_asks_at_arrival_and_after_every_window_and_orders_by_what_is_left() -> None:
    core = core_with("isrtf")
    core.handle(arrived(1), 0.0)
    core.handle(arrived(2), 0.0)
    decisions = core.tick(0.0)
    assert of_kind(decisions, AskPrediction) == [AskPrediction(1, 0), AskPrediction(2, 0)]
    predict(core, 1, 400)
    predict(core, 2, 100)
    assert of_kind(core.tick(0.0), Reorder)[-1].job_ids == (2, 1)
    core.handle(Stepped("w1", tokens=((1, 1, 49),)), 1.0)
    assert core.tick(1.0) == []
    core.handle(Stepped("w1", tokens=((1, 1, 1),)), 2.0)
    assert of_kind(core.tick(2.0), AskPrediction) == [AskPrediction(1, 50)]


def test_a_better_job_enters_though_the_seats_are_taken_and_a_worse_one_waits() -> None:
    core = core_with("isrtf")
    for job_id, tokens in ((1, 300), (2, 300)):
        core.handle(arrived(job_id), 0.0)
        predict(core, job_id, tokens)
    core.tick(0.0)
    core.handle(arrived(3), 1.0)
    predict(core, 3, 500, 1.0)
    assert assigned(core.tick(1.0)) == []
    core.handle(arrived(4), 2.0)
    predict(core, 4, 20, 2.0)
    decisions = core.tick(2.0)
    assert assigned(decisions) == [4]
    assert of_kind(decisions, Reorder)[-1].job_ids[0] == 4


def test_with_tiers_an_order_is_sent_for_best_effort_only_since_workers_order_ls_themselves() -> None:
    core = core_with("slo")
    for job_id in (1, 2):
        core.handle(arrived(job_id), 0.0)
        predict(core, job_id, 300)
    core.tick(0.0)
    core.handle(arrived(3, ls=True), 1.0)
    decisions = core.tick(1.0)
    assert assigned(decisions) == [3]
    assert of_kind(decisions, Reorder) == []
    predict(core, 2, 20, 2.0)
    assert of_kind(core.tick(2.0), Reorder)[-1].job_ids == (3, 2, 1)


def test_slo_puts_ls_before_be_and_short_be_before_long() -> None:
    core = core_with("slo")
    for job_id, tokens in ((1, 400), (2, 50), (3, 200)):
        core.handle(arrived(job_id), 0.0)
        predict(core, job_id, tokens)
    core.handle(arrived(4, ls=True), 0.0)
    assert assigned(core.tick(0.0)) == [4, 2]


def test_a_running_be_job_is_not_displaced_by_a_near_tie() -> None:
    core = core_with("slo")
    for job_id in (1, 2):
        core.handle(arrived(job_id), 0.0)
        predict(core, job_id, 100)
    core.tick(0.0)
    core.handle(Stepped("w1", changes=((1, 1, Change.STARTED), (2, 1, Change.STARTED))), 0.0)
    core.handle(arrived(3), 1.0)
    predict(core, 3, 85, 1.0)
    assert assigned(core.tick(1.0)) == []
    predict(core, 3, 40, 2.0)
    assert assigned(core.tick(2.0)) == [3]


def test_waiting_raises_a_be_job_over_shorter_ones_that_came_later_where_keys_age() -> None:
    core = core_with("slo", settings=PolicySettings(be_share=0.0, options=(("ageing_ms", 300_000.0),)))
    core.handle(arrived(1), 0.0)
    predict(core, 1, 300)
    core.handle(WorkerLost("w1"), 0.0)
    core.tick(0.0)
    core.handle(arrived(2), 900_000.0)
    predict(core, 2, 100, 900_000.0)
    for now_ms in range(900_000, 902_500, 100):
        core.tick(float(now_ms))
    core.handle(replace(WORKER, worker="w2", step_seats=1), 903_000.0)
    assert assigned(core.tick(903_000.0))[0] == 1


def test_be_waits_while_the_predicted_kv_peak_does_not_fit_and_ls_does_not() -> None:
    core = core_with("slo")
    core.handle(replace(WORKER, worker="w2", kv_blocks=10, step_seats=4), 0.0)
    core.handle(WorkerLost("w1"), 0.0)
    for job_id in (1, 2):
        core.handle(arrived(job_id), 0.0)
        predict(core, job_id, 200)
    core.handle(arrived(3, ls=True), 0.0)
    assert assigned(core.tick(0.0)) == [3]
    core.handle(ExecutionEnded("w2", 3, 1, Outcome.STOP), 1.0)
    assert assigned(core.tick(1.0)) == [1]


def test_predicted_peak_is_the_highest_sum_at_any_end() -> None:
    # Job A holds 10 and needs 10 more, B holds 20 and needs 2: at B's end 10 + 20 + 2 * 2 = 34, at A's end 20.
    assert predicted_peak_tokens([(10, 10), (20, 2)]) == 34
    assert predicted_peak_tokens([(10, 100), (20, 2)]) == 110


def test_the_oldest_be_request_enters_for_the_share_whatever_its_length() -> None:
    core = core_with("slo", settings=PolicySettings(be_share=0.05))
    core.handle(arrived(1), 0.0)
    predict(core, 1, 500)
    core.tick(0.0)
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.STOP), 1.0)
    core.tick(1.0)
    core.handle(arrived(2), 2.0)
    predict(core, 2, 500, 2.0)
    for job_id in (3, 4):
        core.handle(arrived(job_id), 3.0)
        predict(core, job_id, 10, 3.0)
    assert assigned(core.tick(3.0))[0] == 2


def test_the_least_loaded_worker_takes_the_next() -> None:
    core = core_with("fcfs")
    core.handle(replace(WORKER, worker="w2"), 0.0)
    for job_id in (1, 2, 3, 4):
        core.handle(arrived(job_id), 0.0)
    placed = [(decision.job_id, decision.worker) for decision in of_kind(core.tick(0.0), Assign)]
    assert placed == [(1, "w1"), (2, "w2"), (3, "w1"), (4, "w2")]


def test_workers_of_another_model_take_nothing() -> None:
    core = core_with("fcfs")
    core.handle(arrived(1, model="other"), 0.0)
    assert assigned(core.tick(0.0)) == []


def test_a_lost_workers_jobs_go_on_elsewhere_with_what_is_out_or_end() -> None:
    core = core_with("fcfs")
    core.handle(arrived(1), 0.0)
    core.handle(arrived(2, continuable=False), 0.0)
    core.tick(0.0)
    core.handle(Stepped("w1", tokens=((1, 1, 7), (2, 1, 7))), 1.0)
    core.handle(WorkerLost("w1"), 2.0)
    core.handle(replace(WORKER, worker="w2"), 3.0)
    decisions = core.tick(3.0)
    assert of_kind(decisions, Assign) == [Assign(1, "w2", attempt=2, rank=0, forced_tokens=7)]
    assert [end.outcome for end in of_kind(decisions, End)] == [Outcome.FAILED_WORKER_LOST]
    core.handle(Stepped("w1", tokens=((1, 1, 5),)), 4.0)
    job = core.job(1)
    assert job is not None
    assert job.output_tokens == 7, "tokens of an earlier attempt count for nothing"
    core.ledger.check()


def test_cancelling_ends_at_once_and_holds_the_slot_until_the_worker_lets_go() -> None:
    core = core_with("fcfs")
    core.handle(arrived(1), 0.0)
    core.tick(0.0)
    core.handle(CancelRequested(1, Outcome.CANCELLED_BY_CLIENT), 1.0)
    decisions = core.tick(1.0)
    assert of_kind(decisions, CancelOn) == [CancelOn("w1", 1, 1)]
    assert [end.outcome for end in of_kind(decisions, End)] == [Outcome.CANCELLED_BY_CLIENT]
    assert core.workers["w1"].placed == 1
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.CANCELLED_BY_CLIENT), 2.0)
    assert core.workers["w1"].placed == 0
    core.handle(CancelRequested(1, Outcome.CANCELLED_BY_CLIENT), 3.0)
    assert core.tick(3.0) == []
    core.ledger.check()


def test_a_deadline_ends_a_waiting_request_by_itself() -> None:
    core = core_with("fcfs")
    core.handle(WorkerLost("w1"), 0.0)
    core.handle(arrived(1, expires_ms=500.0), 0.0)
    core.tick(0.0)
    assert core.next_due_ms() == 500.0
    assert of_kind(core.tick(500.0), End) == [End(1, Outcome.EXPIRED, "its deadline passed")]
    assert core.next_due_ms() is None


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (AdmitRefusal.FULL, None),
        (AdmitRefusal.DRAINING, None),
        (AdmitRefusal.INVALID, Outcome.FAILED_ENGINE),
        (AdmitRefusal.DUPLICATE, Outcome.FAILED_INTERNAL),
    ],
)
def test_a_refused_assignment_returns_to_the_pool_or_ends(reason: AdmitRefusal, outcome: Outcome | None) -> None:
    core = core_with("fcfs")
    core.handle(arrived(1), 0.0)
    core.tick(0.0)
    core.handle(AssignRefused("w1", 1, 1, reason), 1.0)
    decisions = core.tick(1.0)
    assert assigned(decisions) == [], "not to the worker that has just refused it"
    job = core.job(1)
    assert job is not None
    assert job.outcome is outcome
    core.ledger.check()


def test_a_draining_worker_takes_nothing_new_and_finishes_what_it_has() -> None:
    core = core_with("fcfs")
    core.handle(arrived(1), 0.0)
    core.tick(0.0)
    core.handle(WorkerUpdated("w1", draining=True), 1.0)
    core.handle(arrived(2), 1.0)
    assert assigned(core.tick(1.0)) == []
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.STOP), 2.0)
    assert assigned(core.tick(2.0)) == []


def test_policy_and_rules_change_without_a_restart() -> None:
    core = core_with("fcfs")
    for job_id, ls in ((1, False), (2, False), (3, True)):
        core.handle(arrived(job_id, ls=ls), float(job_id))
    core.tick(3.0)
    core.handle(PolicyChanged("slo", PolicySettings(be_share=0.0)), 4.0)
    decisions = core.tick(4.0)
    assert assigned(decisions) == [3]
    rules = of_kind(decisions, Reorder)[-1].rules
    assert rules is not None
    assert rules.class_tiers
    assert rules.displace


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(UnknownPolicy, match=r"fcfs, gittins, .* isrtf, .* slo"):
        SchedulerCore("fsfc", PolicySettings(), Limits())


def test_full_queues_refuse_with_a_delay() -> None:
    core = core_with("fcfs", max_queued_requests=3, max_queued_per_tenant=2)
    for job_id in range(1, 5):
        core.handle(arrived(job_id), 0.0)
    core.tick(0.0)
    tenant_full = core.refusal_for("acme", 1.0)
    assert tenant_full is not None
    assert tenant_full.reason is RefusalReason.TENANT_QUEUE_FULL
    assert tenant_full.retry_after_ms >= 100
    assert core.refusal_for("other", 1.0) is None
    core.handle(arrived(5, tenant="other"), 0.0)
    full = core.refusal_for("other", 1.0)
    assert full is not None
    assert full.reason is RefusalReason.QUEUE_FULL


def test_priors_learn_lengths_by_class() -> None:
    core = core_with("isrtf")
    for job_id in range(1, 41):
        core.handle(arrived(job_id, ls=job_id % 2 == 0), 0.0)
        core.tick(0.0)
        core.handle(Stepped("w1", tokens=((job_id, 1, 10 if job_id % 2 else 300),)), 0.0)
        core.handle(ExecutionEnded("w1", job_id, 1, Outcome.STOP), 0.0)
    short = core.priors.distribution(arrived(99))
    long = core.priors.distribution(arrived(99, ls=True))
    assert short.quantile(0.5) == pytest.approx(10, rel=0.2)
    assert long.quantile(0.5) == pytest.approx(300, rel=0.2)
