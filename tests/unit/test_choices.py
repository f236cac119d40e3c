"""What combines with any policy: each choice by a case small enough to work out by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from fairlead.config import SchedulerConfig
from fairlead.lengths import LengthDistribution
from fairlead.rpc import Refusal
from fairlead.v1 import admin_pb2
from scheduler_svc.core.admission import AdmissionRefusal, Limits, RefusalReason
from scheduler_svc.core.checks import CHOICES, BadChoice, as_text, read_choice
from scheduler_svc.core.guards import guarded_step_ms
from scheduler_svc.core.memory import Peak, predicted_peak_tokens
from scheduler_svc.core.placements.freeness import freeness
from scheduler_svc.core.placements.max_min import slice_ms
from scheduler_svc.core.placements.waiting_time import waiting_ms
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.soft_admission import Demand, admitted
from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Assign,
    CancelRequested,
    Decision,
    ExecutionEnded,
    Outcome,
    PolicySettings,
    Predicted,
    Stepped,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)
from scheduler_svc.core.types import StepCost as Cost
from scheduler_svc.policy_settings import overlaid

WORKER = WorkerUp("w1", "demo", slots=8, step_seats=4, kv_blocks=100, kv_block_tokens=10, max_held=64)
COST = Cost(10.0, 0.1, 1.0, 0.0)


def arrived(job_id: int, *, ls: bool = False, prompt: int = 100, **changes: object) -> Arrived:
    return replace(Arrived(job_id, "acme", "demo", ls, 1000.0, 50.0, prompt, max_tokens=512), **changes)


def core_with(policy: str = "slo", *workers: WorkerUp, **choices: object) -> SchedulerCore:
    settings = replace(PolicySettings(be_share=0.0), **choices)
    core = SchedulerCore(policy, settings, Limits(look_ahead=0))
    for worker in workers or (WORKER,):
        core.handle(worker, 0.0)
    core.tick(0.0)
    return core


def come(core: SchedulerCore, spec: Arrived, tokens: float | None = None, now_ms: float = 0.0) -> list[Decision]:
    core.handle(spec, now_ms)
    if tokens is not None:
        core.handle(Predicted(spec.job_id, 0, LengthDistribution.from_point(tokens)), now_ms)
    return core.tick(now_ms)


def placed(decisions: list[Decision]) -> list[tuple[int, str]]:
    return [(decision.job_id, decision.worker) for decision in decisions if isinstance(decision, Assign)]


def asked(decisions: list[Decision]) -> list[tuple[int, int]]:
    return [(each.job_id, each.generated_tokens) for each in decisions if isinstance(each, AskPrediction)]


def two(**changes: object) -> tuple[WorkerUp, WorkerUp]:
    return replace(WORKER, cost=COST), replace(WORKER, worker="w2", **({"cost": COST} | changes))


# -- kv_admission


def test_peak_with_one_more_job_is_the_papers_formula_over_all() -> None:
    # By remaining, descending: (100, 300), (200, 100), (50, 20): 300+100, 2*100+300, 3*20+350 -> 500.
    jobs = [(200.0, 100.0), (50.0, 20.0), (100.0, 300.0)]
    assert predicted_peak_tokens(jobs) == 500.0
    for extra in ((10.0, 500.0), (10.0, 200.0), (10.0, 60.0), (10.0, 0.0), (400.0, 20.0), (0.0, 100.0)):
        assert Peak(jobs).with_job(*extra) == predicted_peak_tokens([*jobs, extra])
    assert Peak([]).with_job(5.0, 7.0) == 12.0


@pytest.mark.parametrize(
    ("policy", "kv_admission", "entered"),
    [("slo", "auto", 2), ("slo", "none", 3), ("fcfs", "auto", 3), ("fcfs", "peak", 2)],
)
def test_a_request_enters_only_while_the_predicted_peak_fits(policy: str, kv_admission: str, entered: int) -> None:
    # 1000 KV tokens, 950 may be filled; each request is 100 prompt tokens and 300 to come: two peak at 800, three at
    # 1200.
    core = core_with(policy, kv_admission=kv_admission)
    decisions: list[Decision] = []
    core.handle(WorkerLost("w1"), 0.0)
    for job_id in (1, 2, 3):
        come(core, arrived(job_id), 300)
    core.handle(replace(WORKER, worker="w2"), 0.0)
    decisions = core.tick(0.0)
    assert len(placed(decisions)) == entered


@pytest.mark.parametrize("seed", range(5))
def test_whether_it_fits_is_answered_by_sums_as_by_the_whole_formula(seed: int) -> None:
    rng, entered, kept_out = random.Random(seed), 0, 0
    up = replace(WORKER, slots=64, step_seats=64, kv_blocks=400, kv_block_tokens=16, max_held=64)
    core = core_with("fcfs", up, kv_admission="peak")
    worker = core.workers[up.worker]
    for job_id in range(1, 200):
        held = list(worker.jobs.values())
        if held:
            job = rng.choice(held)
            tokens = tuple(
                (each.job_id, each.attempt, rng.randrange(1, 60)) for each in rng.sample(held, len(held) // 2)
            )
            core.handle(Stepped(up.worker, tokens), 0.0)
            if rng.random() < 0.4:
                core.handle(ExecutionEnded(up.worker, job.job_id, job.attempt, Outcome.STOP), 0.0)
            core.tick(0.0)
        before = [(job.spec.prompt_tokens + job.output_tokens, job.remaining_high) for job in worker.jobs.values()]
        decisions = come(core, arrived(job_id, prompt=rng.randrange(10, 900)), tokens=None)
        job = core.live_jobs()[job_id]
        own = (job.spec.prompt_tokens + job.output_tokens, job.remaining_high)
        fits = not before or predicted_peak_tokens([*before, own]) <= 0.95 * 400 * 16
        assert placed(decisions) == ([(job_id, up.worker)] if fits else [])
        entered, kept_out = entered + fits, kept_out + (not fits)
        if not fits:
            core.handle(CancelRequested(job_id, Outcome.CANCELLED_BY_CLIENT, ""), 0.0)
            core.tick(0.0)
    assert min(entered, kept_out) > 10, "both happened"


def test_peak_holds_ls_only_where_the_policy_is_blind_to_classes() -> None:
    for policy, entered in (("slo", 3), ("fcfs", 2)):
        core = core_with(policy, kv_admission="peak")
        core.handle(WorkerLost("w1"), 0.0)
        for job_id in (1, 2, 3):
            come(core, arrived(job_id, ls=True), 300)
        core.handle(replace(WORKER, worker="w2"), 0.0)
        assert len(placed(core.tick(0.0))) == entered, policy


# -- placement


def test_round_robin_takes_turns_whatever_the_load() -> None:
    core = core_with("fcfs", *two(), placement="round_robin")
    went = [placed(come(core, arrived(job_id)))[0][1] for job_id in range(1, 5)]
    assert went == ["w1", "w2", "w1", "w2"]
    core.handle(CancelRequested(2, Outcome.CANCELLED_BY_CLIENT), 0.0)
    assert placed(come(core, arrived(5))) == [(5, "w1")], "w2 is emptier, and not its turn"


def test_freeness_is_free_kv_for_each_request() -> None:
    core = core_with("fcfs", *two(), placement="freeness")
    come(core, arrived(1, prompt=200))
    assert freeness(core.workers["w1"]) == (1000 - 200) / 1
    come(core, arrived(2, prompt=500))
    assert freeness(core.workers["w2"]) == (1000 - 500) / 1
    assert placed(come(core, arrived(3, prompt=100))) == [(3, "w1")]
    assert freeness(core.workers["w1"]) == (1000 - 300) / 2
    assert placed(come(core, arrived(4, ls=True, prompt=50))) == [(4, "w2")], "500 for each there, 350 here"
    assert freeness(core.workers["w2"]) == pytest.approx((1000 - 550 - 100) / 2), "LS has a tenth as head-room"


def test_max_min_sends_the_longest_first_each_to_the_least_work() -> None:
    core = core_with("fcfs", *two(), placement="max_min")
    for worker in ("w1", "w2"):
        core.handle(WorkerLost(worker), 0.0)
    for job_id, tokens in ((1, 10), (2, 20), (3, 100), (4, 110)):
        come(core, arrived(job_id, prompt=1), tokens)
    for worker in two():
        core.handle(replace(worker, worker=worker.worker + "b"), 0.0)
    assert placed(core.tick(0.0)) == [(4, "w1b"), (3, "w2b"), (2, "w2b"), (1, "w1b")]
    # Per token 10 / 4 seats + 1 ms; one token of prompt each is 0.1 ms.
    assert slice_ms(core.workers["w1b"], core.policy.rules()) == pytest.approx(0.2 + 3.5 * 120, rel=0.01)


def test_max_min_counts_no_more_than_a_slice_of_a_long_answer() -> None:
    core = core_with("fcfs", replace(WORKER, cost=COST), placement="max_min")
    come(core, arrived(1, prompt=1), 500)
    assert slice_ms(core.workers["w1"], core.policy.rules()) == pytest.approx(0.1 + 3.5 * 128, rel=0.01)


def test_waiting_time_is_the_work_ahead_over_the_learned_pace_with_its_deviation() -> None:
    core = core_with("fcfs", *two(cost=Cost(20.0, 0.1, 1.0, 0.0)), placement="waiting_time")
    assert placed(come(core, arrived(1, prompt=1), 100)) == [(1, "w1")]
    mean, deviation = waiting_ms(core.workers["w1"], core.policy.rules())
    assert mean == pytest.approx(0.1 + 3.5 * 100, rel=0.01)
    assert deviation == pytest.approx(0.0, abs=1.0)
    assert placed(come(core, arrived(2, prompt=1), 40)) == [(2, "w2")]
    # w1: 350 ms ahead; w2, at 20 / 4 + 1 = 6 ms a token, 240 ms: the slower worker is still the earlier one.
    assert placed(come(core, arrived(3, prompt=1), 10)) == [(3, "w2")]
    core.handle(WorkerUpdated("w2", relative_error=0.5), 0.0)
    mean, deviation = waiting_ms(core.workers["w2"], core.policy.rules())
    assert deviation == pytest.approx(0.5 * mean, rel=0.05), "a model that is off by half is believed so far"
    assert placed(come(core, arrived(4, prompt=1), 10)) == [(4, "w1")]


def test_variances_add() -> None:
    core = core_with("fcfs", replace(WORKER, cost=COST), placement="waiting_time")
    law = LengthDistribution.lognormal(100, 0.5)
    for job_id in (1, 2):
        core.handle(arrived(job_id), 0.0)
        core.handle(Predicted(job_id, 0, law), 0.0)
    core.tick(0.0)
    one = 0.5 * (law.quantile(0.8413) - law.quantile(0.1587))
    _, deviation = waiting_ms(core.workers["w1"], core.policy.rules())
    assert deviation == pytest.approx(3.5 * math.sqrt(2) * one, rel=0.02)


# -- admission


def test_the_tpot_guard_reckons_with_the_virtual_batch_size() -> None:
    # Targets 20, 40, 80 ms: VBS = 1 + 1/2 + 1/4; contexts weighted alike: 100 + 100 + 100.
    cost = Cost(5.0, 0.1, 2.0, 0.01)
    assert guarded_step_ms(cost, [(20, 100), (40, 200), (80, 400)]) == (5.0 + 2.0 * 1.75 + 0.01 * 300, 20)


def test_the_tpot_guard_keeps_an_ls_request_in_the_pool_while_others_would_fall_behind() -> None:
    # 10 ms + 15 ms a decode, targets 50 ms: two fit (40 ms), a third does not (55 ms).
    core = core_with(admission="guards", **{})
    core.handle(WorkerUpdated("w1", cost=Cost(10.0, 0.001, 15.0, 0.0)), 0.0)
    entered = [placed(come(core, arrived(job_id, ls=True), 10)) for job_id in (1, 2, 3)]
    assert entered == [[(1, "w1")], [(2, "w1")], []]
    assert placed(come(core, arrived(4, ls=True, tpot_ms=500.0), 10)) == [(4, "w1")], "a tenth of a decode: 41.5 ms"
    core.handle(CancelRequested(1, Outcome.CANCELLED_BY_CLIENT), 1.0)
    assert placed(core.tick(1.0)) == [(3, "w1")]


def test_an_ls_request_that_would_miss_its_first_token_is_refused_with_the_delay_that_would_do() -> None:
    # No decodes: prefill has 0.1 * 2048 of 10 + 0.1 * 2048 ms. 8,000 prompt tokens ahead are 800 ms of work.
    core = core_with("slo", replace(WORKER, kv_blocks=10_000, cost=COST), admission="guards")
    share = 204.8 / 214.8
    assert core.refusal_for("acme", 0.0, arrived(9, ls=True)) is None
    core.handle(WorkerLost("w1"), 0.0)
    come(core, arrived(1, ls=True, prompt=8000))
    core.handle(replace(WORKER, worker="w2", kv_blocks=10_000, cost=COST), 0.0)
    assert core.refusal_for("acme", 0.0, arrived(9, ls=True, prompt=1000)) is None, "900 / 0.953 ms, 1000 are allowed"
    refusal = core.refusal_for("acme", 0.0, arrived(9, ls=True, prompt=2000))
    assert isinstance(refusal, AdmissionRefusal)
    assert refusal.reason is RefusalReason.TTFT_OUT_OF_REACH
    assert refusal.retry_after_ms == pytest.approx(max(100.0, (800 + 200) / share - 1000))
    assert core.refusal_for("acme", 0.0, arrived(9, prompt=2000)) is None, "BE has no such target"
    early = arrived(9, ls=True, prompt=500, ttft_ms=100.0)
    assert core.refusal_for("acme", 0.0, early) is None, "what is due later does not stand before it"


def test_a_be_request_that_would_miss_its_completion_target_is_refused_where_overload_says_so() -> None:
    for overload, refused in (("queue", False), ("reject", True)):
        core = core_with("fcfs", replace(WORKER, cost=COST), overload=overload)
        for job_id in range(1, 9):
            come(core, arrived(job_id, prompt=1), 400)
        # Four wait, 400 tokens of 3.5 ms each: 5.6 s, and a quarter of what runs (1.4 s) before a seat is free.
        refusal = core.refusal_for("acme", 0.0, arrived(20, prompt=1, completion_ms=7_500.0))
        assert (refusal is not None) is refused
        if refusal is not None:
            assert refusal.reason is RefusalReason.COMPLETION_OUT_OF_REACH
            assert refusal.retry_after_ms is not None
            assert core.refusal_for("acme", 0.0, arrived(20, prompt=1, completion_ms=60_000.0)) is None


def test_what_never_fits_is_refused_at_once_for_good() -> None:
    core = core_with("fcfs")
    refusal = core.refusal_for("acme", 0.0, arrived(1, prompt=1000))
    assert refusal is not None
    assert refusal.reason is RefusalReason.NEVER_FITS
    assert refusal.retry_after_ms is None
    assert "1001 tokens" in refusal.message
    assert core.refusal_for("acme", 0.0, arrived(1, prompt=999)) is None


def test_the_dynamic_programme_admits_the_most_that_can_all_be_in_time() -> None:
    def new(job_id: int, due_ms: float, work_ms: float) -> Demand:
        return Demand(job_id, due_ms, work_ms, forced=False)

    # Earliest deadline first alone would begin with the long one and have room for one more only.
    demands = [new(1, 100, 90), new(2, 110, 30), new(3, 120, 40), new(4, 130, 40)]
    assert admitted(demands, rate=1.0) == {2, 3, 4}
    assert admitted(demands, rate=2.0) == {1, 2, 3, 4}
    assert admitted(demands, rate=1.0, backlog_ms=50.0) == {2, 3}
    forced = Demand(9, 125, 60, forced=True)
    assert admitted([*demands, forced], rate=1.0) == {2, 4}, "30 + 60 of 125; 40 more before it would make it late"
    hopeless = Demand(9, 10, 60, forced=True)
    assert admitted([hopeless, *demands], rate=1.0) == {2, 4}, "late in any case, it costs the others its work alone"


def test_whom_the_programme_declines_is_served_as_best_effort() -> None:
    core = core_with("slo", replace(WORKER, kv_blocks=10_000, cost=Cost(0.0, 1.0, 1.0, 0.0)), admission="dp_soft")
    for job_id, prompt in ((1, 900), (2, 400), (3, 400)):
        core.handle(arrived(job_id, ls=True, prompt=prompt), 0.0)
    decisions = core.tick(0.0)
    effort = {each.job_id: each.best_effort for each in decisions if isinstance(each, Assign)}
    assert effort == {2: False, 3: False, 1: True}
    job = core.job(1)
    assert job is not None
    assert (job.spec.latency_sensitive, job.came_as_ls) == (False, True)
    core.ledger.check()
    assert core.ledger.accounts[("acme", True)].accepted == 3, "it is still counted in the class in which it came"


# -- overload


def test_a_waiting_ls_request_is_relegated_when_it_can_no_longer_be_in_time() -> None:
    core = core_with("slo", overload="relegate")
    core.handle(WorkerLost("w1"), 0.0)
    come(core, arrived(1, ls=True))
    assert core.next_due_ms() is not None
    core.tick(999.0)
    job = core.job(1)
    assert job is not None
    assert job.spec.latency_sensitive
    core.tick(1000.0)
    assert job.relegated
    core.handle(replace(WORKER, worker="w2"), 1001.0)
    assigns = [each for each in core.tick(1001.0) if isinstance(each, Assign)]
    assert [each.best_effort for each in assigns] == [True]
    core.ledger.check()


# -- predict


def test_delay_asks_once_an_answer_turns_out_long() -> None:
    core = core_with("isrtf", predict="delay", predict_tokens=60)
    assert asked(come(core, arrived(1))) == []
    core.handle(Stepped("w1", ((1, 1, 50),)), 1.0)
    assert asked(core.tick(1.0)) == []
    core.handle(Stepped("w1", ((1, 1, 50),)), 2.0)
    assert asked(core.tick(2.0)) == [(1, 100)]


def test_skip_asks_at_arrival_unless_its_kind_is_short() -> None:
    core = core_with("isrtf", predict="skip", predict_tokens=60)
    assert asked(come(core, arrived(1))) == [(1, 0)], "nothing known: half of the public traces' answers are longer"
    assert asked(come(core, arrived(2, max_tokens=50))) == [], "it can't be long"


def test_choices_that_need_lengths_ask_for_them_though_the_policy_does_not() -> None:
    assert asked(come(core_with("fcfs"), arrived(1))) == []
    assert asked(come(core_with("fcfs", kv_admission="peak"), arrived(1))) == [(1, 0)]
    assert asked(come(core_with("fcfs", placement="waiting_time"), arrived(1))) == [(1, 0)]


# -- what excludes what


@pytest.mark.parametrize(
    ("policy", "choices", "setting", "why"),
    [
        ("slo", {"placement": "nowhere"}, "placement", "known: freeness, max_min, min_load, round_robin, waiting_time"),
        ("slo", {"overload": "drop"}, "overload", "known: auto, queue, reject, relegate"),
        ("slo", {"admission": "guards", "overload": "relegate"}, "overload", "already decides"),
        ("slo", {"admission": "dp_soft", "overload": "reject"}, "overload", "already decides"),
        ("fcfs", {"admission": "dp_soft"}, "admission", "knows no classes"),
        ("isrtf", {"overload": "relegate"}, "overload", "knows no classes"),
        ("fcfs", {"batching": "credit"}, "batching", "who runs, runs on"),
        ("edf", {"fair_shares": "on"}, "fair_shares", "would put BE before LS"),
        ("hybrid_slo", {"fair_shares": "on"}, "fair_shares", "would put BE before LS"),
        ("slo", {"fair_shares": "maybe"}, "fair_shares", "known: auto, on, off"),
        ("slo", {"fair_bound_tokens": 0}, "fair_bound_tokens", "must be 1 to 1000000"),
        ("fcfs", {"predict": "delay"}, "predict", "asks for no predictions"),
        ("slo", {"predict": "skip", "repredict": "always"}, "predict", "repredict"),
        ("slo", {"predict": "skip", "repredict": "never"}, "predict", "repredict"),
        ("slo", {"chunk_tokens": 256}, "chunk_tokens", "only 'fixed'"),
        ("slo", {"chunking": "fixed", "min_chunk_tokens": 256}, "min_chunk_tokens", "not sized by time"),
        ("isrtf", {"hold_be_decodes": False}, "hold_be_decodes", "class tiers"),
        ("slo", {"predict_tokens": 0}, "predict_tokens", "1 to 1000000"),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_a_reason(
    policy: str, choices: dict[str, object], setting: str, why: str
) -> None:
    with pytest.raises(BadChoice, match=why) as caught:
        core_with(policy, **choices)
    assert caught.value.setting == setting


def test_each_ingredient_changes_the_rules_that_a_worker_is_told() -> None:
    plain = PolicySettings().step_rules(core_with("slo").policy.rules())
    changed = core_with(
        "slo", class_tiers=True, relegate_late=False, hold_be_decodes=False, min_chunk_tokens=64,
        chunking="slack", batching="credit",
    ).policy  # fmt: skip
    rules = changed.settings.step_rules(changed.rules())
    assert replace(plain, be_share=0.0) == core_with("slo").policy.rules()
    assert (rules.relegate_late, rules.hold_be_decodes, rules.min_chunk_tokens) == (False, False, 64)
    assert (rules.chunking, rules.credit_batching) == ("slack", True)


def test_choices_survive_being_texts() -> None:
    settings = PolicySettings(placement="freeness", min_chunk_tokens=64, relegate_late=False, predict_tokens=7)
    for name, text in as_text(settings).items():
        assert read_choice(name, text) == getattr(settings, name), name
    for name, text in (("relegate_late", "maybe"), ("chunk_tokens", "-1"), ("nothing", "1")):
        with pytest.raises(BadChoice):
            read_choice(name, text)


def test_an_operator_sets_choices_as_texts_over_what_is_configured() -> None:
    base = PolicySettings(placement="freeness", min_chunk_tokens=64)
    given = admin_pb2.PolicySettings(choices={"overload": "relegate", "min_chunk_tokens": "none"})
    settings = overlaid("slo", given, base, {})
    assert (settings.placement, settings.overload, settings.min_chunk_tokens) == ("freeness", "relegate", None)
    with pytest.raises(Refusal, match=r"settings\.choices\.hold_be_decodes"):
        overlaid("slo", admin_pb2.PolicySettings(choices={"hold_be_decodes": "perhaps"}), base, {})


def test_every_choice_can_be_configand_has_the_same_default_there() -> None:
    config = SchedulerConfig()
    for name in CHOICES:
        assert getattr(config, name) == getattr(PolicySettings(), name), name
