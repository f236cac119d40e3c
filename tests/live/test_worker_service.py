"""The worker service over real gRPC round the simulated engine: who leads, no gap, no repeat, refusals, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fairlead.config import PROTOCOL_VERSION, WorkerConfig
from fairlead.rpc import make_channel, read_details
from fairlead.v1 import types_pb2, worker_pb2
from tests.live.worker_stream import BE, Stream, admit, length, running_worker
from worker_svc import service
from worker_svc.engines import simulated_text
from worker_svc.engines.base import EngineFailed, StepBatch
from worker_svc.engines.simulated import SimulatedEngine
from worker_svc.service import SERVICE

pytestmark = pytest.mark.live

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


def expected_ids(prompt: list[int], tokens: int) -> list[int]:
    key = simulated_text.answer_key(prompt, 0)
    return [simulated_text.answer_token(key, index) for index in range(tokens)]


async def test_an_answer_comes_whole_with_text_and_end() -> None:
    async with running_worker() as (_, stub):
        stream = Stream(stub)
        leading = await stream.lead()
        assert (leading.protocol_version, list(leading.held)) == (PROTOCOL_VERSION, [])
        await stream.admit(5, [1, 2, 3])
        await stream.until_ended(5)
        answer = stream.answer(5)
        assert answer.ids == expected_ids([1, 2, 3], 20)
        assert answer.text == simulated_text.detokenize(answer.ids)
        assert answer.end is not None
        assert (answer.end.outcome, answer.end.output_tokens) == (types_pb2.OUTCOME_LENGTH, 20)
        assert stream.kinds(5) == [worker_pb2.SEQUENCE_CHANGE_KIND_STARTED]


async def test_forced_tokens_count_as_output_and_the_answer_goes_on_where_it_was() -> None:
    async with running_worker() as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        whole = expected_ids([1, 2, 3], 20)
        stream.answer(5).tokens.update(enumerate(whole[:8]))
        await stream.admit(5, [1, 2, 3, *whole[:8]], forced_tokens=8, sampling=length(12))
        await stream.until_ended(5)
        assert stream.answer(5).ids == whole
        assert stream.answer(5).text == " " + simulated_text.detokenize(whole[8:])


async def test_a_stream_that_breaks_in_the_middle_loses_and_repeats_nothing() -> None:
    async with running_worker(step_ms=2.0) as (_, stub):
        first = Stream(stub)
        await first.lead(epoch=1)
        for handle in range(6):
            await first.admit(handle, [1, 2, handle], sampling=length(100), coalesce_tokens=7 * (handle % 2))
        await first.until(lambda: len(first.answer(5).tokens) > 20)
        first.call.cancel()
        await asyncio.sleep(0.05)
        second = Stream(stub)
        leading = await second.lead(epoch=2, scheduler_id="two")
        assert [held.handle for held in leading.held] == list(range(6))
        assert min(held.output_tokens for held in leading.held) > 20, "the engine went on"
        for handle in range(6):
            second.answers[handle] = first.answer(handle)
            await second.send(replay=worker_pb2.Replay(handle=handle, from_token=len(first.answer(handle).tokens)))
        await second.until_ended(*range(6))
        for handle in range(6):
            assert second.answer(handle).ids == expected_ids([1, 2, handle], 100)
            assert second.answer(handle).text == simulated_text.detokenize(second.answer(handle).ids)
        assert second.repeats == 0


async def test_what_ended_while_nobody_led_is_kept_until_it_is_released() -> None:
    async with running_worker(step_ms=0.5) as (_, stub):
        first = Stream(stub)
        await first.lead()
        await first.admit(1)
        await first.until(lambda: first.answer(1).tokens)
        first.call.cancel()
        await asyncio.sleep(0.2)
        second = Stream(stub)
        [held] = (await second.lead()).held  # the same scheduler and epoch may come again
        assert (held.outcome, held.output_tokens, held.request_key) == (types_pb2.OUTCOME_LENGTH, 20, "tenant/1")
        await second.send(replay=worker_pb2.Replay(handle=1))
        await second.until_ended(1)
        assert second.answer(1).ids == expected_ids([7, 7, 1], 20)
        await second.send(release=worker_pb2.Release(handles=[1, 1, 99]))
        await second.send(replay=worker_pb2.Replay(handle=1))
        second.answers.clear()
        await second.until_ended(1)
        assert second.answer(1).end.outcome == types_pb2.OUTCOME_FAILED_WORKER_LOST, "released: not held any more"


async def test_a_newer_epoch_takes_over_and_an_older_one_is_refused() -> None:
    async with running_worker(step_ms=2.0) as (_, stub):
        first = Stream(stub)
        await first.lead(epoch=3)
        await first.admit(1, sampling=length(300))
        await first.until(lambda: first.answer(1).tokens)
        for epoch, scheduler_id in ((2, "one"), (3, "two")):
            with pytest.raises(grpc.RpcError) as stale:
                await Stream(stub).lead(epoch, scheduler_id)
            assert (stale.value.code(), read_details(stale.value).reason) == (FAILED_PRECONDITION, "STALE_EPOCH")
        seen = len(first.answer(1).tokens)
        await first.until(lambda: len(first.answer(1).tokens) > seen)  # undisturbed
        second = Stream(stub)
        await second.lead(epoch=4, scheduler_id="two")
        assert read_details(await first.status()).reason == "SUPERSEDED"
        await second.send(replay=worker_pb2.Replay(handle=1))
        await second.until(lambda: len(second.answer(1).tokens) > seen)


@pytest.mark.parametrize(
    ("lead", "code", "reason"),
    [
        ({"version": PROTOCOL_VERSION + 1}, FAILED_PRECONDITION, "VERSION"),
        ({"epoch": 0}, INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"scheduler_id": ""}, INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
async def test_a_lead_that_does_not_fit_is_refused(lead: dict[str, object], code: object, reason: str) -> None:
    async with running_worker() as (_, stub):
        with pytest.raises(grpc.RpcError) as refused:
            await Stream(stub).lead(**lead)
        assert (refused.value.code(), read_details(refused.value).reason) == (code, reason)
        await Stream(stub).lead()


async def test_commands_out_of_order_end_their_own_stream_only() -> None:
    async with running_worker() as (_, stub):
        good = Stream(stub)
        await good.lead()
        await good.admit(1, sampling=length(200))
        bad = Stream(stub)
        await bad.admit(2)
        error = await bad.status()
        assert (error.code(), read_details(error).reason) == (FAILED_PRECONDITION, "LEAD_FIRST")
        half = Stream(stub)
        await half.call.done_writing()
        assert (await half.status()).code() == FAILED_PRECONDITION
        await good.send(cancel=worker_pb2.CancelExecution(handles=[77, 2**32 - 1]))
        await good.send(release=worker_pb2.Release(handles=[77]))
        await good.send(ranks=worker_pb2.Ranks(version=1, handles=[2**32 - 1, 1, 1, 5]))
        await good.until_ended(1)
        assert good.answer(1).ids == expected_ids([7, 7, 1], 200)
        await good.send(lead=worker_pb2.Lead(scheduler_id="one", epoch=1, protocol_version=PROTOCOL_VERSION))
        assert read_details(await good.status()).reason == "LEADS_ALREADY"
        empty = Stream(stub)
        await empty.lead(epoch=2)
        await empty.send()
        assert (await empty.status()).code() == INVALID_ARGUMENT


async def test_admits_that_are_not_taken_say_why() -> None:
    reasons = worker_pb2.AdmitRefusalReason
    async with running_worker(step_ms=2.0, max_held=3) as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        long = length(500)
        nan = types_pb2.SamplingParams(temperature=float("nan"))
        await stream.admit(1, sampling=long)
        await stream.admit(1, sampling=long)  # told twice: once is enough
        await stream.admit(1, sampling=long, request_key="tenant/other")
        await stream.admit(1, sampling=long, attempt=2)
        for fields in (
            {"prompt": [10**9]},
            {"prompt": [1] * 2000},
            {"sampling": nan},
            {"sampling": length(0)},
            {"service_class": types_pb2.SERVICE_CLASS_UNSPECIFIED},
            {"forced_tokens": 3},
            {"age_ms": float("nan")},
            {"slo": types_pb2.Slo(tpot_ms=-1)},
            {"request_key": ""},
        ):
            await stream.admit(2, **fields)
        for handle in (2, 3, 4):
            await stream.admit(handle, sampling=long)
        await stream.until(lambda: len(stream.refused) == 12)
        got = [(refused.handle, refused.reason) for refused in stream.refused]
        duplicate, invalid, full = reasons.Value("ADMIT_REFUSAL_REASON_DUPLICATE"), 3, 1
        assert got == [(1, duplicate)] * 2 + [(2, invalid)] * 9 + [(4, full)]
        assert "2000" in stream.refused[3].detail
        await stream.until(lambda: all(len(stream.answer(handle).tokens) > 5 for handle in (1, 2, 3)))


async def test_best_effort_tokens_come_in_groups() -> None:
    async with running_worker(step_ms=1.0) as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        await stream.admit(1, service_class=BE, coalesce_tokens=10, sampling=length(95))
        await stream.until_ended(1)
        assert stream.answer(1).ids == expected_ids([7, 7, 1], 95)
        entries = [count for steps in stream.steps for count in steps.token_counts]
        assert len(entries) <= 12
        assert entries.count(10) >= 8


async def test_a_reader_that_lags_gets_fewer_and_larger_messages() -> None:
    async with running_worker(step_ms=0.1, slots=64, step_seats=64) as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        for handle in range(64):
            await stream.admit(handle, [3, handle], sampling=length(1500))
        await asyncio.sleep(1.0)
        await stream.until_ended(*range(64))
        assert stream.repeats == 0
        assert all(stream.answer(handle).ids == expected_ids([3, handle], 1500) for handle in range(64))
        last_step = stream.steps[-1].step_count
        assert len(stream.steps) < last_step, "messages merged while writes were in flight"


async def test_ranks_order_the_engine_and_old_ones_are_ignored() -> None:
    async with running_worker(step_ms=2.0, step_seats=1) as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        rules = worker_pb2.StepRules(displace=True)
        await stream.send(ranks=worker_pb2.Ranks(version=5, rules=rules))
        for handle in (1, 2):
            await stream.admit(handle, rank=handle, sampling=length(60))
        await stream.until(lambda: len(stream.answer(1).tokens) >= 3)
        await stream.send(ranks=worker_pb2.Ranks(version=6, handles=[2, 1]))
        await stream.send(ranks=worker_pb2.Ranks(version=6, handles=[1, 2]))
        await stream.until_ended(2)
        assert len(stream.answer(1).tokens) < 20
        await stream.until_ended(1)
        kinds = worker_pb2.SequenceChangeKind.Name
        assert [kinds(kind).rpartition("_")[2] for kind in stream.kinds(1)] == ["STARTED", "PAUSED", "RESUMED"]
        await stream.send(ranks=worker_pb2.Ranks(version=7, rules=worker_pb2.StepRules(be_share=float("nan"))))
        assert (await stream.status()).code() == INVALID_ARGUMENT


async def test_cancel_frees_and_ends_and_release_of_a_live_one_cancels_it() -> None:
    async with running_worker(step_ms=2.0) as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        for handle in (1, 2):
            await stream.admit(handle, sampling=length(1000))
        await stream.until(lambda: stream.answer(1).tokens and stream.answer(2).tokens)
        await stream.send(cancel=worker_pb2.CancelExecution(handles=[1, 1]))
        await stream.until_ended(1)
        assert stream.answer(1).end.outcome == types_pb2.OUTCOME_CANCELLED_BY_CLIENT
        await stream.send(release=worker_pb2.Release(handles=[2]))
        await stream.until(lambda: stream.capacities and stream.capacities[-1].slots_free == 48)
        assert stream.capacities[-1].kv_blocks_free == 3750
        assert stream.answer(2).end is None, "nobody asks about it any more"


async def test_capacity_comes_at_least_once_a_second_with_the_step_model() -> None:
    async with running_worker(step_ms=3.0) as (_, stub):
        stream = Stream(stub)
        await stream.lead()
        begun = asyncio.get_running_loop().time()
        await stream.until(lambda: len(stream.capacities) >= 3)
        assert asyncio.get_running_loop().time() - begun < 2.6
        assert stream.capacities[0].step_model.c0_ms == 3.0


async def test_drain_finishes_what_runs_and_ends_the_rest_at_its_bound() -> None:
    async with running_worker(step_ms=2.0) as (host, stub):
        stream = Stream(stub)
        await stream.lead()
        await stream.admit(1, sampling=length(30))
        await stream.admit(2, sampling=length(1900))
        await stream.until(lambda: stream.answer(2).tokens)
        draining = asyncio.ensure_future(stub.Drain(worker_pb2.DrainRequest(timeout_ms=500)))
        await stream.until(lambda: stream.capacities and stream.capacities[-1].draining)
        await stream.admit(3)
        await stream.until_ended(1, 2)
        assert stream.answer(1).end.outcome == types_pb2.OUTCOME_LENGTH
        assert stream.answer(2).end.outcome == types_pb2.OUTCOME_CANCELLED_BY_OPERATOR
        assert [refused.reason for refused in stream.refused] == [worker_pb2.ADMIT_REFUSAL_REASON_DRAINING]
        done = await draining
        assert (done.finished, done.abandoned) == (1, 1)
        assert await health(host.address) == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            await stub.Drain(worker_pb2.DrainRequest(timeout_ms=float("nan")))
        assert refused.value.code() == INVALID_ARGUMENT


async def health(address: str) -> int:
    async with make_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status


class DyingEngine(SimulatedEngine):
    """A real simulated engine whose twentieth step is its last."""

    async def batches(self) -> AsyncIterator[StepBatch]:
        async for batch in super().batches():
            yield batch
            if batch.step_count >= 20:
                raise EngineFailed("out of memory")


async def test_a_dead_engine_ends_all_that_it_held_and_the_worker_is_not_serving() -> None:
    engine = DyingEngine(WorkerConfig(engine="simulated", simulated_step_ms=(2.0, 0.0, 0.0, 0.0)))
    async with running_worker(engine=engine) as (host, stub):
        stream = Stream(stub)
        await stream.lead()
        for handle in (1, 2):
            await stream.admit(handle, sampling=length(100))
        await stream.until_ended(1, 2)
        assert {stream.answer(handle).end.outcome for handle in (1, 2)} == {types_pb2.OUTCOME_FAILED_ENGINE}
        assert "out of memory" in stream.answer(1).end.detail
        await stream.send(release=worker_pb2.Release(handles=[1, 2]))
        assert "out of memory" in await host.died()
        assert await health(host.address) == health_pb2.HealthCheckResponse.NOT_SERVING
        await stream.send(admit=admit(3))
        await stream.until(lambda: stream.refused)


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        ({"model": "demo", "text": ""}, INVALID_ARGUMENT, "text"),
        ({"model": "demo", "text": "word " * 2000}, INVALID_ARGUMENT, "text"),
        ({"model": "demo"}, INVALID_ARGUMENT, "input"),
        ({"model": "other", "text": "hello"}, grpc.StatusCode.NOT_FOUND, "model"),
        ({"model": "demo", "token_ids": types_pb2.TokenIds(ids=[1, 10**6])}, INVALID_ARGUMENT, "token_ids"),
        ({"model": "demo", "token_ids": types_pb2.TokenIds(ids=[1] * 5000)}, INVALID_ARGUMENT, "token_ids"),
        ({"model": "demo", "messages": types_pb2.ChatMessages()}, INVALID_ARGUMENT, "messages"),
        (
            {"model": "demo", "messages": types_pb2.ChatMessages(messages=[types_pb2.ChatMessage(role="root")])},
            INVALID_ARGUMENT,
            "messages",
        ),
    ],
)
async def test_prompts_that_do_not_fit(request_: dict[str, object], code: grpc.StatusCode, field: str) -> None:
    async with running_worker() as (_, stub):
        with pytest.raises(grpc.RpcError) as refused:
            await stub.Tokenize(worker_pb2.TokenizeRequest(**request_))
        assert refused.value.code() == code
        assert list(read_details(refused.value).fields) == [field]


async def test_too_long_a_prompt_is_told_both_numbers() -> None:
    async with running_worker() as (_, stub):
        with pytest.raises(grpc.RpcError, match=r"2100 tokens exceed the model's context of 2000"):
            await stub.Tokenize(worker_pb2.TokenizeRequest(model="demo", text="word " * 2100))


async def test_chat_is_rendered_for_the_model_and_the_predictor() -> None:
    turn = types_pb2.ChatMessage(role="user", content="count to three")
    async with running_worker() as (_, stub):
        messages = types_pb2.ChatMessages(messages=[turn])
        answer = await stub.Tokenize(worker_pb2.TokenizeRequest(model="demo", messages=messages))
        assert answer.rendered_text == "<user> count to three\n<assistant>"
        assert len(answer.token_ids) == 5
        description = await stub.Describe(worker_pb2.WorkerServiceDescribeRequest())
        assert (description.engine, description.slots, description.kv_blocks) == ("simulated", 48, 3750)


async def test_an_engine_that_makes_no_step_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process answers and tells its capacity all the while."""
    monkeypatch.setattr(service, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(service, "MOST_SILENT_LOOKS", 5)
    config = WorkerConfig(listen="127.0.0.1:0", engine="simulated")
    hung: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def never(_seconds: float) -> None:
        await hung

    async with running_worker(engine=SimulatedEngine(config, sleep=never)) as (host, stub):
        stream = Stream(stub)
        await stream.lead()
        await asyncio.sleep(0.3)
        assert not host.service.died.done(), "an engine without work may rest"
        await stream.admit(1)
        await stream.until_ended(1)
        end = stream.answer(1).end
        assert end is not None
        assert end.outcome == types_pb2.OUTCOME_FAILED_ENGINE
        assert "made no step" in end.detail
        assert "made no step" in await host.service.died
