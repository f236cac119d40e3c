"""Tenants of a running scheduler: made, changed, limited, disabled, counted and written down, without a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from fairlead.client import (
    Accepted,
    Admin,
    AlreadyExists,
    AsyncClient,
    Conflict,
    FairleadError,
    Finished,
    InvalidRequest,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    Retry,
    Unauthenticated,
)
from fairlead.v1 import tenants_pb2, types_pb2
from tests.live.scheduler_suite import (
    Suite,
    check_whole,
    running_suite,
    until,
)

pytestmark = pytest.mark.live
LS, BE = types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE, types_pb2.SERVICE_CLASS_BEST_EFFORT
MANY = 3
"""Operators at once: each holds a thread of this process, and the scheduler, which is in it too, needs some."""
LONG: dict[str, Any] = {"max_tokens": 2000, "ignore_eos": True, "timeout_s": 60.0}


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Suite]:
    async with running_suite(tmp_path) as running:
        yield running


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Suite]:
    """A scheduler without workers."""
    async with running_suite(tmp_path, workers=0, predictor=None) as running:
        yield running


def tenant(name: str, **fields: Any) -> tenants_pb2.Tenant:
    return tenants_pb2.Tenant(name=name, **fields)


def client(suite: Suite, key: str) -> AsyncClient:
    return AsyncClient(suite.scheduler.address, key, retry=Retry(attempts=1))


async def test_a_tenant_lives_from_its_making_to_its_end(suite: Suite) -> None:
    slo = types_pb2.Slo(ttft_ms=700, tpot_ms=70)
    made = await suite.admin(Admin.create_tenant, tenant("new", default_class=LS, default_slo=slo, weight=2.0))
    async with client(suite, made.key) as asking:
        first = [event async for event in asking.generate("hello", max_tokens=9, ignore_eos=True)]
        accepted, finished = first[0], first[-1]
        assert isinstance(accepted, Accepted)
        assert isinstance(finished, Finished)
        assert (accepted.tenant, accepted.service_class, accepted.ttft_ms, accepted.tpot_ms) == ("new", "ls", 700, 70)

        rotated = await suite.admin(Admin.rotate_key, "new", overlap_s=0)
        with pytest.raises(Unauthenticated, match="was replaced and ended"):
            await asking.list_models()
    async with client(suite, rotated.key) as asking:
        streaming = asking.generate("hold on", **LONG)
        async with aclosing(streaming):
            await anext(streaming)
            disabled = await suite.admin(Admin.disable_tenant, "new")
            assert (disabled.live, disabled.cancelled, disabled.tenant.disabled) == (1, 0, True)
            with pytest.raises(PermissionDenied, match="fairlead tenants enable new"):
                await asking.complete("no")
            last = [event async for event in streaming][-1]
            assert isinstance(last, Finished)
            assert last.outcome is Outcome.LENGTH, "what was accepted goes on to its end"
        await suite.admin(Admin.enable_tenant, "new")
        stopping = asyncio.create_task(_last(asking.generate("stop me", **LONG)))
        await until(lambda: bool(suite.scheduler.shell.book.live), "the request")
        answer = await suite.admin(Admin.disable_tenant, "new", cancel_live=True)
        assert (answer.live, answer.cancelled) == (1, 1)
        assert (await stopping).outcome is Outcome.CANCELLED_BY_OPERATOR

    (usage,) = (await suite.admin(Admin.usage, "new")).usage
    assert [each.service_class for each in usage.classes] == [LS]
    assert (usage.classes[0].accepted, usage.classes[0].output_tokens > 2009) == (3, True)
    assert {each.outcome: each.requests for each in usage.classes[0].ended} == {
        types_pb2.OUTCOME_LENGTH: 2, types_pb2.OUTCOME_CANCELLED_BY_OPERATOR: 1,
    }  # fmt: skip
    written = [(each.action, each.actor) async for each in _audit(suite, "new")]
    assert written == [
        (action, "op") for action in ("DisableTenant", "EnableTenant", "DisableTenant", "RotateKey", "CreateTenant")
    ]


async def test_a_deleted_tenant_leaves_nothing_to_a_later_one_of_its_name(suite: Suite) -> None:
    made = await suite.admin(Admin.create_tenant, tenant("new"))
    async with client(suite, made.key) as asking:
        job = await asking.jobs.submit([{"prompt": "hello", "max_tokens": 3}], idempotency_key="nightly")
        assert len([result async for result in asking.jobs.results(job.job_id)]) == 1
        async with aclosing(asking.generate("hold on", request_id="mine", **LONG)) as streaming:
            await anext(streaming)
            with pytest.raises(FairleadError, match="fairlead tenants disable new"):
                await suite.admin(Admin.delete_tenant, "new")
            await suite.admin(Admin.disable_tenant, "new")
            with pytest.raises(FairleadError, match="1 requests of 'new' are live"):
                await suite.admin(Admin.delete_tenant, "new")
            await suite.admin(Admin.disable_tenant, "new", cancel_live=True)
            assert (await _last(streaming)).outcome is Outcome.CANCELLED_BY_OPERATOR
        assert await suite.admin(Admin.delete_tenant, "new") == 1
        with pytest.raises(Unauthenticated):
            await asking.list_models()
    later = await suite.admin(Admin.create_tenant, tenant("new"))
    async with client(suite, later.key) as asking:
        assert [each async for each in asking.jobs.list()] == []
        with pytest.raises(NotFound):
            _ = [event async for event in asking.attach("mine")]
    assert [each.action async for each in _audit(suite, "new")][:2] == ["CreateTenant", "DeleteTenant"]


async def _last(stream: Any) -> Finished:
    event = [event async for event in stream][-1]
    assert isinstance(event, Finished)
    return event


async def _audit(suite: Suite, name: str) -> AsyncIterator[tenants_pb2.AuditEntry]:
    for entry in await suite.admin(lambda admin: list(admin.audit_log(tenant=name))):
        yield entry


async def test_no_line_of_a_disabled_tenants_job_begins(tmp_path: Path) -> None:
    async with running_suite(tmp_path, jobs={"lines_in_flight": 1}) as suite:
        line = json.dumps({"prompt": "count", "max_tokens": 400, "ignore_eos": True}).encode()
        job = await suite.client("bob").jobs.submit(b"\n".join([line] * 3))
        await until(lambda: bool(suite.scheduler.shell.book.live), "the first line")
        assert (await suite.admin(Admin.disable_tenant, "bob")).live == 1
        (active,) = suite.scheduler._office.opened().jobs.values()
        await until(lambda: "bob' is disabled" in active.held_up_by, "the others to wait")
        assert not suite.scheduler.shell.book.live
        await suite.admin(Admin.enable_tenant, "bob")
        told = await suite.client("bob").jobs.get(job.job_id)
        assert dict(told.outcomes) == {Outcome.LENGTH: 1}, "what ran went on to its end, and nothing was lost"
        await suite.client("bob").jobs.cancel(job.job_id)


async def test_limits_hold_as_soon_as_they_are_set(suite: Suite) -> None:
    bob = suite.client("bob")
    async with aclosing(bob.generate("first", **LONG)) as stream:
        await anext(stream)
        await suite.admin(Admin.update_tenant, _limited("bob", max_in_flight=1), ["limits.max_in_flight"])
        with pytest.raises(Overloaded, match="in flight already, of at most 1") as caught:
            await bob.complete("second")
        assert (caught.value.reason, caught.value.retry_after_ms is not None) == ("TENANT_IN_FLIGHT", True)
        check_whole("others may", await suite.client().complete("others may", max_tokens=5))
        await suite.admin(Admin.update_tenant, tenant("bob"), ["limits"])
        check_whole("second", await bob.complete("second", max_tokens=5))
    await suite.admin(Admin.update_tenant, _limited("bob", tokens_per_minute=60.0), ["limits.tokens_per_minute"])
    with pytest.raises(Overloaded) as caught:
        for _ in range(100):
            await bob.complete("on and on", max_tokens=30, ignore_eos=True)
    assert (caught.value.reason, caught.value.retry_after_ms is not None) == ("TENANT_TOKEN_RATE", True)
    (usage,) = (await suite.admin(Admin.usage, "bob")).usage
    reasons = {types_pb2.RefusalReason.Name(each.reason): each.requests for each in usage.refusals}
    assert reasons == {"REFUSAL_REASON_TENANT_IN_FLIGHT": 1, "REFUSAL_REASON_TENANT_TOKEN_RATE": 1}


def _limited(name: str, **limits: Any) -> tenants_pb2.Tenant:
    return tenant(name, limits=tenants_pb2.TenantLimits(**limits))


async def test_an_ls_claim_beyond_its_right_is_clamped_and_counted(suite: Suite) -> None:
    """Bob may be best effort alone."""
    accepted = await anext(suite.client("bob").generate("urgent", service_class="ls", max_tokens=5))
    assert isinstance(accepted, Accepted)
    assert accepted.service_class == "be"
    await suite.client("bob").complete("modest", service_class="be", max_tokens=5)
    (usage,) = (await suite.admin(Admin.usage, "bob")).usage
    assert usage.clamped == 1
    assert [each.service_class for each in usage.classes] == [BE]


HOSTILE = ["", "A", "a b", "../../etc", "a" * 64, "a\x00b", "a\n", "\u00e4", "-a", "{}", "'; drop table usage; --"]


async def test_hostile_names_and_fields_are_refused_by_name(bare: Suite) -> None:
    for name in HOSTILE:
        for call in (
            lambda admin, name=name: admin.create_tenant(tenant(name)),
            lambda admin, name=name: admin.update_tenant(tenant(name, weight=1.0), ["weight"]),
            lambda admin, name=name: admin.disable_tenant(name),
            lambda admin, name=name: admin.enable_tenant(name),
            lambda admin, name=name: admin.rotate_key(name),
        ):
            with pytest.raises(InvalidRequest, match="name: must have 1 to 63"):
                await bare.admin(call)
        for call in (
            lambda admin, name=name: admin.tenant(name),
            lambda admin, name=name: admin.usage(name or "nobody"),
        ):
            with pytest.raises(NotFound, match="there is no tenant"):
                await bare.admin(call)
    bad: list[tuple[str, dict[str, Any]]] = [
        ("weight", {"weight": 0.0}),
        ("tenant.weight", {"weight": float("nan")}),
        ("weight", {"weight": 1e9}),
        ("tenant.classes", {"classes": [9]}),
        ("default_class", {"classes": [BE], "default_class": LS}),
        ("max_in_flight", {"limits": tenants_pb2.TenantLimits(max_in_flight=0)}),
        ("tenant.limits.tokens_per_minute", {"limits": tenants_pb2.TenantLimits(tokens_per_minute=float("inf"))}),
        ("ttft_ms", {"default_slo": types_pb2.Slo(ttft_ms=-1)}),
        ("certificate_names", {"certificate_names": [""]}),
        ("certificate_names", {"certificate_names": ["x"] * 17}),
    ]
    for field, fields in bad:
        with pytest.raises(InvalidRequest, match=field):
            await bare.admin(Admin.create_tenant, tenant("new", **fields))
    for sha256 in ("", "x" * 64, "A" * 64, "0" * 63):
        with pytest.raises(InvalidRequest, match="key_sha256"):
            await bare.admin(Admin.create_tenant, tenant("new"), key_sha256=sha256)
    with pytest.raises(InvalidRequest, match="certificate_names"):
        await bare.admin(Admin.create_tenant, tenant("new"), without_key=True)
    for overlap_s in (-1.0, float("nan"), float("inf"), 1e12):
        with pytest.raises(InvalidRequest, match="overlap_s"):
            await bare.admin(Admin.rotate_key, "bob", overlap_s=overlap_s)
    assert [each.name for each in await bare.admin(lambda admin: list(admin.tenants()))] == ["alice", "bob", "op"]
    assert [each async for each in _audit(bare, "")] == [], "what was refused was not made"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ([], "must name at least one field"),
        (["name"], "'name' can't be changed"),
        (["disabled"], "can't be changed"),
        (["etag"], "can't be changed"),
        (["*"], "can't be changed"),
        (["limits.max_inflight"], "limits has max_in_flight"),
        (["limits.max_in_flight.x"], "limits has max_in_flight"),
        (["keys"], "can't be changed"),
        (["weight", "x" * 5000], "can't be changed"),
    ],
)
async def test_a_field_mask_names_what_may_change(bare: Suite, fields: list[str], says: str) -> None:
    with pytest.raises(InvalidRequest, match="update_mask") as caught:
        await bare.admin(Admin.update_tenant, tenant("bob", weight=2.0), fields)
    assert says in caught.value.message
    assert len(caught.value.message) < 500
    assert (await bare.admin(Admin.tenant, "bob")).weight == 1.0


async def test_only_what_the_mask_names_changes(bare: Suite) -> None:
    before = await bare.admin(Admin.tenant, "bob")
    limits = tenants_pb2.TenantLimits(max_in_flight=5, max_queued_requests=6)
    given = tenant("bob", weight=9.0, is_operator=True, limits=limits, default_slo=types_pb2.Slo(ttft_ms=5))
    changed = await bare.admin(Admin.update_tenant, given, ["limits.max_queued_requests", "weight"])
    assert (changed.weight, changed.is_operator, changed.limits) == (
        9.0, False, tenants_pb2.TenantLimits(max_queued_requests=6),
    )  # fmt: skip
    assert not changed.default_slo.HasField("ttft_ms")
    assert changed.etag != before.etag
    with pytest.raises(Conflict, match="read it again"):
        await bare.admin(Admin.update_tenant, given, ["weight"], etag=before.etag)
    back = await bare.admin(Admin.update_tenant, tenant("bob"), ["limits", "weight"], etag=changed.etag)
    assert (back.weight, back.limits) == (1.0, tenants_pb2.TenantLimits())


async def test_of_many_operators_at_once_each_change_is_made_or_refused(bare: Suite) -> None:
    etag = (await bare.admin(Admin.tenant, "bob")).etag
    answers = await asyncio.gather(
        *(
            bare.admin(Admin.update_tenant, tenant("bob", weight=1.5 + each), ["weight"], etag=etag)
            for each in range(MANY)
        ),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in answers) == ["Conflict"] * (MANY - 1) + ["Tenant"]
    made = await asyncio.gather(
        *(bare.admin(Admin.create_tenant, tenant("same")) for _ in range(MANY)), return_exceptions=True
    )
    assert sum(isinstance(each, AlreadyExists) for each in made) == MANY - 1


async def test_lists_come_in_pages(bare: Suite) -> None:
    def make(admin: Admin) -> None:
        for index in range(25):
            admin.create_tenant(tenant(f"t{index:02}"))

    def pages(admin: Any) -> list[list[str]]:
        found, token = [], ""
        while True:
            message = tenants_pb2.ListTenantsRequest(page_size=10, page_token=token)
            page = admin._asked(admin._stub.ListTenants, message)
            found.append([each.name for each in page.tenants])
            token = page.next_page_token
            if not token:
                return found

    await bare.admin(make)
    expected = sorted(["alice", "bob", "op", *(f"t{index:02}" for index in range(25))])
    found = await bare.admin(pages)
    assert [len(page) for page in found] == [10, 10, 8]
    assert [name for page in found for name in page] == expected
    assert [each.tenant for each in (await bare.admin(Admin.usage)).usage] == expected
    entries = await bare.admin(lambda admin: list(admin.audit_log()))
    assert [each.sequence for each in entries] == list(range(25, 0, -1))
    with pytest.raises(InvalidRequest, match="page_size"):
        await bare.admin(
            lambda admin: admin._asked(admin._stub.ListTenants, tenants_pb2.ListTenantsRequest(page_size=1001))
        )
    for call in ("ListTenants", "ListAuditLog", "ExportUsage"):
        message = getattr(tenants_pb2, f"{call}Request")(page_token="'; --")
        with pytest.raises(InvalidRequest, match="page_token"):
            await bare.admin(
                lambda admin, call=call, message=message: admin._asked(getattr(admin._stub, call), message)
            )


async def test_the_policy_and_the_drain_are_written_down_too(bare: Suite) -> None:
    await bare.admin(Admin.set_policy, "fcfs")
    (entry,) = [each async for each in _audit(bare, "")]
    assert (entry.action, entry.actor, entry.peer.startswith("ipv4:127.0.0.1")) == ("SetPolicy", "op", True)
    assert json.loads(entry.changes["policy"]) == ["slo", "fcfs"]


async def test_usage_is_kept_over_a_restart(tmp_path: Path) -> None:
    for round_ in (1, 2):
        async with running_suite(tmp_path) as suite:
            answer = await suite.client("bob").complete("count me", max_tokens=10, ignore_eos=True)
            assert answer.usage.output_tokens == 10
            (usage,) = (await suite.admin(Admin.usage, "bob")).usage
            (of_class,) = usage.classes
            assert (of_class.accepted, of_class.output_tokens, of_class.input_tokens) == (
                round_,
                10 * round_,
                2 * round_,
            )


async def test_errors_of_tenants_are_typed(bare: Suite) -> None:
    with pytest.raises(FairleadError) as caught:
        await bare.admin(Admin.disable_tenant, "op")
    assert (caught.value.reason, "another operator" in caught.value.message) == ("LAST_OPERATOR", True)
