"""Overload, one rule a test, and shortened seeds of `bench.overload` and `bench.fairness`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.fairness import MOST_POINTS, isolation
from bench.overload import LEAST_ATTAINMENT, Run, measured
from fairlead.lengths import LengthDistribution
from fairlead.steps import StepModel
from scheduler_svc.core.admission import Limits, RefusalReason
from scheduler_svc.core.recent import Recent
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import Arrived, Assign, PolicySettings, Predicted, WorkerUp
from simulator.run import Setup

WORKER = WorkerUp("w1", "demo", 64, 16, 1000, 16, 128, StepModel(10.0, 0.1, 1.0, 0.0))


def core_with(policy: str = "slo", worker: WorkerUp = WORKER, **choices: object) -> SchedulerCore:
    core = SchedulerCore(policy, replace(PolicySettings(), **choices), Limits(look_ahead=0))
    core.handle(worker, 0.0)
    return core


def arrived(job_id: int, *, ls: bool = True, prompt: int = 100, **changes: object) -> Arrived:
    return replace(Arrived(job_id, "acme", "demo", ls, 1000.0, 50.0, prompt, 512), **changes)


def fill(core: SchedulerCore, count: int, prompt: int = 100) -> None:
    for job_id in range(1, count + 1):
        core.handle(arrived(job_id, prompt=prompt), 0.0)
        core.handle(Predicted(job_id, 0, LengthDistribution.from_point(100.0)), 0.0)
    core.tick(0.0)


def refused(core: SchedulerCore, spec: Arrived) -> RefusalReason | None:
    found = core.refusal_for(spec.tenant, 0.0, spec)
    assert found is None or found.retry_after_ms is None or found.retry_after_ms >= 100.0
    return None if found is None else found.reason


def test_who_would_slow_everybody_below_the_pace_is_refused_with_a_delay() -> None:
    core = core_with(worker=replace(WORKER, step_seats=64))
    fill(core, 34, prompt=1)  # 10 + 35 ms a step with one more; 0.9 of the 50 ms target
    assert refused(core, arrived(99, prompt=1)) is None
    core.handle(arrived(50, prompt=1), 0.0)
    assert refused(core, arrived(99, prompt=1)) is RefusalReason.TPOT_OUT_OF_REACH
    assert refused(core, arrived(99, prompt=1, tpot_ms=100.0)) is None
    assert refused(core, arrived(99, ls=False)) is None, "BE has no pace"
    assert refused(core_with(overload="queue"), arrived(99, prompt=1)) is None


def test_an_answer_that_a_lost_scheduler_began_is_not_refused_in_the_middle() -> None:
    core = core_with(worker=replace(WORKER, step_seats=64))
    fill(core, 40, prompt=1)
    assert refused(core, arrived(99, prompt=1)) is RefusalReason.TPOT_OUT_OF_REACH
    assert refused(core, arrived(99, prompt=1, received_tokens=1)) is None
    assert refused(core, arrived(99, prompt=20_000, received_tokens=1)) is RefusalReason.NEVER_FITS


def test_memory_that_latency_sensitive_requests_fill_is_not_promised_twice() -> None:
    core = core_with(worker=replace(WORKER, kv_blocks=100, cost=StepModel(1.0, 0.001, 0.001, 0.0)))
    fill(core, 6, prompt=200)  # 1600 tokens; each holds 200 and half of 100
    assert refused(core, arrived(99, prompt=200)) is RefusalReason.TPOT_OUT_OF_REACH


def test_places_that_latency_sensitive_requests_have_taken_are_waited_for() -> None:
    """With 4 seats a worker takes 8 LS requests, who wait for one of them to end; memory and pace are no matter."""
    few_seats = replace(WORKER, step_seats=4, cost=StepModel(1.0, 0.001, 0.001, 0.0))
    core = core_with(worker=few_seats)
    fill(core, 8, prompt=1)  # 100 tokens of 2 ms each to go: one ends every 25 ms, the first surely within 75 ms
    assert refused(core, arrived(99, prompt=1, ttft_ms=50.0)) is RefusalReason.TTFT_OUT_OF_REACH
    assert refused(core, arrived(99, prompt=1, ttft_ms=200.0)) is None
    assert refused(core_with(worker=few_seats), arrived(99, prompt=1, ttft_ms=50.0)) is None, "places are free"
    assert refused(core, arrived(99, ls=False)) is None


def test_more_decodes_than_seats_take_turns() -> None:
    """22 of them on 10 seats get a token each in 2.2 steps, each of which costs its 20 ms."""
    wide = replace(WORKER, step_seats=10, cost=StepModel(20.0, 0.001, 0.001, 0.0))
    core = core_with(worker=wide, be_share=0.0)
    fill(core, 21, prompt=1)
    assert refused(core, arrived(99, prompt=1, ttft_ms=60_000.0)) is None, "44 ms with it, 0.9 of 50 allowed"
    core.handle(arrived(50, prompt=1), 0.0)
    core.tick(0.0)
    assert refused(core, arrived(99, prompt=1, ttft_ms=60_000.0)) is RefusalReason.TPOT_OUT_OF_REACH


def test_a_request_too_long_for_its_target_is_not_sent_away_from_an_idle_worker() -> None:
    core = core_with()
    assert refused(core, arrived(1, prompt=14_000)) is None, "1.4 s of prefill: it is late anywhere, at any time"
    assert refused(core, arrived(1, prompt=8_500)) is None, "0.85 s and four steps: in time, if it is let in at once"
    fill(core, 20, prompt=500)
    assert refused(core, arrived(99, prompt=8_500)) is RefusalReason.TTFT_OUT_OF_REACH
    assert refused(core, arrived(99, prompt=14_000)) is RefusalReason.TTFT_OUT_OF_REACH, "now it is in others' way"


def test_who_may_become_best_effort_is_served_as_that_and_not_refused() -> None:
    core = core_with()
    fill(core, 40, prompt=1)
    assert refused(core, arrived(99, prompt=1)) is not None
    willing = arrived(99, prompt=1, may_become_be=True)
    assert refused(core, willing) is None
    core.handle(willing, 0.0)
    core.tick(0.0)
    job = core.job(99)
    assert job is not None
    assert job.relegated
    assert not job.spec.latency_sensitive
    core.ledger.check()
    idle = core_with()
    idle.handle(willing, 0.0)
    assert [each.best_effort for each in idle.tick(0.0) if isinstance(each, Assign)] == [False]


@pytest.mark.parametrize(("policy", "overload"), [("slo", "reject"), ("fcfs", "queue"), ("priority", "queue")])
def test_what_auto_stands_for(policy: str, overload: str) -> None:
    assert core_with(policy).policy.overload == overload
    assert core_with("slo", admission="guards").policy.overload == "queue", "the guards refuse by themselves"


def test_who_was_lately_let_in_with_more_than_its_share_is_known_and_forgotten() -> None:
    weights = {"acme": 1.0, "bits": 3.0}
    recent = Recent(weights.__getitem__)
    recent.add("acme", 300.0, 0.0)
    assert not recent.beyond_share("acme", 0.0), "alone it may have everything"
    recent.add("bits", 500.0, 0.0)
    assert recent.beyond_share("acme", 0.0)
    assert not recent.beyond_share("bits", 0.0)
    recent.add("bits", 500.0, 120_000.0)
    assert not recent.beyond_share("acme", 120_000.0)
    assert recent.beyond_share("bits", 120_000.0)


def test_the_wait_that_the_share_promises_follows_what_is_ahead() -> None:
    core = core_with(be_share=0.05, overload="queue", fair_shares="off")
    core.handle(arrived(1, ls=False), 0.0)
    first = core.wait_bound_ms(1)
    assert first is not None
    # 16 seats bring 0.8 turns a step of 10 + 0.1 * 1024 + 16 ms; 100 prompt tokens are about one turn; one saving-up.
    step_ms = 10 + 0.1 * 1024 + 16
    assert first > 51 / 0.8 * step_ms
    core.handle(arrived(2, ls=False), 0.0)
    second = core.wait_bound_ms(2)
    assert second is not None
    assert second > first + core.priors.distribution(arrived(1, ls=False)).mean_remaining() / 0.8 * step_ms * 0.9
    core.handle(arrived(3), 0.0)
    assert core.wait_bound_ms(3) is None, "LS has targets, not a share"
    bare = core_with(be_share=0.0)
    bare.handle(arrived(1, ls=False), 0.0)
    assert bare.wait_bound_ms(1) is None, "nothing is promised"


def test_three_times_the_capacity_is_borne() -> None:
    """Half a minute of `python -m bench.overload`."""
    found = measured(Run("synthetic", "slo@overload=reject", 3.0, 0.5), 6.0, Setup())
    assert found.admitted_attainment >= LEAST_ATTAINMENT, found
    assert found.ls_refused > 0.05, "it was no overload"
    assert (found.refused_without_delay, found.be_beyond_bound) == (0, 0), found
    assert found.after_met == 1.0, found


def test_three_times_the_capacity_of_few_seats_is_borne() -> None:
    """Half a minute with 12 seats, which LS alone fills: before places were counted, 70 % of the admitted were met."""
    found = measured(Run("synthetic", "slo@overload=reject", 3.0, 0.5), 3.7, Setup(seats=12))
    assert found.admitted_attainment >= LEAST_ATTAINMENT, found
    assert found.refused_without_delay == 0, found


def test_a_flood_of_another_tenant_costs_at_most_two_points() -> None:
    """Two minutes of `python -m bench.fairness` beside a flood of LS; seeds differ by a point, alone all are met."""
    alone, flooded = isolation("slo@overload=reject", "synthetic", Setup(), 2.0, {"a flood of LS": 1.0})
    assert flooded.attainment >= alone.attainment - MOST_POINTS, (alone, flooded)
    assert alone.attainment >= LEAST_ATTAINMENT, alone
