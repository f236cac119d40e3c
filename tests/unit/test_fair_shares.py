"""Virtual token counters, one rule a test: charged, settled, lifted, and who yields to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    Assign,
    CancelRequested,
    Change,
    Decision,
    ExecutionEnded,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Reorder,
    Stepped,
    TenantsChanged,
    TenantTerms,
    WorkerLost,
    WorkerUp,
)

WORKER = WorkerUp("w1", "demo", slots=4, step_seats=1, kv_blocks=1000, kv_block_tokens=32, max_held=8)


def core_with(policy: str = "fcfs", worker: WorkerUp = WORKER, **choices: object) -> SchedulerCore:
    made = PolicySettings(be_share=0.0, fair_shares="on", fair_bound_tokens=100, output_token_weight=2)
    core = SchedulerCore(policy, replace(made, **choices), Limits(look_ahead=0))
    core.handle(worker, 0.0)
    core.tick(0.0)
    return core


def come(
    core: SchedulerCore, job_id: int, tenant: str, tokens: float = 50, *, ls: bool = False, prompt: int = 20
) -> None:
    core.handle(Arrived(job_id, tenant, "demo", ls, 1000.0, 50.0, prompt, 512), float(job_id))
    core.handle(Predicted(job_id, 0, LengthDistribution.from_point(tokens)), float(job_id))


def assigned(decisions: list[Decision]) -> list[int]:
    return [decision.job_id for decision in decisions if isinstance(decision, Assign)]


def end(core: SchedulerCore, job_id: int, tokens: int = 50) -> list[int]:
    """A job runs to its end; who is assigned then."""
    job = core.job(job_id)
    assert job is not None
    assert job.worker is not None
    core.handle(Stepped(job.worker, ((job_id, job.attempt, tokens),), ((job_id, job.attempt, Change.STARTED),)), 100.0)
    core.handle(ExecutionEnded(job.worker, job_id, job.attempt, Outcome.STOP), 100.0)
    return assigned(core.tick(100.0))


def counter(core: SchedulerCore, tenant: str) -> float:
    return core.share_of(tenant, "demo", latency_sensitive=False).counter


def test_what_is_expected_is_charged_at_the_start_and_settled_at_the_end() -> None:
    core = core_with()
    come(core, 1, "acme")
    assert counter(core, "acme") == 0.0, "nothing is charged while it waits"
    core.tick(1.0)
    assert counter(core, "acme") == pytest.approx(20 + 2 * 50, rel=0.01)
    end(core, 1, tokens=10)
    assert counter(core, "acme") == 20 + 2 * 10, "what was not served is given back"
    come(core, 2, "acme", 10)
    core.tick(2.0)
    core.handle(CancelRequested(2, Outcome.CANCELLED_BY_CLIENT), 3.0)
    assert counter(core, "acme") == pytest.approx(40), "it never began: its prompt costs nothing either"


def test_a_tenant_ahead_of_its_bound_yields_and_inside_it_the_policy_decides() -> None:
    core = core_with()
    for job_id in range(1, 6):
        come(core, job_id, "acme")
    assert assigned(core.tick(5.0)) == [1]
    come(core, 6, "bits")
    assert counter(core, "bits") == pytest.approx(20, rel=0.02), "a bound below acme's 120"
    assert end(core, 1) == [6]
    come(core, 7, "bits")
    assert end(core, 6) == [2], "now acme has 120 and bits 140: by arrival"


def test_weights_say_how_much() -> None:
    core = core_with()
    core.handle(TenantsChanged((TenantTerms("acme", weight=3.0),)), 0.0)
    for job_id in range(1, 20):
        come(core, job_id, "acme" if job_id < 10 else "bits")
    served, order = assigned(core.tick(20.0)), ""
    for _ in range(12):
        order += "a" if served[0] < 10 else "b"
        served = end(core, served[0])
    assert order.count("a") == 9, f"{order}: three of four"


def test_who_was_away_saved_nothing_up() -> None:
    core = core_with()
    for job_id in range(1, 12):
        come(core, job_id, "acme")
    served = assigned(core.tick(5.0))
    for _ in range(5):
        served = end(core, served[0])
    come(core, 20, "bits")
    assert counter(core, "bits") == counter(core, "acme") - 100 > 500, "one bound, not all that it has missed"
    come(core, 21, "bits")
    come(core, 22, "bits")
    order = [end(core, served[0])[0]]
    for _ in range(3):
        order += end(core, order[-1])
    assert [job_id >= 20 for job_id in order] == [True, False, True, False], "120 each"


def test_a_lost_worker_gives_back_what_it_did_not_serve() -> None:
    core = core_with()
    come(core, 1, "acme")
    come(core, 2, "acme")
    core.tick(1.0)
    core.handle(Stepped("w1", ((1, 1, 5),), ((1, 1, Change.STARTED),)), 2.0)
    core.handle(WorkerLost("w1"), 3.0)
    assert counter(core, "acme") == 20 + 2 * 5
    core.handle(replace(WORKER, worker="w2"), 4.0)
    core.tick(4.0)
    assert counter(core, "acme") == pytest.approx(20 + 2 * 50, rel=0.01), "the prompt is charged once"


def test_best_effort_that_runs_yields_its_seat_and_latency_sensitive_decodes_do_not() -> None:
    core = core_with("slo")
    come(core, 1, "acme", 30)
    assert assigned(core.tick(1.0)) == [1]
    come(core, 2, "bits", 400)
    decisions = core.tick(2.0)
    assert assigned(decisions) == []
    assert end(core, 1) == [2]
    come(core, 3, "acme", 10)
    assert assigned(core.tick(4.0)) == [], "acme has had 120 by now, bits' long request entered before"
    core = core_with("slo")
    come(core, 1, "acme", 60)
    core.tick(1.0)
    come(core, 2, "acme", 30)
    decisions = core.tick(2.0)
    assert assigned(decisions) == [], "shorter, but acme's turn is over"
    come(core, 3, "bits", 30)
    decisions = core.tick(3.0)
    assert assigned(decisions) == [3], "shorter, and nothing yet"
    assert [decision.job_ids for decision in decisions if isinstance(decision, Reorder)] == [(3, 1)]
    core = core_with("slo", replace(WORKER, slots=2))
    for job_id in (1, 2):
        come(core, job_id, "acme", 60, ls=True)
    assert assigned(core.tick(2.0)) == [1, 2]
    come(core, 3, "bits", 60, ls=True)
    assert assigned(core.tick(3.0)) == [], "an LS request waits for a place, whoever's turn it is"
    come(core, 4, "acme", 60, ls=True)
    assert end(core, 1) == [3]


def test_small_requests_pass_a_large_one_that_waits_for_memory_by_one_band_only() -> None:
    worker = replace(WORKER, slots=64, step_seats=64, kv_blocks=40, max_held=64)  # 1216 tokens for the peak
    core = core_with("gittins", worker, kv_admission="peak")
    come(core, 1, "bits", 400, prompt=100)
    assert assigned(core.tick(1.0)) == [1], "an idle worker takes anyone; bits has 900"
    for job_id in range(10, 40):
        come(core, job_id, "acme", 5, prompt=10)
    come(core, 2, "core", 400, prompt=500)  # it finds 1216 - 500 - 800 < 0 free
    placed = assigned(core.tick(40.0))
    assert 2 not in placed
    assert 1 <= len(placed) <= 6, "20 each: to the end of the band after that of the large one"


def test_why_a_request_waits_tells_its_tenants_share() -> None:
    core = core_with("slo")
    come(core, 1, "acme")
    core.tick(1.0)
    come(core, 2, "acme")
    come(core, 3, "bits")
    job = core.job(2)
    assert job is not None
    inputs = core.standing(job, 4.0).inputs
    assert inputs["tenant_counter"] == pytest.approx(120, rel=0.01)
    assert (inputs["tenant_ahead"], inputs["tenant_yields"]) == (pytest.approx(100), 1.0), "bits is a bound behind"
    assert "wait_bound_ms" not in inputs, "without a BE share nothing is promised"


def test_counters_survive_a_change_of_policy_that_keeps_shares() -> None:
    core = core_with("slo")
    come(core, 1, "acme")
    core.tick(1.0)
    before = counter(core, "acme")
    core.handle(_policy("priority"), 2.0)
    assert counter(core, "acme") == before > 0
    core.handle(_policy("fcfs"), 3.0)
    assert counter(core, "acme") == 0.0, "no classes: another lane"
    end(core, 1)
    core.ledger.check()


def _policy(name: str) -> PolicyChanged:
    return PolicyChanged(
        name, PolicySettings(be_share=0.0, fair_shares="on", fair_bound_tokens=100, output_token_weight=2)
    )
