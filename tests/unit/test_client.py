"""The client against a real gRPC server that breaks, refuses and repeats on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import grpc
import pytest

from fairlead.client import (
    Accepted,
    AlreadyExists,
    AsyncClient,
    ChatMessage,
    Client,
    DeadlineExceeded,
    Delta,
    FairleadError,
    Finished,
    InternalError,
    InvalidRequest,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    RequestFailed,
    Retry,
    StreamLost,
    Unauthenticated,
    Unavailable,
)
from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2 as inference
from fairlead.v1 import types_pb2
from tests.unit.scripted_server import Scripted, Stream, serve

Connect = Callable[..., tuple[AsyncClient, list[float]]]
CODE = grpc.StatusCode


@contextlib.asynccontextmanager
async def connected(servicer: Scripted, retry: Retry | None = None) -> AsyncIterator[tuple[AsyncClient, list[float]]]:
    """A client of a started server, and the list of the waits it made (none of which really waits)."""
    server = await serve(servicer)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    try:
        async with AsyncClient(server.address, "secret", retry=retry or Retry(seed=1), sleep=sleep) as client:
            yield client, waits
    finally:
        await server.stop(0)


async def collect(events: AsyncIterator) -> list:
    return [event async for event in events]


def tokens(events: list) -> list[int]:
    return [index for event in events if isinstance(event, Delta)
            for index in range(event.first_token, event.first_token + event.token_count)]  # fmt: skip


async def test_events_come_typed_and_in_order() -> None:
    async with connected(Scripted(Stream([(0, 1), (1, 3)]))) as (client, _):
        events = await collect(client.generate("hello", service_class="ls", ttft_ms=100, max_tokens=9, stop=["x"]))
    assert isinstance(events[0], Accepted)
    assert [event.text for event in events[1:3]] == ["<0>", "<1><2><3>"]
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.outcome, last.usage.output_tokens, last.decision.ttft_ms) == (Outcome.STOP, 4, 12.5)
    assert last.decision.predicted_p50_tokens is None


async def test_request_carries_what_was_said_and_nothing_else() -> None:
    servicer = Scripted(Stream(), Stream(), Stream())
    async with connected(servicer) as (client, _):
        await client.complete([ChatMessage("user", "hi")], temperature=0.0, seed=7, request_id="mine", tpot_ms=20)
        await client.complete([1, 2, 3])
        await client.complete("text", timeout_s=30)
    first, second, third = servicer.calls
    assert isinstance(first, inference.GenerateRequest)
    assert (first.request_id, first.messages.messages[0].content, first.sampling.seed) == ("mine", "hi", 7)
    assert first.sampling.HasField("temperature")
    assert not first.sampling.HasField("top_p")
    assert first.slo.tpot_ms == 20
    assert not first.slo.HasField("ttft_ms")
    assert list(second.token_ids.ids) == [1, 2, 3]
    assert second.request_id != third.request_id
    assert servicer.keys == ["Bearer secret"] * 3
    assert servicer.cancelled == []
    assert servicer.deadlines_s[0] is None
    assert servicer.deadlines_s[2] is not None


@pytest.mark.parametrize(
    ("options", "field"),
    [({"max_tokens": -1}, "max_tokens"), ({"seed": -3}, "seed"), ({"temperature": "hot"}, "temperature"),
     ({"service_class": "urgent"}, "service_class"), ({"stop_token_ids": [-1]}, "stop_token_ids")],
)  # fmt: skip
async def test_value_that_the_contract_cannot_carry_names_its_field(options: dict, field: str) -> None:
    servicer = Scripted()
    async with connected(servicer) as (client, _):
        with pytest.raises(InvalidRequest) as caught:
            await client.complete("hello", **options)
    assert field in caught.value.fields
    assert servicer.calls == []


async def test_broken_stream_goes_on_without_gap_or_repeat() -> None:
    servicer = Scripted(Stream([(0, 2)], "drop"), Stream([(2, 1)], "silent"), Stream([(2, 1), (3, 2)]))
    async with connected(servicer) as (client, _):
        events = await collect(client.generate("hello"))
    assert tokens(events) == [0, 1, 2, 3, 4]
    assert sum(isinstance(event, Accepted) for event in events) == 1
    assert [type(call).__name__ for call in servicer.calls] == ["GenerateRequest", "AttachRequest", "AttachRequest"]
    assert [call.from_token for call in servicer.calls[1:]] == [2, 3]
    assert {call.request_id for call in servicer.calls} == {servicer.calls[0].request_id}


async def test_gap_is_not_passed_on_but_asked_for_again() -> None:
    servicer = Scripted(Stream([(0, 2), (4, 1)]), Stream([(2, 3)]))
    async with connected(servicer) as (client, _):
        events = await collect(client.generate("hello"))
    assert tokens(events) == [0, 1, 2, 3, 4]


async def test_text_after_the_last_token_comes_once_though_its_stream_broke_right_after_it() -> None:
    tail = (2, 0)
    servicer = Scripted(Stream([(0, 2), tail], "drop"), Stream([tail], "drop"), Stream([tail]))
    async with connected(servicer) as (client, _):
        completion = await client.complete("hello")
    assert completion.text == "<0><1><tail>"
    assert completion.outcome is Outcome.STOP
    assert [call.from_token for call in servicer.calls[1:]] == [2, 2]


async def test_reattaching_is_bounded_and_counts_only_breaks_without_progress() -> None:
    stuck = [Stream([(0, 1)], "drop"), *[Stream([], "drop") for _ in range(10)]]
    async with connected(Scripted(*stuck), Retry(reattach_attempts=3, seed=1)) as (client, _):
        with pytest.raises(StreamLost) as caught:
            await collect(client.generate("hello", request_id="r"))
    assert caught.value.request_id == "r"
    assert len(stuck) - 1 == 10
    moving = [Stream([(index, 1)], "drop") for index in range(8)] + [Stream([(8, 1)])]
    async with connected(Scripted(*moving), Retry(reattach_attempts=3, seed=1)) as (client, _):
        assert tokens(await collect(client.generate("hello"))) == list(range(9))


async def test_forgotten_request_is_sent_again_with_what_was_received() -> None:
    gone = Refusal(CODE.NOT_FOUND, "no such request")
    servicer = Scripted(Stream([(0, 2)], "drop"), Stream([], gone, accept=False), Stream([(2, 2)]))
    async with connected(servicer) as (client, _):
        events = await collect(client.generate("hello", return_token_ids=True))
    assert tokens(events) == [0, 1, 2, 3]
    again = servicer.calls[2]
    assert isinstance(again, inference.GenerateRequest)
    assert (list(again.received_token_ids), again.text) == ([0, 1], "hello")


async def test_forgotten_request_without_token_ids_is_lost_only_after_text_came() -> None:
    gone = Refusal(CODE.NOT_FOUND, "no such request")
    async with connected(Scripted(Stream([(0, 2)], "drop"), Stream([], gone, accept=False))) as (client, _):
        with pytest.raises(StreamLost):
            await collect(client.generate("hello"))
    fresh = Scripted(Stream([], "drop"), Stream([], gone, accept=False), Stream([(0, 2)]))
    async with connected(fresh) as (client, _):
        assert tokens(await collect(client.generate("hello"))) == [0, 1]


async def test_a_request_that_was_accepted_waits_as_told_when_another_scheduler_has_no_room_yet() -> None:
    gone = Refusal(CODE.NOT_FOUND, "no such request")
    busy = Refusal(CODE.RESOURCE_EXHAUSTED, "out of reach", retry_after_ms=20_000)
    servicer = Scripted(
        Stream([], "drop"), Stream([], gone, accept=False), Stream([], busy, accept=False), Stream([(0, 2)])
    )
    async with connected(servicer) as (client, waits):
        assert tokens(await collect(client.generate("hello"))) == [0, 1]
    assert len(waits) == 1
    assert waits[0] >= 20.0, "longer than `max_delay_s`"


async def test_a_request_that_was_only_attached_to_and_is_forgotten_is_not_sent_again_without_its_content() -> None:
    gone = Refusal(CODE.NOT_FOUND, "no such request")
    servicer = Scripted(Stream([(0, 2)], "drop"), Stream([], gone, accept=False))
    async with connected(servicer) as (client, _):
        with pytest.raises(NotFound):
            await collect(client.attach("earlier"))
    assert len(servicer.calls) == 2


async def test_refusal_before_acceptance_waits_as_told_then_succeeds() -> None:
    busy = Refusal(CODE.RESOURCE_EXHAUSTED, "queue full", quota=("tenant:t", "queued requests"), retry_after_ms=1500)
    servicer = Scripted(*[Stream([], busy, accept=False) for _ in range(2)], Stream([(0, 1)]))
    async with connected(servicer) as (client, waits):
        await client.complete("hello")
    assert len(waits) == 2
    assert all(1.5 <= wait <= 1.65 for wait in waits)
    assert len({call.request_id for call in servicer.calls}) == 1


async def test_retries_are_bounded_and_the_refusal_is_passed_on_with_its_details() -> None:
    busy = Refusal(CODE.RESOURCE_EXHAUSTED, "queue full", quota=("tenant:t", "queued requests"), retry_after_ms=100)
    servicer = Scripted(*[Stream([], busy, accept=False) for _ in range(9)])
    async with connected(servicer, Retry(attempts=3, seed=1)) as (client, waits):
        with pytest.raises(Overloaded) as caught:
            await client.complete("hello")
    assert (len(servicer.calls), len(waits)) == (3, 2)
    assert (caught.value.retry_after_ms, caught.value.quota) == (100, "queued requests")


async def test_refusal_that_asks_for_more_than_the_bound_is_passed_on_at_once() -> None:
    busy = Refusal(CODE.RESOURCE_EXHAUSTED, "queue full", retry_after_ms=60_000)
    servicer = Scripted(Stream([], busy, accept=False))
    async with connected(servicer) as (client, waits):
        with pytest.raises(Overloaded):
            await client.complete("hello")
    assert waits == []


async def test_wait_that_would_outlast_the_deadline_is_not_begun() -> None:
    busy = Refusal(CODE.UNAVAILABLE, "no workers", retry_after_ms=4_000)
    servicer = Scripted(Stream([], busy, accept=False))
    async with connected(servicer) as (client, waits):
        with pytest.raises(Unavailable):
            await client.complete("hello", timeout_s=3)
    assert waits == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [(CODE.INVALID_ARGUMENT, InvalidRequest), (CODE.UNAUTHENTICATED, Unauthenticated),
     (CODE.PERMISSION_DENIED, PermissionDenied), (CODE.NOT_FOUND, NotFound), (CODE.ALREADY_EXISTS, AlreadyExists),
     (CODE.RESOURCE_EXHAUSTED, Overloaded), (CODE.INTERNAL, InternalError), (CODE.DATA_LOSS, InternalError)],
)  # fmt: skip
async def test_status_becomes_its_own_error_and_is_not_retried(code: grpc.StatusCode, kind: type) -> None:
    servicer = Scripted(Stream([], Refusal(code, "prompt: is empty", fields=[("prompt", "is empty")]), accept=False))
    async with connected(servicer) as (client, _):
        with pytest.raises(kind) as caught:
            await client.complete("hello")
    assert isinstance(caught.value, FairleadError)
    assert (caught.value.code, caught.value.fields, str(caught.value)) == (
        code, {"prompt": "is empty"}, "prompt: is empty",
    )  # fmt: skip


async def test_deadline_ends_an_answer_that_hangs() -> None:
    async with connected(Scripted(Stream([(0, 1)], "hang"))) as (client, _):
        with pytest.raises(DeadlineExceeded):
            await client.complete("hello", timeout_s=0.3)


async def test_leaving_early_cancels_the_request() -> None:
    servicer = Scripted(Stream([(0, 1)], "hang"), Stream([(0, 1)], "hang"))
    async with connected(servicer) as (client, _):
        async with contextlib.aclosing(client.generate("hello", request_id="left")) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        started = asyncio.Event()

        async def read() -> None:
            async for event in client.generate("hello", request_id="killed"):
                if isinstance(event, Delta):
                    started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert servicer.cancelled == ["left", "killed"]


async def test_attach_takes_up_a_request_and_leaving_it_cancels_nothing() -> None:
    servicer = Scripted(Stream([(5, 2)], "drop"), Stream([(7, 1)]), Stream([(0, 1)], "hang"))
    async with connected(servicer) as (client, _):
        events = await collect(client.attach("earlier", from_token=5))
        async with contextlib.aclosing(client.attach("other")) as others:
            async for event in others:
                if isinstance(event, Delta):
                    break
    assert tokens(events) == [5, 6, 7]
    assert [call.from_token for call in servicer.calls] == [5, 7, 0]
    assert servicer.cancelled == []


async def test_complete_raises_with_what_came_where_the_answer_is_not_whole() -> None:
    async with connected(Scripted(Stream([(0, 2)], outcome=types_pb2.OUTCOME_FAILED_WORKER_LOST))) as (client, _):
        with pytest.raises(RequestFailed) as caught:
            await client.complete("hello")
    assert caught.value.completion.outcome is Outcome.FAILED_WORKER_LOST
    assert caught.value.completion.text == "<0><1>"


async def test_models_and_cancel() -> None:
    servicer = Scripted()
    async with connected(servicer) as (client, _):
        (model,) = await client.list_models()
        assert await client.cancel("r")
    assert (model.model, model.max_context_tokens, model.workers) == ("m", 512, 2)
    assert servicer.cancelled == ["r"]


async def test_nobody_listening_is_unavailable_within_the_bounds() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with AsyncClient("127.0.0.1:1", retry=Retry(attempts=3, seed=1), sleep=sleep) as client:
        with pytest.raises(Unavailable):
            await client.complete("hello")
    assert len(waits) == 2


async def test_blocking_client_streams_reattaches_and_cancels() -> None:
    servicer = Scripted(Stream([(0, 2)], "drop"), Stream([(2, 1)]), Stream([(0, 1)], "hang"))
    server = await serve(servicer)

    def use() -> tuple[str, list[str]]:
        with Client(server.address, "secret", retry=Retry(seed=1), sleep=lambda _: None) as client:
            completion = client.complete("hello", service_class="be")
            models = [model.model for model in client.list_models()]
            events = client.generate("hello", request_id="left")
            for event in events:
                if isinstance(event, Delta):
                    break
            events.close()
            return completion.text, models

    text, models = await asyncio.to_thread(use)
    await server.stop(0)
    assert (text, models) == ("<0><1><2>", ["m"])
    assert servicer.cancelled == ["left"]
    assert servicer.keys[0] == "Bearer secret"


async def test_blocking_client_retries_and_raises_like_the_other() -> None:
    busy = Refusal(CODE.RESOURCE_EXHAUSTED, "queue full", retry_after_ms=100)
    servicer = Scripted(*[Stream([], busy, accept=False) for _ in range(3)])
    server = await serve(servicer)
    waits: list[float] = []

    def use() -> FairleadError:
        with Client(server.address, retry=Retry(attempts=3, seed=1), sleep=waits.append) as client:
            with pytest.raises(Overloaded) as caught:
                client.complete("hello")
            return caught.value

    error = await asyncio.to_thread(use)
    await server.stop(0)
    assert error.retry_after_ms == 100
    assert len(waits) == 2


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'vllm', 'numpy', 'matplotlib'}"
    code = f"import sys, fairlead.client, fairlead.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
