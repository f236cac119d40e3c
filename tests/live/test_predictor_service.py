"""The predictor service over real gRPC, in this process."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import grpc
import numpy as np
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from safetensors.numpy import load, save

from fairlead.config import PROTOCOL_VERSION, PredictorConfig
from fairlead.length_wire import from_wire
from fairlead.lengths import LengthDistribution
from fairlead.rpc import make_channel
from fairlead.v1 import predictor_pb2 as pb
from fairlead.v1 import predictor_pb2_grpc, types_pb2
from predictor_svc.predictors.base import Answer, CannotPredict, Predictor, Question, open_predictor
from predictor_svc.predictors.encoder import SHIPPED_HEAD
from predictor_svc.service import SERVICE, PredictorHost
from predictor_svc.swapping import ModelWatch

OVERLOADED = pb.PREDICTION_REFUSAL_REASON_OVERLOADED
INVALID = pb.PREDICTION_REFUSAL_REASON_INVALID
INTERNAL = pb.PREDICTION_REFUSAL_REASON_INTERNAL

GUARD_S = 120.0
"""Ends a test that hangs. No answer depends on it: a busy machine is only slower."""


class Held(Predictor):
    """Answers when it is let go; breaks on a prompt that says so."""

    name: ClassVar[str] = "held"

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()
        self.seen: list[str] = []

    @classmethod
    def open(cls, config: PredictorConfig) -> "Held":
        del config
        return cls()

    def predict(self, questions: Sequence[Question]) -> list[Answer]:
        self.entered.set()
        self.go.wait(GUARD_S)
        self.seen += [question.prompt for question in questions]
        if any(question.prompt == "break" for question in questions):
            raise RuntimeError("as asked")
        return [
            CannotPredict("as asked") if question.prompt == "refuse" else LengthDistribution.from_point(50)
            for question in questions
        ]


@asynccontextmanager
async def serving(predictor: Predictor, **settings: object) -> AsyncIterator[tuple[PredictorHost, aio.Channel]]:
    """The service; unless a test says otherwise no question is late, however slow the machine is."""
    chosen = {"listen": "127.0.0.1:0", "answer_within_ms": GUARD_S * 1000, **settings}
    host = PredictorHost(PredictorConfig(**chosen), predictor)  # type: ignore[arg-type]
    await host.start()
    channel = make_channel(host.address)
    try:
        yield host, channel
    finally:
        if isinstance(predictor, Held):
            predictor.go.set()
        await channel.close()
        await host.drain(0.2)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def question(query_id: int, prompt: str = "List 5 fruits.", **fields: object) -> pb.PredictRequest:
    values = {"model": "demo", "tenant": "a", "prompt_tokens": 8, "max_tokens": 512, "prompt": prompt, **fields}
    return pb.PredictRequest(query_id=query_id, **values)  # type: ignore[arg-type]


async def ask(channel: aio.Channel, questions: Sequence[pb.PredictRequest]) -> dict[int, pb.PredictResponse]:
    stub = predictor_pb2_grpc.PredictorServiceStub(channel)
    call = stub.Predict(iter(questions))
    answers = [response async for response in call]
    assert len({answer.query_id for answer in answers}) == len(answers), "a question was answered twice"
    return {answer.query_id: answer for answer in answers}


async def test_many_in_flight_and_each_answered_once() -> None:
    async with serving(open_predictor(PredictorConfig(predictor="history")), max_batch=16) as (_, channel):
        streams = [ask(channel, [question(i, f"{i} words") for i in range(500)]) for _ in range(4)]
        for answers in await asyncio.wait_for(asyncio.gather(*streams), GUARD_S):
            assert set(answers) == set(range(500))
            assert all(answer.WhichOneof("result") == "distribution" for answer in answers.values())
        law = from_wire(answers[7].distribution, 512)
        assert law.source == "history"
        assert law.survival(511) > 0


async def test_a_full_queue_refuses_at_once_and_goes_on() -> None:
    held = Held()
    async with serving(held, max_batch=4, max_queued=8) as (_, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        call = stub.Predict()
        await call.write(question(0))
        await until(held.entered.is_set)
        for i in range(1, 30):
            await call.write(question(i))
        refused = [await asyncio.wait_for(call.read(), GUARD_S) for _ in range(30 - 1 - 8)]
        assert all(answer.refusal.reason == OVERLOADED for answer in refused)
        assert all("without a prediction" in answer.refusal.detail for answer in refused)
        held.go.set()
        served = [await asyncio.wait_for(call.read(), GUARD_S) for _ in range(1 + 8)]
        assert all(answer.HasField("distribution") for answer in served)
        await call.write(question(99))
        assert (await asyncio.wait_for(call.read(), GUARD_S)).query_id == 99
        await call.done_writing()


async def test_a_broken_question_is_refused_alone() -> None:
    held = Held()
    held.go.set()
    broken = {
        1: (question(1, max_tokens=0), INVALID, "max_tokens"),
        2: (question(2, max_tokens=10, generated_tokens=10), INVALID, "generated_tokens"),
        3: (question(3, model="m" * 1000), INVALID, "model"),
        4: (question(4, prompt_tokens=4_000_000_000), INVALID, "prompt_tokens"),
        5: (question(5, "break"), INTERNAL, "RuntimeError"),
        6: (question(6, "refuse"), INVALID, "as asked"),
    }
    async with serving(held, max_batch=32) as (_, channel):
        sound = [question(i) for i in range(10, 40)]
        answers = await asyncio.wait_for(ask(channel, [*(one for one, _, _ in broken.values()), *sound]), GUARD_S)
    for query_id, (_, reason, named) in broken.items():
        assert answers[query_id].refusal.reason == reason
        assert named in answers[query_id].refusal.detail
    assert all(answers[one.query_id].HasField("distribution") for one in sound)


async def test_an_asker_that_leaves_takes_its_questions_along() -> None:
    held = Held()
    async with serving(held, max_batch=1) as (host, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        call = stub.Predict()
        await call.write(question(0, "left behind"))
        await until(held.entered.is_set)
        for i in range(1, 20):
            await call.write(question(i, "left behind"))
        await until(lambda: host.waiting == 19)
        call.cancel()
        await until(lambda: host.askers == 0)
        held.go.set()
        answers = await asyncio.wait_for(ask(channel, [question(1, "mine")]), GUARD_S)
        assert answers[1].HasField("distribution")
    assert held.seen.count("left behind") == 1
    assert "mine" in held.seen


async def test_outcomes_move_history() -> None:
    async with serving(open_predictor(PredictorConfig(predictor="history"))) as (_, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        before = from_wire((await ask(channel, [question(1)]))[1].distribution).mean_remaining()
        ended = [
            pb.Observation(model="demo", tenant="a", prompt_tokens=8, output_tokens=n, outcome=types_pb2.OUTCOME_STOP)
            for n in range(20, 60)
        ]
        silent = [pb.Observation(model="demo", tenant="a", outcome=types_pb2.OUTCOME_CANCELLED_BY_CLIENT)]
        learned = await stub.Observe(pb.ObserveRequest(observations=[*ended, *silent]))
        assert learned.learned == 40
        after = from_wire((await ask(channel, [question(2)]))[2].distribution).mean_remaining()
        assert before > 100
        assert after == pytest.approx(40, rel=0.2)
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.Observe(pb.ObserveRequest(observations=ended * 300))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_the_oracle_repeats_hints_and_refuses_without_one() -> None:
    async with serving(open_predictor(PredictorConfig(predictor="oracle"))) as (_, channel):
        answers = await ask(channel, [question(1, length_hint_tokens=77), question(2)])
        assert from_wire(answers[1].distribution).quantile(0.5) == pytest.approx(77, rel=0.01)
        assert answers[2].refusal.reason == INVALID
        assert "length_hint_tokens" in answers[2].refusal.detail


async def test_the_encoder_serves_hostile_and_sound_questions_together() -> None:
    prompts = ["", "a" * 1_000_000, "用中文写一个故事。", "🙂" * 500, "Name 12 fruits.", "\x00\ufffd", "9" * 10_000]
    questions = [question(i, prompt) for i, prompt in enumerate(prompts)]
    later = [question(100 + i, prompt, generated_text=prompt, generated_tokens=50) for i, prompt in enumerate(prompts)]
    async with serving(open_predictor(PredictorConfig()), max_batch=32) as (_, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        described = await stub.Describe(pb.PredictorServiceDescribeRequest())
        assert described.predictor == "encoder"
        assert len(described.fingerprint) == 64
        answers = await asyncio.wait_for(ask(channel, [*questions, *later, question(7, max_tokens=1)]), GUARD_S)
    for one in (*questions, *later):
        law = from_wire(answers[one.query_id].distribution, one.max_tokens)
        assert law.source == "encoder"
        assert law.generated_tokens == one.generated_tokens
        assert 1 <= law.mean_remaining(one.generated_tokens) <= 512
    assert from_wire(answers[7].distribution, 1).mean_remaining() == 1


async def test_a_head_of_the_wrong_hash_is_refused_at_the_start(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_HEAD, tmp_path / "head")
    weights = tmp_path / "head" / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "predictor_svc", "--head", str(tmp_path / "head"), "--listen", "127.0.0.1:0",
        stderr=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), GUARD_S)
    assert process.returncode == 2
    assert "its card says otherwise" in said.decode()


async def test_describe_health_and_draining() -> None:
    held = Held()
    async with serving(held, max_batch=4) as (host, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        described = await stub.Describe(pb.PredictorServiceDescribeRequest())
        assert (described.predictor, described.protocol_version) == ("held", PROTOCOL_VERSION)
        health = health_pb2_grpc.HealthStub(channel)
        said = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert said.status == health_pb2.HealthCheckResponse.SERVING
        call = stub.Predict()
        await call.write(question(0))
        await until(held.entered.is_set)
        for i in range(1, 9):
            await call.write(question(i))
        await until(lambda: host.waiting == 8)
        draining = asyncio.create_task(host.drain(GUARD_S))
        while said.status == health_pb2.HealthCheckResponse.SERVING:
            said = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        held.go.set()
        assert len([response async for response in call]) == 9, "what was asked is answered before the end"
        assert await call.code() == grpc.StatusCode.OK
        await asyncio.wait_for(draining, GUARD_S)


async def test_the_process_says_that_it_is_ready_and_ends_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "predictor_svc", "--predictor", "history", "--listen", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), GUARD_S)).decode()
    assert line.startswith("predictor ready at 127.0.0.1:")
    assert line.strip().endswith("predictor=history")
    async with make_channel(line.split()[3]) as channel:
        assert len(await ask(channel, [question(1)])) == 1
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), GUARD_S) == 0


async def test_a_question_that_waits_too_long_is_answered_from_history() -> None:
    held = Held()
    async with serving(held, max_batch=1, answer_within_ms=100) as (_, channel):
        answers = await asyncio.wait_for(ask(channel, [question(i) for i in range(5)]), GUARD_S)
        assert {from_wire(answer.distribution).source for answer in answers.values()} == {"history"}
        held.go.set()
        async with asyncio.timeout(GUARD_S):  # one that is late on a busy machine is history's again
            while from_wire((await ask(channel, [question(99)]))[99].distribution).source == "history":
                pass
        assert held.seen, "the predictor is asked again"


async def test_what_was_learned_survives_a_restart_and_a_broken_file_harms_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    history = PredictorConfig(predictor="history")
    ended = [
        pb.Observation(model="demo", tenant="a", prompt_tokens=8, output_tokens=n, outcome=types_pb2.OUTCOME_STOP)
        for n in range(1020, 1060)
    ]

    async def middle(channel: aio.Channel) -> float:
        return from_wire((await ask(channel, [question(1, max_tokens=4096)]))[1].distribution).quantile(0.5)

    async with serving(open_predictor(history), state_dir=folder) as (_, channel):
        await predictor_pb2_grpc.PredictorServiceStub(channel).Observe(pb.ObserveRequest(observations=ended))
        learned = await middle(channel)
    async with serving(open_predictor(history), state_dir=folder) as (_, channel):
        assert await middle(channel) == pytest.approx(learned) == pytest.approx(1040, rel=0.05)
    (folder / "learned").write_bytes((folder / "learned").read_bytes()[:-9])
    async with serving(open_predictor(history), state_dir=folder) as (_, channel):
        assert await middle(channel) < 200
    assert (folder / "learned.refused").exists()


async def test_outcomes_correct_intervals_and_describe_says_how_they_do() -> None:
    held = Held()
    held.go.set()
    async with serving(held) as (_, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        for round_ in range(40):
            answers = await ask(channel, [question(i, f"{round_} {i}") for i in range(10)])
            ended = [
                pb.Observation(
                    model="demo", tenant="a", prompt_tokens=8, max_tokens=512, output_tokens=80 + 5 * i,
                    outcome=types_pb2.OUTCOME_STOP, predicted=answer.distribution,
                )
                for i, answer in answers.items()
            ]  # fmt: skip
            await stub.Observe(pb.ObserveRequest(observations=ended))
        law = from_wire((await ask(channel, [question(1)]))[1].distribution, 512)
        assert law.quantile(0.05) < 90, "told 50, and they came to 80 to 125"
        assert law.quantile(0.95) > 115
        standing = (await stub.Describe(pb.PredictorServiceDescribeRequest())).standings[0]
        assert (standing.model, standing.outcomes) == ("demo", 400)


async def test_another_model_takes_over_without_a_pause_and_a_damaged_one_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "head"
    shutil.copytree(SHIPPED_HEAD, folder)
    config = PredictorConfig(listen="127.0.0.1:0", head=folder)
    async with serving(open_predictor(config)) as (host, channel):
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        watch = ModelWatch(config, host, every_s=0.05)
        asked = 0
        answered = asyncio.Event()

        async def go_on_asking() -> None:
            nonlocal asked
            while True:
                answers = await ask(channel, [question(i, f"{asked} {i} fruits") for i in range(5)])
                assert all(answer.HasField("distribution") for answer in answers.values())
                asked += 1
                answered.set()

        asking = asyncio.create_task(go_on_asking())
        first = (await stub.Describe(pb.PredictorServiceDescribeRequest())).fingerprint
        weights = folder / "head.safetensors"
        sound = weights.read_bytes()
        weights.write_bytes(sound[:-1] + b"!")
        assert "its card says otherwise" in await watch.load()
        weights.write_bytes(b"\x80\x04" + sound[: len(sound) // 2])
        assert "its card says otherwise" in await watch.load()
        assert (await stub.Describe(pb.PredictorServiceDescribeRequest())).fingerprint == first
        changed = save({name: value.astype("float16") for name, value in _other_weights(sound).items()})
        weights.write_bytes(changed)
        card = json.loads((folder / "card.json").read_text())
        card["sha256"] = hashlib.sha256(changed).hexdigest()
        (folder / "card.json").write_text(json.dumps(card))
        now = first
        async with asyncio.timeout(GUARD_S):
            while now == first:
                now = (await stub.Describe(pb.PredictorServiceDescribeRequest())).fingerprint
        assert now == card["sha256"]
        answered.clear()
        await asyncio.wait_for(answered.wait(), GUARD_S)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled(), "no question went without its answer"
        await watch.stop()


def _other_weights(sound: bytes) -> dict[str, np.ndarray]:
    weights = load(sound)
    weights["ridge.bias"] = weights["ridge.bias"] + 0.5
    return weights
