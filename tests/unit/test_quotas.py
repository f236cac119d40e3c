"""What each tenant was granted: bounds on what is open, the token rate, and the delays that the refused are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scheduler_svc.core import codec
from scheduler_svc.core.admission import AdmissionRefusal, Limits, RefusalReason
from scheduler_svc.core.quotas import TokenBucket
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    CancelRequested,
    ExecutionEnded,
    Outcome,
    PolicySettings,
    Stepped,
    TenantsChanged,
    TenantTerms,
    WorkerUp,
)

WORKER = WorkerUp("w1", "demo", slots=2, step_seats=2, kv_blocks=1000, kv_block_tokens=32, max_held=2)


def arrived(job_id: int, *, ls: bool = False, **changes: object) -> Arrived:
    spec = Arrived(job_id, "acme", "demo", ls, 1000.0, 50.0, prompt_tokens=30, max_tokens=512)
    return replace(spec, **changes)


def core_with(*terms: TenantTerms, limits: Limits | None = None) -> SchedulerCore:
    core = SchedulerCore("fcfs", PolicySettings(), limits or Limits(look_ahead=0))
    core.handle(WORKER, 0.0)
    core.handle(TenantsChanged(terms), 0.0)
    return core


def accept(core: SchedulerCore, job_id: int, now_ms: float = 0.0, tenant: str = "acme") -> None:
    core.handle(arrived(job_id, tenant=tenant), now_ms)
    core.tick(now_ms)


def refusal(core: SchedulerCore, now_ms: float, tenant: str = "acme") -> AdmissionRefusal:
    spec = arrived(999, tenant=tenant)
    found = core.refusal_for(spec.tenant, now_ms, spec)
    assert found is not None
    return found


def test_requests_in_flight_are_bounded_and_the_delay_follows_the_tenants_own_pace() -> None:
    core = core_with(TenantTerms("acme", max_in_flight=2))
    accept(core, 1)
    accept(core, 2)
    found = refusal(core, 5.0)
    assert found.reason is RefusalReason.TENANT_IN_FLIGHT
    assert found.retry_after_ms == 1000.0, "nothing has ended yet, so nothing is known"
    assert core.refusal_for("acme", 5.0) is not None, "it is told before its prompt is looked at"
    assert core.refusal_for("other", 5.0, arrived(999, tenant="other")) is None
    for index in range(4):
        core.handle(CancelRequested(1 + 2 * index, Outcome.CANCELLED_BY_CLIENT), 400.0 * (index + 1))
        accept(core, 3 + 2 * index, 400.0 * (index + 1))
    assert refusal(core, 2000.0).retry_after_ms == pytest.approx(400.0), "one ends each 400 ms"


def test_queued_requests_and_queued_tokens_are_bounded_each() -> None:
    core = core_with(TenantTerms("acme", max_queued_requests=2), TenantTerms("bits", max_queued_tokens=600))
    for job_id in (1, 2, 3, 4):  # two of them run
        accept(core, job_id)
    assert refusal(core, 1.0).reason is RefusalReason.TENANT_QUEUE_FULL
    assert core.refusal_for("bits", 1.0, arrived(999, tenant="bits", prompt_tokens=5000)) is None, "one may always wait"
    accept(core, 5, tenant="bits")
    assert core.refusal_for("bits", 1.0, arrived(999, tenant="bits")) is None
    accept(core, 6, tenant="bits")
    found = refusal(core, 1.0, tenant="bits")
    assert found.reason is RefusalReason.TENANT_QUEUED_TOKENS
    core.handle(CancelRequested(6, Outcome.CANCELLED_BY_CLIENT), 2.0)
    assert core.refusal_for("bits", 2.0, arrived(999, tenant="bits")) is None, "room again"


def test_a_class_does_not_fill_the_queue_against_the_other() -> None:
    core = core_with(limits=Limits(look_ahead=0, max_queued_per_class=1))
    for job_id in (1, 2, 3):
        accept(core, job_id)
    assert refusal(core, 1.0).reason is RefusalReason.CLASS_QUEUE_FULL
    assert core.refusal_for("acme", 1.0, arrived(999, ls=True)) is None


def test_a_token_rate_refuses_for_exactly_as_long_as_it_takes() -> None:
    core = core_with(TenantTerms("acme", tokens_per_minute=6000.0, burst_tokens=400.0))
    expected = 30 + core.priors.distribution(arrived(1)).mean_remaining()
    assert 200 < expected < 400
    accept(core, 1)
    found = refusal(core, 0.0)
    assert found.reason is RefusalReason.TENANT_TOKEN_RATE
    assert found.retry_after_ms is not None
    assert found.retry_after_ms == pytest.approx((2 * expected - 400) / 0.1)
    assert core.refusal_for("acme", found.retry_after_ms, arrived(999)) is None, "it may come when it was told to"
    assert refusal(core, found.retry_after_ms - 1.0).reason is RefusalReason.TENANT_TOKEN_RATE


def test_what_was_not_served_is_given_back_and_what_was_not_foreseen_is_charged() -> None:
    core = core_with(TenantTerms("acme", tokens_per_minute=0.6, burst_tokens=800.0))
    expected = 30 + core.priors.distribution(arrived(1)).mean_remaining()
    accept(core, 1)
    accept(core, 2)
    accept(core, 3)
    assert 3 * expected < 800 < 4 * expected
    assert refusal(core, 1.0).reason is RefusalReason.TENANT_TOKEN_RATE
    core.handle(CancelRequested(3, Outcome.CANCELLED_BY_CLIENT), 1.0)  # it never began
    assert core.refusal_for("acme", 1.0, arrived(999)) is None
    core.handle(Stepped("w1", ((1, 1, 512),)), 2.0)
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.LENGTH), 2.0)
    left = 800 - (30 + 512) - expected
    assert (core.refusal_for("acme", 2.0, arrived(999)) is None) == (left >= expected)
    assert left < expected, "a long answer is charged whole"


def test_a_request_larger_than_the_burst_passes_when_all_is_saved_up() -> None:
    bucket = TokenBucket(per_minute=60_000.0, burst=100.0, now_ms=0.0)
    assert bucket.wait_ms(5000.0, 0.0) == 0.0
    bucket.take(5000.0, 0.0)
    assert bucket.level(0.0) == -4900.0
    assert bucket.wait_ms(1.0, 0.0) == pytest.approx(4901.0)
    bucket.take(-10_000.0, 0.0)
    assert bucket.level(0.0) == 100.0, "never more than the burst"


def test_new_terms_hold_at_once_and_forget_nothing_that_was_used() -> None:
    core = core_with(TenantTerms("acme", tokens_per_minute=600.0, burst_tokens=400.0))
    accept(core, 1)
    assert refusal(core, 1.0).reason is RefusalReason.TENANT_TOKEN_RATE
    core.handle(TenantsChanged((TenantTerms("acme", weight=2.0, tokens_per_minute=600.0, burst_tokens=450.0),)), 1.0)
    assert core.terms("acme").weight == 2.0
    assert refusal(core, 1.0).reason is RefusalReason.TENANT_TOKEN_RATE
    core.handle(TenantsChanged(()), 2.0)
    assert core.refusal_for("acme", 2.0, arrived(999)) is None
    assert core.terms("acme") == TenantTerms("acme")


def test_terms_are_recorded_with_the_names_hidden_and_read_back() -> None:
    event = TenantsChanged((TenantTerms("acme", weight=2.5, max_in_flight=7), TenantTerms("bits")))
    value = codec.event_value(event, 5.0, lambda name: f"t-{len(name)}")
    assert "acme" not in repr(value)
    back, at_ms = codec.read_event(value)
    assert at_ms == 5.0
    assert back == TenantsChanged((replace(event.tenants[0], name="t-4"), TenantTerms("t-4")))
    assert codec.read_terms(codec.terms_value(event.tenants, str)) == event.tenants
