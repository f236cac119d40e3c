"""I8: one tenant cannot read, cancel, attach to or count another's requests by any RPC; a stolen id is not enough.

Every RPC of the services that tenants use has a case here, and every RPC of the admin service is tried by who may not:
both lists come from the contract, so that a new RPC without a case fails.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

import fairlead.v1
from fairlead.client import Admin, Delta, Finished, NotFound, Outcome, PermissionDenied
from fairlead.rpc import make_channel, read_details
from fairlead.v1 import admin_pb2, inference_pb2, jobs_pb2, jobs_pb2_grpc, types_pb2
from tests.live.scheduler_suite import Suite, check_whole, expected, running_suite, until

pytestmark = pytest.mark.live
CODE = grpc.StatusCode
ID = "r-stolen"
PROMPT = "what only alice may know"
BETWEEN_SERVICES = {"fairlead.v1.WorkerService", "fairlead.v1.PredictorService"}
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


def tenant_facing() -> dict[str, MethodDescriptor]:
    """Every RPC of every service of the contract that tenants reach, by `Service/Method`."""
    found: dict[str, MethodDescriptor] = {}
    for module in pkgutil.iter_modules(fairlead.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        described: Any = importlib.import_module(f"fairlead.v1.{module.name}").DESCRIPTOR
        for service in described.services_by_name.values():
            if service.full_name not in {*BETWEEN_SERVICES, ADMIN.full_name}:
                found |= {f"{service.name}/{method.name}": method for method in service.methods}
    return found


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Suite]:
    async with running_suite(tmp_path) as running:
        yield running


def of(key: str) -> Any:
    return (("authorization", f"Bearer {key}"),)


async def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """(code, reason, message without the id and the name) of a call that must not succeed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    text = (caught.value.details() or "").replace(ID, "ID").replace("r-never", "ID")
    return caught.value.code(), read_details(caught.value).reason, text


# -- one case for each RPC. Alice has a live request `ID`; bob knows its id and all that was asked.


async def generate(suite: Suite, stub: Any) -> None:
    """The same id and content under another key is another request, and tells nothing of the first."""
    sampling = types_pb2.SamplingParams(max_tokens=3, ignore_eos=True)
    request = inference_pb2.GenerateRequest(request_id=ID, text="bob's own", sampling=sampling)
    told = [event async for event in stub.Generate(request, metadata=of("bob-key"))]
    assert told[0].accepted.tenant == "bob"
    assert "".join(event.delta.text for event in told[1:-1]) == expected("bob's own", 3)
    copied = inference_pb2.GenerateRequest(
        request_id=f"{ID}-2", text=PROMPT, sampling=sampling, received_token_ids=[1, 2]
    )
    told = [event async for event in stub.Generate(copied, metadata=of("bob-key"))]
    assert (told[0].accepted.tenant, told[-1].finished.usage.output_tokens) == ("bob", 3)
    assert suite.scheduler.shell.book.find(("alice", f"{ID}-2")) is None


async def attach(suite: Suite, stub: Any) -> None:  # noqa: ARG001
    for from_token in (0, 1, 10_000):
        known = await refused(
            stub.Attach(inference_pb2.AttachRequest(request_id=ID, from_token=from_token), metadata=of("bob-key"))
        )
        never = await refused(
            stub.Attach(
                inference_pb2.AttachRequest(request_id="r-never", from_token=from_token), metadata=of("bob-key")
            )
        )
        assert known == never, "whether the id exists can't be told apart"
        assert known[:2] == (CODE.NOT_FOUND, "UNKNOWN_REQUEST")


async def cancel(suite: Suite, stub: Any) -> None:
    known = await refused(stub.Cancel(inference_pb2.CancelRequest(request_id=ID), metadata=of("bob-key")))
    never = await refused(stub.Cancel(inference_pb2.CancelRequest(request_id="r-never"), metadata=of("bob-key")))
    assert known == never
    assert known[:2] == (CODE.NOT_FOUND, "UNKNOWN_REQUEST")
    live = suite.scheduler.shell.book.find(("alice", ID))
    assert live is not None
    assert live.finished is None


async def list_models(suite: Suite, stub: Any) -> None:  # noqa: ARG001
    """What is told of models has nothing in it that requests of others would change."""
    message = inference_pb2.ListModelsRequest()
    alice, bob = [await stub.ListModels(message, metadata=of(key)) for key in ("alice-key", "bob-key")]
    assert alice == bob
    assert {field.name for field in inference_pb2.ModelInfo.DESCRIPTOR.fields} == {
        "model", "max_context_tokens", "workers",
    }  # fmt: skip


LINES = b'{"prompt": "what only alice may know", "max_tokens": 3}\n' * 3


def of_a_job(method: str) -> Callable[[Suite, Any], Awaitable[None]]:
    """Another tenant's job is as unknown as one that never was, and stays as it is."""

    async def case(suite: Suite, stub: Any) -> None:  # noqa: ARG001
        job = await suite.client().jobs.submit(LINES)
        request_class: Any = getattr(jobs_pb2, f"{method}Request")
        async with make_channel(suite.scheduler.address) as channel:
            call = getattr(jobs_pb2_grpc.JobServiceStub(channel), method)
            known = await refused(call(request_class(job_id=job.job_id), metadata=of("bob-key")))
            never = await refused(call(request_class(job_id=never_was(job.job_id)), metadata=of("bob-key")))
        assert known[:2] == never[:2] == (CODE.NOT_FOUND, "UNKNOWN_JOB")
        assert known[2].replace(job.job_id, "") == never[2].replace(never_was(job.job_id), "")
        results = [result async for result in suite.client().jobs.results(job.job_id)]
        assert [result.usage.output_tokens for result in results] == [3, 3, 3]

    return case


def never_was(job_id: str) -> str:
    """An id of the same form."""
    return job_id[:-4] + ("0000" if job_id[-4:] != "0000" else "1111")


async def submit_job(suite: Suite, stub: Any) -> None:  # noqa: ARG001
    """One idempotency key is two keys for two tenants."""
    alice = await suite.client().jobs.submit(LINES, idempotency_key="nightly")
    bob = await suite.client("bob").jobs.submit(LINES, idempotency_key="nightly")
    assert alice.job_id != bob.job_id
    other = await suite.client("bob").jobs.submit(LINES + LINES, idempotency_key="weekly")
    again = await suite.client().jobs.submit(LINES, idempotency_key="weekly")
    assert other.job_id != again.job_id, "and no ALREADY_EXISTS tells of the other's"


async def list_jobs(suite: Suite, stub: Any) -> None:  # noqa: ARG001
    alice = await suite.client().jobs.submit(LINES)
    assert [job async for job in suite.client("bob").jobs.list()] == []
    bob = await suite.client("bob").jobs.submit(LINES)
    assert [job.job_id async for job in suite.client("bob").jobs.list()] == [bob.job_id]
    assert [job.job_id async for job in suite.client().jobs.list()] == [alice.job_id]


CASES: dict[str, Callable[[Suite, Any], Awaitable[None]]] = {
    "InferenceService/Generate": generate,
    "InferenceService/Attach": attach,
    "InferenceService/Cancel": cancel,
    "InferenceService/ListModels": list_models,
    "JobService/SubmitJob": submit_job,
    "JobService/ListJobs": list_jobs,
    **{
        f"JobService/{method}": of_a_job(method)
        for method in ("GetJob", "WatchJob", "CancelJob", "FetchResults", "StreamResults", "DeleteJob")
    },
}


def test_every_rpc_that_tenants_reach_has_a_case() -> None:
    missing = set(tenant_facing()) - set(CASES)
    assert not missing, f"write a case of isolation for {missing} in {Path(__file__).name}"
    assert set(CASES) == set(tenant_facing())


@pytest.mark.parametrize("rpc", CASES)
async def test_another_tenants_request_is_out_of_reach(suite: Suite, rpc: str) -> None:
    long: dict[str, Any] = {"max_tokens": 700, "ignore_eos": True, "timeout_s": 60.0}
    alice = asyncio.create_task(suite.client().complete(PROMPT, request_id=ID, **long))
    await until(lambda: suite.scheduler.shell.book.find(("alice", ID)) is not None, "alice's request")
    async with suite.stub() as stub:
        await CASES[rpc](suite, stub)
    answer = await alice
    check_whole(PROMPT, answer)
    assert (answer.outcome, answer.usage.output_tokens) == (Outcome.LENGTH, 700), "and alice noticed nothing"


async def test_without_a_key_no_rpc_says_anything(suite: Suite) -> None:
    async with aclosing(suite.client().generate(PROMPT, request_id=ID, max_tokens=3000, ignore_eos=True)) as stream:
        await anext(stream)
        for rpc, method in tenant_facing().items():
            for metadata in ((), of("wrong"), of(""), of("alice")):
                code, reason, text = await called(suite, method, metadata, {"request_id": ID, "text": PROMPT})
                assert (code, reason) == (CODE.UNAUTHENTICATED, "UNAUTHENTICATED"), rpc
                assert ID not in text


async def test_an_operator_is_no_tenant_of_others_either(suite: Suite) -> None:
    """Operators see what runs, never what was asked or answered, and hold no other tenant's requests."""
    client = suite.client("op")
    async with aclosing(suite.client().generate(PROMPT, request_id=ID, max_tokens=500, ignore_eos=True)) as stream:
        await anext(stream)
        with pytest.raises(NotFound):
            await client.cancel(ID)
        with pytest.raises(NotFound):
            _ = [event async for event in client.attach(ID)]
        told = await suite.admin(Admin.why, ID)
        listed = await suite.admin(Admin.requests)
        assert told.request.tenant == "alice"
        assert "only alice" not in str(told) + str(listed)


async def test_ids_are_counted_for_each_tenant_alone(suite: Suite) -> None:
    """Two tenants use one id at once; each gets its own answer, and cancelling one leaves the other."""
    long: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True, "request_id": ID}
    alice = asyncio.create_task(suite.client().complete(PROMPT, **long))
    await until(lambda: suite.scheduler.shell.book.find(("alice", ID)) is not None, "alice's request")
    async with aclosing(suite.client("bob").generate("bob's own", **long)) as stream:
        await anext(stream)
        assert isinstance(await anext(stream), Delta)
        assert await suite.client("bob").cancel(ID)
        last = [event async for event in stream][-1]
        assert isinstance(last, Finished)
        assert last.outcome is Outcome.CANCELLED_BY_CLIENT
    check_whole(PROMPT, await alice)


# -- the admin service


async def called(
    suite: Suite, method: MethodDescriptor, metadata: Any, fields: dict[str, str] | None = None
) -> tuple[grpc.StatusCode, str, str]:
    """Calls a method as the contract describes it, with those of `fields` that its request has."""
    request_class = message_factory.GetMessageClass(method.input_type)
    request = request_class()
    for name, value in (fields or {}).items():
        if name in method.input_type.fields_by_name:
            setattr(request, name, value)
    path = f"/{method.containing_service.full_name}/{method.name}"
    async with make_channel(suite.scheduler.address) as channel:
        kinds = {
            (False, False): channel.unary_unary, (False, True): channel.unary_stream,
            (True, False): channel.stream_unary, (True, True): channel.stream_stream,
        }  # fmt: skip
        make: Any = kinds[method.client_streaming, method.server_streaming]
        call = make(
            path,
            request_serializer=request_class.SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return await refused(call(iter([request]) if method.client_streaming else request, metadata=metadata))


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Suite]:
    """A scheduler without workers."""
    async with running_suite(tmp_path, workers=0, predictor=None) as running:
        yield running


async def test_no_tenant_may_use_any_admin_rpc(bare: Suite) -> None:
    for method in ADMIN.methods:
        for key in ("alice-key", "bob-key"):
            code, reason, _ = await called(bare, method, of(key), {"name": "bob", "request_id": ID})
            assert (code, reason) == (CODE.PERMISSION_DENIED, "NOT_OPERATOR"), method.name
        for metadata in ((), of("wrong"), (("x-tenant", "op"),)):
            code, reason, _ = await called(bare, method, metadata)
            assert (code, reason) == (CODE.UNAUTHENTICATED, "UNAUTHENTICATED"), method.name


async def test_a_disabled_operator_may_use_none_either(bare: Suite) -> None:
    made = await bare.admin(Admin.create_tenant, _tenant("second", is_operator=True))
    await bare.admin(Admin.tenant, "bob", key=made.key)
    await bare.admin(Admin.disable_tenant, "second")
    for method in ADMIN.methods:
        code, reason, _ = await called(bare, method, of(made.key))
        assert (code, reason) == (CODE.PERMISSION_DENIED, "TENANT_DISABLED"), method.name


async def test_a_tenant_cannot_promote_itself(bare: Suite) -> None:
    """Neither by the admin service nor by what it asks for."""
    for call in (
        lambda admin: admin.update_tenant(_tenant("bob", is_operator=True), ["is_operator"]),
        lambda admin: admin.create_tenant(_tenant("bobs-friend", is_operator=True)),
        lambda admin: admin.rotate_key("op"),
    ):
        with pytest.raises(PermissionDenied):
            await bare.admin(call, key="bob-key")
    assert not (await bare.admin(Admin.tenant, "bob")).is_operator


def _tenant(name: str, **fields: Any) -> Any:
    from fairlead.v1 import tenants_pb2

    return tenants_pb2.Tenant(name=name, **fields)
