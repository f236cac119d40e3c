"""Each policy against a case worked by hand, or one from the literature; the docstring says which."""

from __future__ import annotations

from itertools import permutations

import pytest

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.policies import BUILT_IN, Pace, Room
from scheduler_svc.core.policies.anneal import Anneal, Item, SplitMix, anneal, goodness
from scheduler_svc.core.policies.qoe import gain, positive_area
from scheduler_svc.core.policies.sorted_f import best_batch, quality
from scheduler_svc.core.policies.tail_penalty import cvar_remaining
from scheduler_svc.core.types import ExecutionEnded, Job, Outcome, StepCost, Stepped
from tests.unit.policy_cases import (
    ONE_MS_A_TOKEN,
    arrive,
    assigned,
    core_of,
    job_of,
    key_of,
    last_order,
    order_of,
    policy_of,
)

GPU = Pace(StepCost(6.0, 0.045, 0.05, 0.0), seats=16)
"""6/16 + 0.05 = 0.425 ms a token, 6.8 ms a full step, 0.045 ms a prompt token."""


def test_fcfs_is_by_arrival() -> None:
    """By hand: lengths and classes say nothing."""
    jobs = [job_of(1, 5, arrival_ms=3), job_of(2, 900, arrival_ms=1), job_of(3, 1, ls=True, arrival_ms=2)]
    assert order_of(policy_of("fcfs"), jobs, 10.0) == [2, 3, 1]


def test_priority_is_class_then_arrival_and_never_pauses() -> None:
    """By hand, vLLM's rule: an LS request behind two running BE ones waits for a seat, then passes the BE queue."""
    core = core_of("priority")
    for job_id in (1, 2, 3):
        arrive(core, job_id, 50)
    assert assigned(core.tick(0.0)) == [1, 2]
    arrive(core, 4, 50, 1.0, ls=True)
    assert assigned(core.tick(1.0)) == []
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.STOP), 2.0)
    assert assigned(core.tick(2.0)) == [4]
    assert not core.policy.rules().displace
    assert not core.policy.rules().step_budget


def test_edf_is_by_absolute_deadline() -> None:
    """By hand: deadlines 400 + 1000, 0 + 1200, 100 + 300000 (the default), 0 + 1500."""
    jobs = [
        job_of(1, ls=True, arrival_ms=400),
        job_of(2, ls=True, ttft_ms=1200.0),
        job_of(3, arrival_ms=100),
        job_of(4, completion_ms=1500.0),
    ]
    assert order_of(policy_of("edf"), jobs) == [2, 1, 4, 3]
    assert order_of(policy_of("edf", be_completion_ms=1000.0), jobs) == [3, 2, 1, 4]


def test_ssjf_is_constant_plus_time_per_token_times_length() -> None:
    """By hand: 1000 x 0.045 + 10 x 0.425 = 49.25 ms before 10 x 0.045 + 120 x 0.425 = 51.45 ms."""
    long_prompt, long_answer = job_of(1, 10, prompt_tokens=1000), job_of(2, 120)
    policy = policy_of("ssjf")
    assert policy.cost(long_prompt, GPU) == pytest.approx(49.25, rel=0.01)
    assert policy.cost(long_answer, GPU) == pytest.approx(51.45, rel=0.01)
    long_answer.output_tokens = 110
    assert policy.cost(long_answer, GPU) == pytest.approx(51.45, rel=0.01), "the key is that of the whole request"


def test_ssjf_never_displaces_a_running_request() -> None:
    core = core_of("ssjf")
    arrive(core, 1, 900)
    arrive(core, 2, 900)
    core.tick(0.0)
    arrive(core, 3, 500, 1.0)
    arrive(core, 4, 5, 1.0)
    assert assigned(core.tick(1.0)) == []
    core.handle(ExecutionEnded("w1", 2, 1, Outcome.STOP), 2.0)
    assert assigned(core.tick(2.0)) == [4]


def test_srpt_takes_the_true_length_where_an_operator_tells_it() -> None:
    """By hand: predicted 100 each, in truth 10, 300 and 40, of which 35 are out: 5 left goes first."""
    jobs = [
        job_of(1, length_hint_tokens=10),
        job_of(2, length_hint_tokens=300),
        job_of(3, length_hint_tokens=40),
        job_of(4),
    ]
    jobs[2].output_tokens = 35
    policy = policy_of("srpt")
    assert order_of(policy, jobs) == [3, 1, 4, 2]
    assert not policy.wants_prediction(jobs[0], 0)
    assert policy.wants_prediction(jobs[3], 0)


def test_isrtf_is_by_what_is_left() -> None:
    """By hand: 500 predicted of which 480 are out, before 60 of which none is."""
    old, new = job_of(1, 500), job_of(2, 60)
    old.output_tokens = 480
    assert order_of(policy_of("isrtf"), [old, new]) == [1, 2]


def test_srpt_limited_displaces_only_before_c_of_the_first_prediction() -> None:
    """TRAIL's rule by hand: predicted 100, c = 0.8: a newcomer of 5 tokens displaces at 79 tokens out, not at 80."""
    for out, keeps_its_seat in ((79, False), (80, True)):
        core = core_of("srpt_limited", seats=1)
        arrive(core, 1, 100)
        core.tick(0.0)
        core.handle(Stepped("w1", tokens=((1, 1, out),)), 1.0)
        core.tick(1.0)
        arrive(core, 2, 5, 2.0)
        decisions = core.tick(2.0)
        if keeps_its_seat:
            assert assigned(decisions) == [], "it waits, though it is shorter than the 20 that are left"
        else:
            assert assigned(decisions) == [2]
            assert last_order(decisions) == (2, 1)


def test_srpt_limited_is_reviewed_at_the_threshold_and_not_at_the_next_window() -> None:
    """By hand: windows end at 50 and 100 tokens; the threshold of 80 lies between them."""
    core = core_of("srpt_limited", seats=1)
    arrive(core, 1, 100)
    core.tick(0.0)
    for _ in range(8):
        core.handle(Stepped("w1", tokens=((1, 1, 10),)), 1.0)
    job = core.job(1)
    assert job is not None
    assert job.key[0] == 0.0


def test_rank_promotes_the_starved_for_a_quantum() -> None:
    """The paper's rule by hand: score 900 yields to 10, is first after 30 s without a token, for 50 tokens."""
    policy = policy_of("rank")
    long, short = job_of(1, 900), job_of(2, 10, arrival_ms=29_000)
    assert order_of(policy, [long, short], 29_999.0) == [2, 1]
    assert order_of(policy, [long, short], 30_000.0) == [1, 2]
    long.output_tokens, long.last_token_ms = 49, 31_000.0
    assert order_of(policy, [long, short], 31_000.0) == [1, 2]
    assert long.review_at == 50
    long.output_tokens = 50
    assert order_of(policy, [long, short], 31_000.0) == [2, 1]


def test_mlfq_joins_by_prefill_time_and_sinks_with_use() -> None:
    """FastServe's queues by hand: quanta 10, 20, 40, 80 ms; a prefill of 36 ms joins level 2; a step takes 10 ms, so
    that 4 tokens use 40 ms up, and 8 more the 80 ms of level 3."""
    pace = Pace(StepCost(10.0, 0.036, 0.0, 0.0), seats=1)
    policy = policy_of("mlfq")
    job = job_of(prompt_tokens=1000)
    assert key_of(policy, job, pace=pace)[0] == 2.0
    assert job.review_at == 4
    levels: list[float] = []
    job.last_token_ms = 0.0
    for out in (3, 4, 11, 12):
        job.output_tokens = out
        levels.append(key_of(policy, job, pace=pace)[0])
    assert levels == [2.0, 3.0, 3.0, 4.0]
    assert key_of(policy, job_of(prompt_tokens=1), pace=pace)[0] == 0.0, "a short prompt begins at the top"
    assert key_of(policy, job, 30_000.0, pace)[0] == 0.0, "after 30 s without a token it is at the top again"


def test_mlfq_never_asks_for_a_prediction() -> None:
    assert not policy_of("mlfq").wants_prediction(job_of(), 0)


def test_hrrn_as_in_the_textbook() -> None:
    """Stallings, Operating Systems, table 9.4: A(0, 3) B(2, 6) C(4, 4) D(6, 5) E(8, 2) are served A B C E D."""
    policy = policy_of("hrrn")
    jobs = [
        job_of(job_id, service, arrival_ms=arrival)
        for job_id, (arrival, service) in enumerate([(0, 3), (2, 6), (4, 4), (6, 5), (8, 2)], start=1)
    ]
    now_ms, served = 0.0, list[int]()
    while len(served) < len(jobs):
        there = [job for job in jobs if job.job_id not in served and job.arrival_ms <= now_ms]
        chosen = order_of(policy, there, now_ms)[0]
        served.append(chosen)
        now_ms += (3, 6, 4, 5, 2)[chosen - 1]
    assert served == [1, 2, 3, 5, 4]


def test_tail_penalty_puts_the_one_that_may_run_away_later() -> None:
    """By hand: mean 110 and sure, against mean about 100 and heavy-tailed."""
    sure, wild = job_of(1, 110), job_of(2)
    wild.predicted = wild.distribution = LengthDistribution.lognormal(61.0, 1.0)
    assert wild.distribution.mean_remaining(0) == pytest.approx(100, rel=0.06)
    assert order_of(policy_of("tail_penalty", weight=0.0), [sure, wild]) == [2, 1]
    assert order_of(policy_of("tail_penalty"), [sure, wild]) == [1, 2]


def test_cvar_is_the_mean_of_the_worst_tenth() -> None:
    """By hand for a Pareto tail of index 3 from 100 on: E[L | L > q] = q x 3 / 2."""
    law = LengthDistribution((0.5,), (100.0,), tail_index=3.0)
    quantile = law.quantile(0.9)
    assert cvar_remaining(law, 0.9, 0) == pytest.approx(1.5 * quantile, rel=0.01)
    assert cvar_remaining(law, 0.9, 200) == pytest.approx(1.5 * law.quantile(0.9, 200) - 200, rel=0.01)
    assert cvar_remaining(law.truncated(150), 0.9, 0) <= 150


def test_interval_min_takes_the_lower_end_and_raises_it() -> None:
    """A_min by hand: bounds 20 and 80 whatever the upper ends; past 20 tokens the bound is what is out."""
    policy = policy_of("interval_min", lower_level=0.5)
    low, high = job_of(1, 20), job_of(2, 80)
    low.predicted = LengthDistribution.lognormal(20.0, 2.0)  # may be very long: its upper end says nothing
    assert order_of(policy, [high, low]) == [1, 2]
    low.output_tokens = 90
    assert order_of(policy, [high, low]) == [2, 1]


def test_interval_min_gives_up_the_running_request_with_the_smallest_bound() -> None:
    """A_min by hand: of running bounds 20 and 80 the one of 20 is the victim, since it is last in the order."""
    policy = policy_of("interval_min", lower_level=0.5)
    small, large, waiting = job_of(1, 20), job_of(2, 80), job_of(3, 5)
    small.seated = large.seated = True
    assert order_of(policy, [small, large, waiting]) == [2, 1, 3]


def test_hybrid_slo_is_deadline_plus_alpha_times_work() -> None:
    """Niyama's formulas by hand, alpha = 8 ms: LS 0 + 1000 + 8 x 100 = 1800; BE 0 + 1500 + 8 x (10 + 20) = 1740."""
    ls, be = job_of(1, ls=True, prompt_tokens=100), job_of(2, 20, completion_ms=1500.0)
    policy = policy_of("hybrid_slo")
    assert key_of(policy, ls) == (1.0, 1800.0)
    assert key_of(policy, be)[1] == pytest.approx(1740.0, abs=2)
    assert order_of(policy, [ls, be]) == [2, 1]
    assert order_of(policy_of("hybrid_slo", alpha_ms=0.0), [ls, be]) == [1, 2], "alpha = 0 is EDF"


def test_hybrid_slo_never_displaces_an_ls_decode() -> None:
    """By hand: a running LS decode goes before an LS prefill that is due earlier."""
    decode, prefill = job_of(1, ls=True, arrival_ms=500), job_of(2, ls=True)
    policy = policy_of("hybrid_slo")
    assert order_of(policy, [decode, prefill]) == [2, 1]
    decode.worker, decode.output_tokens = "w1", 1
    assert order_of(policy, [decode, prefill]) == [1, 2]


def test_goodput_is_what_is_earned_per_time_left() -> None:
    """By hand, 1 ms a token: 200 tokens with 150 out earn 200 / 50 = 4 a ms; 60 new ones 1; a missed one 0.01."""
    old, new, missed = job_of(1, 200), job_of(2, 60), job_of(3, 100, completion_ms=50.0)
    old.output_tokens = 150
    policy = policy_of("goodput")
    assert key_of(policy, old)[1] == pytest.approx(-4.0, rel=0.02)
    assert key_of(policy, new)[1] == pytest.approx(-1.0, rel=0.02)
    assert key_of(policy, missed)[1] == pytest.approx(-0.01, rel=0.02)
    assert order_of(policy, [missed, new, old]) == [1, 2, 3]


def test_goodput_displaces_only_for_a_gain_beyond_the_stall() -> None:
    """By hand, 1 a request: 100 ms left while running counts as 100 / 1.2 = 83: 90 does not displace it, 80 does."""
    policy = policy_of("goodput", earns="requests")
    running, near, better = job_of(1, 100), job_of(2, 90), job_of(3, 80)
    running.seated = True
    assert order_of(policy, [running, near, better]) == [3, 1, 2]


def test_qoe_gain_by_hand() -> None:
    """On time, 100 ms a token wanted, 50 ms served, 1 s ahead: waiting loses 1/100 x 1000^2 / 2 = 5000 token ms, being
    served loses nothing; of 20,000 under the curve that is a quarter."""
    assert positive_area(0.0, 0.01, 1000.0) == pytest.approx(5000.0)
    assert positive_area(-5.0, 0.01, 1000.0) == pytest.approx(1250.0)
    assert positive_area(5.0, -0.01, 1000.0) == pytest.approx(1250.0)
    assert positive_area(-1.0, -0.1, 1000.0) == 0.0
    assert gain(0.0, 20_000.0, 100.0, 50.0, 1000.0) == pytest.approx(0.25)
    assert gain(-20.0, 20_000.0, 100.0, 50.0, 1000.0) == 0.0, "20 tokens ahead of a reader who reads 10 in that time"


def test_qoe_serves_who_is_behind_and_paces_who_is_ahead() -> None:
    """By hand at 2 s, TTFT 1 s, TPOT 50 ms (20 tokens due): one has 5 out, one 400, one a context ten times as long."""
    policy = policy_of("qoe")
    behind, ahead, large = (job_of(job_id, ls=True, prompt_tokens=10) for job_id in (1, 2, 3))
    large.spec = job_of(3, ls=True, prompt_tokens=1000).spec
    behind.output_tokens, ahead.output_tokens, large.output_tokens = 5, 400, 5
    assert order_of(policy, [ahead, large, behind], 2000.0, Pace(StepCost(20.0, 0, 0, 0), 1)) == [1, 3, 2]
    assert key_of(policy, ahead, 2000.0) == (1.0, 1000.0 + 400 * 50.0), "needed when its reader has caught up"


def test_memory_time_counts_memory_times_time() -> None:
    """By hand, 1 ms a token: 100 x 10 + 10^2 / 2 = 1050 token ms for a long prompt, 10 x 30 + 30^2 / 2 = 750 for a
    short one with three times the answer."""
    long_prompt, long_answer = job_of(1, 10, prompt_tokens=100), job_of(2, 30, prompt_tokens=10)
    policy = policy_of("memory_time")
    assert key_of(policy, long_prompt)[1] == pytest.approx(1050, rel=0.02)
    assert key_of(policy, long_answer)[1] == pytest.approx(750, rel=0.02)
    assert order_of(policy, [long_prompt, long_answer]) == [2, 1]


def costed(jobs: list[Job], name: str = "sorted_f") -> list[Job]:
    for job in jobs:
        job.cost = policy_of(name).cost(job, ONE_MS_A_TOKEN)
    return jobs


def test_sorted_f_prefers_a_large_batch_of_short_ones() -> None:
    """By hand: lengths 10, 10, 10, 100: F = 10, 5, 3.33, then 130 / 16 = 8.1, so that the batch is the first three."""
    assert [quality([10] * n) for n in (1, 2)] == [10, 5]
    assert quality([10, 10, 10, 100]) == pytest.approx(8.125)
    jobs = costed([job_of(job_id, tokens) for job_id, tokens in ((1, 10), (2, 10), (3, 10), (4, 100))])
    assert [job.job_id for job in best_batch(jobs, Room(8, 10_000, ONE_MS_A_TOKEN))] == [1, 2, 3]
    assert [job.job_id for job in best_batch(jobs, Room(2, 10_000, ONE_MS_A_TOKEN))] == [1, 2], "two seats"
    assert [job.job_id for job in best_batch(jobs, Room(8, 25, ONE_MS_A_TOKEN))] == [1], "KV for one: 10 + 10 tokens"


def test_sorted_f_drains_the_backlog_in_that_order() -> None:
    """By hand, through the core: the three of 10 tokens enter before the older one of 100."""
    core = core_of("sorted_f", seats=3)
    for job_id, tokens in ((1, 100), (2, 10), (3, 10), (4, 10)):
        arrive(core, job_id, tokens)
    assert assigned(core.tick(0.0)) == [2, 3, 4]


def test_doubling_budget_halves_its_claim_at_each_overrun() -> None:
    """By hand: predicted 100; budgets 100, 200, 400 at 99, 100 and 200 tokens out; then a newcomer of 150 passes it."""
    policy = policy_of("doubling_budget")
    job, newcomer = job_of(1, 100), job_of(2, 150)
    keys: list[float] = []
    for out in (99, 100, 200):
        job.output_tokens = out
        keys.append(key_of(policy, job)[1])
        assert job.review_at == keys[-1]
    assert keys == [pytest.approx(100, abs=1), pytest.approx(200, abs=2), pytest.approx(400, abs=4)]
    assert order_of(policy, [job, newcomer]) == [2, 1]


def test_anneal_finds_the_best_order_of_a_small_queue() -> None:
    """By trying all: three of 10 ms, due at 45 ms, make it in two seats only if the one of 200 ms goes last."""
    inf = float("inf")
    rows = [(200.0, inf), (10.0, 45.0), (10.0, 45.0), (10.0, 45.0)]
    items = [Item(job_of(n, tokens), 0.0, tokens, 10, inf, inf, due) for n, (tokens, due) in enumerate(rows, start=1)]
    pace = Pace(StepCost(1.0, 0.0, 0.0, 0.0), seats=2)
    found = anneal(items, 2, pace, 300, SplitMix(1))
    best = max(
        goodness(order, sizes, pace) for order in permutations(items) for sizes in ((2, 2), (1, 2, 1), (2, 1, 1))
    )
    reached = max(goodness(found, sizes, pace) for sizes in ((2, 2), (1, 2, 1), (2, 1, 1)))
    assert reached == pytest.approx(best)
    assert found[-1].job.job_id == 1


def test_anneal_leaves_shortest_first_where_a_deadline_says_so() -> None:
    """By hand, one seat: 100 ms due at 105 ms and 10 ms due never: only the long one first meets both."""
    policy = policy_of("anneal")
    assert isinstance(policy, Anneal)
    long, short = job_of(1, 100, completion_ms=105.0), job_of(2, 10)
    costed([long, short], "anneal")
    order = policy.plan([short, long], Room(1, 1000, ONE_MS_A_TOKEN), 0.0)
    assert [job.job_id for job in order] == [1, 2]


def test_anneal_repeats_itself_by_its_seed() -> None:
    jobs = costed([job_of(n, 5 + 37 * n % 101, ls=n % 2 == 0) for n in range(1, 21)], "anneal")
    plans = [
        [job.job_id for job in policy_of("anneal", seed=seed, iterations=50).plan(jobs, Room(4, 9999, GPU), 0.0)]
        for seed in (0, 0, 7)
    ]
    assert plans[0] == plans[1]
    assert sorted(plans[2]) == sorted(plans[0])


def test_gittins_bets_on_what_may_end_soon() -> None:
    """Mitzenmacher & Shahout's kind of example, by hand: 10 or 200 tokens with even odds has mean 105 and index
    0.5 / 10, a cost of 20: it goes before a sure 60; once it has passed 10 tokens it is a sure 190 and goes after."""
    coin, sure = job_of(1), job_of(2, 60)
    coin.distribution = LengthDistribution((0.01, 0.49, 0.51, 0.99), (9.8, 10.0, 196.0, 200.0))
    policy = policy_of("gittins")
    assert key_of(policy, coin)[1] == pytest.approx(20, rel=0.15)
    assert order_of(policy, [sure, coin]) == [1, 2]
    assert order_of(policy_of("isrtf"), [sure, coin]) == [2, 1], "the mean sees only 105"
    coin.output_tokens = 20
    assert order_of(policy, [sure, coin]) == [2, 1]


def test_gittins_swaps_no_seats_over_near_ties() -> None:
    """By hand: 100 left while running counts as 70."""
    running, near = job_of(1, 100), job_of(2, 80)
    running.seated = True
    assert order_of(policy_of("gittins"), [running, near]) == [1, 2]
    assert order_of(policy_of("gittins", running_factor=1.0), [running, near]) == [2, 1]


def test_slo_ingredients_can_be_switched_off_one_by_one() -> None:
    """By hand: each option changes what it names."""
    short, long = job_of(1, 50, arrival_ms=1.0), job_of(2, 500)
    assert order_of(policy_of("slo"), [long, short], 2.0) == [1, 2]
    assert order_of(policy_of("slo", be_order="mean"), [long, short], 2.0) == [1, 2]
    assert order_of(policy_of("slo", be_order="fcfs"), [long, short], 2.0) == [2, 1]
    starved = job_of(2, 100, arrival_ms=-600_000.0)
    aged = policy_of("slo", ageing_ms=300_000)
    assert order_of(aged, [starved, short], 2.0) == [2, 1], "100 / (1 + 2^2) is 20"
    assert order_of(policy_of("slo"), [starved, short], 2.0) == [1, 2]
    for flag in ("step_budget", "yield_when_ahead", "displace", "evict"):
        assert getattr(policy_of("slo").rules(), flag)
        assert not getattr(policy_of("slo", **{flag: False}).rules(), flag)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_policy_says_what_it_does(name: str) -> None:
    policy = BUILT_IN[name]
    assert policy.name == name
    assert 10 < len(policy.summary) < 120
    assert policy.__doc__
