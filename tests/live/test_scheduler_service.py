"""Clients against a real scheduler with real workers: answers, refusals, streams, cancellation, drain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairlead.client import (
    Accepted,
    Admin,
    AlreadyExists,
    AsyncClient,
    ChatMessage,
    Completion,
    Delta,
    Event,
    FairleadError,
    Finished,
    InvalidRequest,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    RequestFailed,
    Retry,
    Unauthenticated,
    Unavailable,
)
from fairlead.rpc import make_channel, read_details
from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.service import SERVICE
from tests.live.scheduler_suite import (
    Suite,
    check_whole,
    expected,
    running_suite,
    until,
    worker_config,
)

pytestmark = pytest.mark.live
CODE = grpc.StatusCode
KEY = (("authorization", "Bearer alice-key"),)
LONG: dict[str, Any] = {"max_tokens": 1000, "ignore_eos": True, "timeout_s": 60.0}


@pytest.fixture
async def suite(tmp_path: Path) -> AsyncIterator[Suite]:
    async with running_suite(tmp_path) as running:
        yield running


async def events(stream: Any) -> list[Event]:
    return [event async for event in stream]


async def first_delta(stream: Any) -> tuple[Accepted, Delta]:
    accepted = await anext(stream)
    delta = await anext(stream)
    assert isinstance(accepted, Accepted)
    assert isinstance(delta, Delta)
    return accepted, delta


async def test_an_answer_is_accepted_streamed_and_finished(suite: Suite) -> None:
    accepted, *deltas, finished = await events(
        suite.client().generate("one two three", max_tokens=40, ignore_eos=True, ttft_ms=700)
    )
    assert isinstance(accepted, Accepted)
    assert (accepted.model, accepted.tenant, accepted.prompt_tokens, accepted.max_tokens) == ("demo", "alice", 3, 40)
    assert (accepted.service_class, accepted.ttft_ms, accepted.tpot_ms) == ("ls", 700, 50)
    assert accepted.continuable
    assert isinstance(finished, Finished)
    assert finished.outcome is Outcome.LENGTH
    assert (finished.usage.prompt_tokens, finished.usage.output_tokens) == (3, 40)
    decision = finished.decision
    assert (decision.policy, decision.attempts, decision.predictor) == ("slo", 1, "history")
    assert decision.ttft_ms is not None and decision.ttft_ms >= decision.queue_ms >= 0
    assert decision.predicted_p90_tokens is not None
    assert len(deltas) > 1, "never one cumulative message"
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == expected("one two three", 40)
    await suite.all_free()


async def test_messages_and_token_ids_are_prompts_too(suite: Suite) -> None:
    client = suite.client()
    chat = await client.complete([ChatMessage("user", "hello there")], max_tokens=5)
    assert chat.text == expected("<user> hello there\n<assistant>", chat.usage.output_tokens)
    by_ids = await client.complete([1, 2, 3], max_tokens=5, return_token_ids=True)
    assert len(by_ids.token_ids) == by_ids.usage.output_tokens


async def test_many_at_once_each_get_their_own_answer(suite: Suite) -> None:
    prompts = [f"prompt number {index}" for index in range(60)]
    classes = ["ls" if index % 2 else "be" for index in range(60)]
    answers = await asyncio.gather(
        *(
            suite.client().complete(prompt, service_class=chosen)  # type: ignore[arg-type]
            for prompt, chosen in zip(prompts, classes, strict=True)
        )
    )
    for prompt, answer in zip(prompts, answers, strict=True):
        check_whole(prompt, answer)
    await suite.all_free()
    status = await suite.status()
    assert sum(count.count for item in status.classes for count in item.outcomes) == 60
    assert sum(item.output_tokens for item in status.classes) == sum(one.usage.output_tokens for one in answers)


BAD: list[tuple[str, dict[str, Any], type[FairleadError], str]] = [
    ("hello", {"model": "gpt-9"}, NotFound, "served now: demo"),
    ("", {}, InvalidRequest, "text: the prompt is empty"),
    (" ".join(["word"] * 4096), {}, InvalidRequest, "context of 4096"),
    ("hello", {"temperature": math.nan}, InvalidRequest, "sampling.temperature"),
    ("hello", {"temperature": -1.0}, InvalidRequest, "sampling.temperature"),
    ("hello", {"top_p": 1.5}, InvalidRequest, "sampling.top_p"),
    ("hello", {"ttft_ms": 0.0}, InvalidRequest, "slo.ttft_ms"),
    ("hello", {"stop": [""]}, InvalidRequest, "sampling.stop[0]"),
    ("hello", {"request_id": "bad\nid"}, InvalidRequest, "request_id"),
    ("hello", {"length_hint_tokens": 9}, PermissionDenied, "length_hint_tokens"),
    ("x" * 1_000_001, {}, InvalidRequest, "scheduler.max_prompt_bytes"),
    ("x" * 10_000_000, {}, Overloaded, "larger than max"),
    ([ChatMessage("pope", "hello")], {}, InvalidRequest, "messages[0].role"),  # type: ignore[list-item]
    ([4_000_000], {}, InvalidRequest, "vocabulary"),  # type: ignore[list-item]
]


async def test_bad_input_gets_its_typed_status_and_disturbs_nobody(suite: Suite) -> None:
    good = asyncio.create_task(suite.client("bob").complete("undisturbed", **LONG))
    await until(lambda: bool(suite.scheduler.shell.book.live), "the good request")
    for prompt, options, kind, says in BAD:
        with pytest.raises(kind) as caught:
            await suite.client().complete(prompt, **options)
        assert says in caught.value.message, caught.value.message
        if kind is InvalidRequest:
            assert caught.value.reason == "INVALID_FIELD"
            assert caught.value.fields
        assert caught.value.retry_after_ms is None, "it would never pass"
    async with AsyncClient(suite.scheduler.address, "wrong", retry=Retry(attempts=1)) as stranger:
        with pytest.raises(Unauthenticated, match="authorization: Bearer KEY"):
            await stranger.complete("hello")
        with pytest.raises(Unauthenticated):
            await stranger.list_models()
    with pytest.raises(InvalidRequest, match=r"known: .*fcfs, .*isrtf, .*slo"):
        await suite.admin(Admin.set_policy, "best")
    check_whole("undisturbed", await good)
    assert len(suite.scheduler.shell.book.preparing) == 0
    assert {item.tenant for item in (await suite.status()).classes} == {"bob"}, "nothing of the rest was accepted"


async def test_plain_headers_and_the_body_name_nobody(suite: Suite) -> None:
    async with suite.stub() as stub:
        call = stub.Generate(
            inference_pb2.GenerateRequest(text="x"), metadata=(("x-tenant", "alice"), ("tenant", "alice"))
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is CODE.UNAUTHENTICATED
    assert read_details(caught.value).reason == "UNAUTHENTICATED"


async def test_one_id_is_one_request(suite: Suite) -> None:
    client = suite.client()
    first = asyncio.create_task(client.complete("same", request_id="r1", max_tokens=300, ignore_eos=True))
    again = asyncio.create_task(client.complete("same", request_id="r1", max_tokens=300, ignore_eos=True))
    one, two = await asyncio.gather(first, again)
    assert one.text == two.text == expected("same", 300)
    with pytest.raises(AlreadyExists, match="choose a new id"):
        await client.complete("other", request_id="r1")
    after = await client.complete("same", request_id="r1", max_tokens=300, ignore_eos=True)
    assert after.text == one.text, "an ended request can still be asked for"
    assert [item.accepted for item in (await suite.status()).classes] == [1]
    other_tenant = await suite.client("op").complete("other", request_id="r1", max_tokens=3)
    check_whole("other", other_tenant)


async def test_another_tenants_request_is_unknown(suite: Suite) -> None:
    async with aclosing(suite.client().generate("mine", request_id="secret", **LONG)) as stream:
        await first_delta(stream)
        with pytest.raises(NotFound):
            await suite.client("bob").cancel("secret")
        with pytest.raises(NotFound):
            await events(suite.client("bob").attach("secret"))
        assert suite.scheduler.shell.book.find(("alice", "secret")) is not None


async def test_attaching_from_any_token_has_neither_gap_nor_repeat(suite: Suite) -> None:
    client = suite.client()
    whole = expected("attach to me", 400)
    options: dict[str, Any] = {"request_id": "a", "max_tokens": 400, "ignore_eos": True, "return_token_ids": True}
    running = asyncio.create_task(events(client.generate("attach to me", **options)))
    await until(lambda: _out(suite, "a") > 50, "some tokens")
    late = [await events(client.attach("a", from_token)) for from_token in (0, 1, 17, 50)]
    first = [event for event in await running if isinstance(event, Delta)]
    ids = [token for delta in first for token in delta.token_ids]
    for from_token, told in zip((0, 1, 17, 50), late, strict=True):
        assert isinstance(told[-1], Finished)
        assert told[-1].outcome is Outcome.LENGTH
        deltas = [event for event in told if isinstance(event, Delta)]
        assert deltas[0].first_token == from_token
        assert [token for delta in deltas for token in delta.token_ids] == ids[from_token:]
    seen = ""
    for delta in first[:20]:  # from wherever a client stopped
        seen += delta.text
        end = delta.first_token + delta.token_count
        rest = "".join(event.text for event in await events(client.attach("a", end)) if isinstance(event, Delta))
        assert seen + rest == whole
    with pytest.raises(InvalidRequest, match="from_token: must be 0 to 400"):
        await events(client.attach("a", 401))
    with pytest.raises(NotFound, match="no request 'b'"):
        await events(client.attach("b"))


def _out(suite: Suite, request_id: str, tenant: str = "alice") -> int:
    request = suite.scheduler.shell.book.find((tenant, request_id))
    return len(request.answer) if request is not None else 0


async def test_a_bounded_number_of_clients_reads_one_request(suite: Suite) -> None:
    client = suite.client()
    readers = [asyncio.create_task(events(client.generate("shared", request_id="s", **LONG))) for _ in range(8)]
    await until(lambda: _streams(suite, "s") == 8, "eight streams")
    with pytest.raises(Overloaded, match="8 streams"):
        await events(client.attach("s"))
    assert await client.cancel("s")
    for told in await asyncio.gather(*readers):
        assert isinstance(told[-1], Finished)
        assert told[-1].outcome is Outcome.CANCELLED_BY_CLIENT


def _streams(suite: Suite, request_id: str) -> int:
    request = suite.scheduler.shell.book.find(("alice", request_id))
    return len(request.streams) if request is not None else 0


async def test_a_cancellation_reaches_the_engine_and_is_told_once(suite: Suite) -> None:
    client = suite.client()
    async with aclosing(client.generate("stop me", request_id="c", **LONG)) as stream:
        await first_delta(stream)
        assert await client.cancel("c") is True
        last = (await events(stream))[-1]
        assert isinstance(last, Finished)
        assert last.outcome is Outcome.CANCELLED_BY_CLIENT
        assert last.detail
        assert 0 < last.usage.output_tokens < 1000
    await suite.all_free()
    assert await client.cancel("c") is False, "idempotent"
    with pytest.raises(NotFound):
        await client.cancel("unknown")


async def test_a_client_that_goes_is_a_cancellation(suite: Suite) -> None:
    async with suite.stub() as stub:
        call = stub.Generate(_long("gone"), metadata=KEY)
        await call.read()
        await call.read()
        call.cancel()
    await until(lambda: _outcome(suite, "gone") == types_pb2.OUTCOME_CANCELLED_BY_CLIENT, "the outcome")
    await suite.all_free()


async def test_a_client_that_comes_back_within_its_grace_finds_its_answer(suite: Suite) -> None:
    async with suite.stub() as stub:
        call = stub.Generate(_long("back", grace_ms=60_000), metadata=KEY)
        await call.read()
        first = (await call.read()).delta
        call.cancel()
        await until(lambda: _streams_gone(suite, "back"), "the break")
    _, *deltas, finished = await events(suite.client().attach("back", first.token_count))
    assert isinstance(finished, Finished)
    assert finished.outcome is Outcome.LENGTH
    text = first.text + "".join(delta.text for delta in deltas if isinstance(delta, Delta))
    assert text == expected("gone or back", 1000)


async def test_a_grace_that_passes_ends_the_request(suite: Suite) -> None:
    async with suite.stub() as stub:
        call = stub.Generate(_long("late", grace_ms=50), metadata=KEY)
        await call.read()
        call.cancel()
    await until(lambda: _outcome(suite, "late") == types_pb2.OUTCOME_CANCELLED_BY_CLIENT, "the outcome")


def _long(request_id: str, grace_ms: int = 0) -> inference_pb2.GenerateRequest:
    sampling = types_pb2.SamplingParams(max_tokens=1000, ignore_eos=True)
    return inference_pb2.GenerateRequest(
        request_id=request_id, text="gone or back", sampling=sampling, resume_grace_ms=grace_ms
    )


def _outcome(suite: Suite, request_id: str) -> int:
    request = suite.scheduler.shell.book.find(("alice", request_id))
    return request.finished.outcome if request is not None and request.finished is not None else 0


def _streams_gone(suite: Suite, request_id: str) -> bool:
    request = suite.scheduler.shell.book.find(("alice", request_id))
    return request is not None and not request.streams


async def test_the_deadline_of_the_call_is_that_of_the_request(suite: Suite) -> None:
    async with suite.stub() as stub:
        call = stub.Generate(_long("short"), metadata=KEY, timeout=0.4)
        try:
            told = [event async for event in call][-1]
            assert told.finished.outcome == types_pb2.OUTCOME_EXPIRED
        except grpc.aio.AioRpcError as error:  # the transport's clock may be the first
            assert error.code() is CODE.DEADLINE_EXCEEDED
    await until(lambda: _outcome(suite, "short") == types_pb2.OUTCOME_EXPIRED, "the outcome")
    await suite.all_free()


async def test_no_request_lives_longer_than_the_maximum(tmp_path: Path) -> None:
    async with running_suite(tmp_path, max_lifetime_s=0.3) as suite:
        with pytest.raises(RequestFailed) as caught:
            await suite.client().complete("for ever", **LONG)
        assert caught.value.completion.outcome is Outcome.EXPIRED
        await suite.all_free()


async def test_a_client_that_does_not_read_is_cut_and_others_go_on(tmp_path: Path) -> None:
    worker = worker_config(simulated_step_ms=(0.1, 0.0, 0.0, 0.0), max_context_tokens=60_000, kv_blocks=8000)
    async with running_suite(tmp_path, workers=[worker], max_buffered_tokens=64) as suite:
        async with suite.stub() as stub:
            many = types_pb2.SamplingParams(max_tokens=50_000, ignore_eos=True)
            request = inference_pb2.GenerateRequest(request_id="slow", text="x", sampling=many, return_token_ids=True)
            call = stub.Generate(request, metadata=KEY)
            await call.read()
            other = asyncio.create_task(suite.client("bob").complete("quick"))
            await until(lambda: _outcome(suite, "slow") == types_pb2.OUTCOME_SLOW_READER, "the cut")
            check_whole("quick", await other)
            while (response := await call.read()).WhichOneof("event") != "finished":
                pass  # what was sent is still there, and the outcome after it
            assert response.finished.outcome == types_pb2.OUTCOME_SLOW_READER
        await suite.all_free()


async def test_a_full_queue_is_a_typed_refusal_with_a_delay(tmp_path: Path) -> None:
    worker = worker_config(slots=1, step_seats=1)
    async with running_suite(
        tmp_path, workers=[worker], policy="fcfs", max_queued_per_tenant=2, max_queued_requests=3
    ) as suite:
        waiting = [asyncio.create_task(suite.client("bob").complete(f"b{i}", **LONG)) for i in range(3)]
        await until(lambda: suite.scheduler.shell.core.ledger.waiting("bob") == 2, "bob's queue to fill")
        with pytest.raises(Overloaded, match="of 'bob' wait already") as caught:
            await suite.client("bob").complete("one more")
        assert caught.value.reason == "TENANT_QUEUE_FULL"
        assert caught.value.retry_after_ms is not None and caught.value.retry_after_ms > 0
        assert caught.value.quota is not None
        waiting.append(asyncio.create_task(suite.client().complete("a", **LONG)))
        await until(lambda: suite.scheduler.shell.core.ledger.waiting() >= 3, "the queue to fill")
        with pytest.raises(Overloaded) as caught:
            await suite.client("op").complete("too many")
        assert caught.value.reason == "QUEUE_FULL"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await suite.all_free()


async def test_tokens_received_from_an_earlier_scheduler_go_on_where_they_were(suite: Suite) -> None:
    client = suite.client()
    whole = await client.complete("resume", max_tokens=60, ignore_eos=True, return_token_ids=True)
    again = inference_pb2.GenerateRequest(
        request_id="again", text="resume", return_token_ids=True, received_token_ids=whole.token_ids[:25],
        sampling=types_pb2.SamplingParams(max_tokens=60, ignore_eos=True),
    )  # fmt: skip
    async with suite.stub() as stub:
        ids, first, finished = list(whole.token_ids[:25]), None, None
        async for response in stub.Generate(again, metadata=KEY):
            if response.WhichOneof("event") == "delta":
                first = response.delta.first_token if first is None else first
                ids += response.delta.token_ids
            elif response.WhichOneof("event") == "finished":
                finished = response.finished
        assert first == 25
        assert ids == list(whole.token_ids)
        assert finished is not None
        assert (finished.usage.prompt_tokens, finished.usage.output_tokens) == (1, 60)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Attach(inference_pb2.AttachRequest(request_id="again"), metadata=KEY).read()
        assert caught.value.code() is CODE.OUT_OF_RANGE, "the text of the first 25 was never here"
        again.request_id, again.received_token_ids[:] = "all", whole.token_ids
        outcome = [event async for event in stub.Generate(again, metadata=KEY)][-1].finished.outcome
        assert outcome == types_pb2.OUTCOME_LENGTH, "it was whole already"


async def test_a_drain_takes_nothing_new_and_finishes_what_lives(suite: Suite) -> None:
    live = asyncio.create_task(suite.client().complete("to the end", **LONG))
    await until(lambda: bool(suite.scheduler.shell.book.live), "the request")
    draining = asyncio.create_task(suite.scheduler.drain(30.0))
    await until(lambda: suite.scheduler.shell.draining, "the drain")
    with pytest.raises(Unavailable) as caught:
        await suite.client("bob").complete("too late")
    assert caught.value.reason == "DRAINING"
    assert (await suite.status()).draining
    async with make_channel(suite.scheduler.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        told = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await draining == 0
    check_whole("to the end", await live)


async def test_a_drain_that_takes_too_long_ends_the_rest_by_the_operator(suite: Suite) -> None:
    live = asyncio.create_task(_completion(suite.client(), "cut off"))
    await until(lambda: bool(suite.scheduler.shell.book.live), "the request")
    assert await suite.scheduler.drain(0.05) == 1
    assert (await live).outcome is Outcome.CANCELLED_BY_OPERATOR


async def _completion(client: AsyncClient, prompt: str) -> Completion:
    try:
        return await client.complete(prompt, **LONG)
    except RequestFailed as failed:
        return failed.completion


async def test_the_policy_changes_live(suite: Suite) -> None:
    running = [asyncio.create_task(suite.client().complete(f"under {i}", **LONG)) for i in range(12)]
    await until(lambda: len(suite.scheduler.shell.book.live) == 12, "the requests")
    for policy, seats in (("fcfs", 4), ("isrtf", None), ("slo", 6)):
        await suite.admin(Admin.set_policy, policy, step_seats=seats)
        status = await suite.status()
        assert status.policy == policy
        assert (status.settings.step_seats if status.settings.HasField("step_seats") else None) == seats
    for index, task in enumerate(running):
        check_whole(f"under {index}", await task)
    assert {"fcfs", "isrtf", "slo"} <= {one.policy for one in await suite.admin(Admin.policies)}


async def test_the_admin_service_is_for_operators(suite: Suite) -> None:
    for call, args in ((Admin.status, ()), (Admin.policies, ()), (Admin.set_policy, ("fcfs",))):
        with pytest.raises(PermissionDenied, match="operator: true"):
            await suite.admin(call, *args, key="alice-key")
        with pytest.raises(Unauthenticated):
            await suite.admin(call, *args, key="nobody")
    with pytest.raises(InvalidRequest, match=r"settings\.be_share"):
        await suite.admin(Admin.set_policy, "slo", be_share=math.nan)


async def test_the_models_that_can_be_asked_for_are_listed(tmp_path: Path) -> None:
    workers = [worker_config(served_model="big"), worker_config(), worker_config(max_context_tokens=512)]
    async with running_suite(tmp_path, workers=workers) as suite:
        models = await suite.client().list_models()
        assert [(one.model, one.max_context_tokens, one.workers) for one in models] == [
            ("big", 4096, 1),
            ("demo", 512, 2),
        ]
        with pytest.raises(InvalidRequest, match="model: must be given: big, demo"):
            await suite.client().complete("which")
        accepted = await anext(suite.client().generate("this", model="demo", max_tokens=5000))
        assert isinstance(accepted, Accepted)
        assert accepted.max_tokens == 511, "clamped to the least context"
