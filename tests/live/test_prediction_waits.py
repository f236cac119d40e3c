"""The scheduler's loop never waits for a prediction: not one tick is delayed, whatever the predictor does.

Ticks are counted, no clock is read: a tick is due in the turn of the event loop after the event that asked for it.
"""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from fairlead.client import Completion, Outcome
from fairlead.config import PROTOCOL_VERSION
from fairlead.v1 import predictor_pb2 as pb
from fairlead.v1 import predictor_pb2_grpc, types_pb2
from scheduler_svc.core.types import Arrived, Assign, Decision, Event, Predicted
from tests.live.scheduler_suite import Suite, running_process, running_suite, until

pytestmark = pytest.mark.live

SLOW_S = 2.0


class Turns:
    """Counts the turns of the running event loop."""

    def __init__(self) -> None:
        self.now = 0
        loop: Any = asyncio.get_running_loop()
        once = loop._run_once

        def counted() -> None:
            self.now += 1
            once()

        loop._run_once = counted


class Watch:
    """Sees every event and tick of the shell, and counts those that came later than the next turn."""

    def __init__(self, turns: Turns) -> None:
        self.ticks = self.delayed = self.predictions = self.without = 0
        self.arrived: dict[int, int] = {}
        self.waited_for_a_place: list[int] = []
        self._turns = turns
        self._since: int | None = None

    def saw(self, event: Event, at_ms: float) -> None:
        del at_ms
        if self._since is None:
            self._since = self._turns.now
        if isinstance(event, Arrived):
            self.arrived[event.job_id] = self._turns.now
        if isinstance(event, Predicted):
            self.predictions += event.distribution is not None
            self.without += event.distribution is None

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        del now_ms
        self.ticks += 1
        if self._since is not None:
            self.delayed += self._turns.now - self._since > 1
            self._since = None
        for decision in decisions:
            if isinstance(decision, Assign) and self._turns.now - self.arrived.pop(decision.job_id, math.inf) > 1:
                self.waited_for_a_place.append(decision.job_id)


class Odd(predictor_pb2_grpc.PredictorServiceServicer):
    """A predictor that answers late, or nonsense."""

    def __init__(self, delay_s: float, *, nonsense: bool) -> None:
        self._delay_s = delay_s
        self._nonsense = nonsense
        self.asked = self.answered = 0

    async def Describe(self, request: Any, context: Any) -> pb.PredictorServiceDescribeResponse:
        del request, context
        return pb.PredictorServiceDescribeResponse(predictor="odd", protocol_version=PROTOCOL_VERSION)

    async def Observe(self, request: Any, context: Any) -> pb.ObserveResponse:
        del request, context
        return pb.ObserveResponse()

    async def Predict(
        self, request_iterator: AsyncIterator[pb.PredictRequest], context: Any
    ) -> AsyncIterator[pb.PredictResponse]:
        del context
        answers: asyncio.Queue[pb.PredictResponse] = asyncio.Queue()

        async def read() -> None:
            async for request in request_iterator:
                self.asked += 1
                made = self._answers(request)
                asyncio.get_running_loop().call_later(
                    self._delay_s, lambda made=made: [answers.put_nowait(a) for a in made]
                )

        reading = asyncio.create_task(read())
        try:
            while True:
                yield await answers.get()
                self.answered += 1
        finally:
            reading.cancel()

    def _answers(self, request: pb.PredictRequest) -> list[pb.PredictResponse]:
        law = types_pb2.LengthDistribution
        sound = law(levels=[0.1, 0.5, 0.9], tokens=[5, 20, 60], tail_index=2.0)
        number = request.query_id
        if not self._nonsense:
            return [pb.PredictResponse(query_id=number, distribution=sound)]
        nan, inf = float("nan"), float("inf")
        odd = [
            law(),
            law(levels=[0.5], tokens=[nan], tail_index=nan),
            law(levels=[0.9, 0.1], tokens=[5, 4], tail_index=-1.0),
            law(levels=[0.1, 0.5], tokens=[5], tail_index=2.0),
            law(levels=[0.1, 0.5], tokens=[-5, inf], tail_index=2.0),
            law(levels=[0.1, 0.5, 0.9], tokens=[1e30, 1e31, 1e32], tail_index=2.0),
        ][number % 6]
        return [
            pb.PredictResponse(query_id=number, distribution=odd),
            pb.PredictResponse(query_id=number, distribution=sound),
            pb.PredictResponse(query_id=number + 1_000_000, distribution=sound),
            pb.PredictResponse(),
        ]


@asynccontextmanager
async def odd_predictor(delay_s: float = 0.0, *, nonsense: bool = False) -> AsyncIterator[tuple[Odd, str]]:
    server, odd = aio.server(), Odd(delay_s, nonsense=nonsense)
    predictor_pb2_grpc.add_PredictorServiceServicer_to_server(odd, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield odd, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def served(suite: Suite, count: int, first: int = 0) -> list[Completion]:
    """Answers of a few windows each, six at a time: there is a free place for every request."""
    one_of = asyncio.Semaphore(6)

    async def one(number: int) -> Completion:
        async with one_of:
            return await suite.client().complete(f"prompt {number}", max_tokens=60, ignore_eos=True)

    return await asyncio.gather(*(one(first + number) for number in range(count)))


def watched(suite: Suite) -> Watch:
    watch = Watch(Turns())
    suite.scheduler.shell.witnesses.append(watch)
    return watch


def none_waited(watch: Watch, answers: Sequence[Completion]) -> None:
    assert all(answer.outcome is Outcome.LENGTH for answer in answers)
    assert watch.ticks > len(answers)
    assert watch.delayed == 0, f"{watch.delayed} of {watch.ticks} ticks were late"
    assert watch.waited_for_a_place == []


SETTINGS: dict[str, Any] = {"window_tokens": 10, "repredict": "always"}


async def test_no_tick_waits_for_a_predictor_that_is_stopped_and_then_killed(tmp_path: Path) -> None:
    section = {"listen": "127.0.0.1:0", "predictor": "history"}
    async with (
        running_process(tmp_path, "predictor_svc", predictor=section) as process,
        running_suite(tmp_path / "state", predictor=None, predictor_address=process.address, **SETTINGS) as suite,
    ):
        link = suite.scheduler.predictor
        assert link is not None
        await until(lambda: link.connected, "the predictor")
        watch = watched(suite)
        none_waited(watch, await served(suite, 20))
        answered = watch.predictions
        assert answered > 20
        process.process.send_signal(signal.SIGSTOP)
        none_waited(watch, await served(suite, 30, 100))
        assert link.in_flight > 0, "questions were out at the stopped predictor all the while"
        process.process.send_signal(signal.SIGKILL)
        none_waited(watch, await served(suite, 30, 200))
        await until(lambda: not link.connected and link.in_flight == 0, "it to be missed")


async def test_no_tick_waits_for_a_predictor_that_takes_two_seconds(tmp_path: Path) -> None:
    async with (
        odd_predictor(SLOW_S) as (odd, address),
        running_suite(
            tmp_path / "state", predictor=None, predictor_address=address, predict_timeout_ms=10_000, **SETTINGS
        ) as suite,
    ):
        link = suite.scheduler.predictor
        assert link is not None
        await until(lambda: link.connected, "the predictor")
        watch = watched(suite)
        none_waited(watch, await served(suite, 30))
        assert odd.asked > 30
        await until(lambda: link.in_flight == 0, "the late answers")
        none_waited(watch, await served(suite, 10, 100))


async def test_no_tick_waits_for_a_predictor_that_answers_nonsense(tmp_path: Path) -> None:
    async with (
        odd_predictor(nonsense=True) as (odd, address),
        running_suite(tmp_path / "state", predictor=None, predictor_address=address, **SETTINGS) as suite,
    ):
        link = suite.scheduler.predictor
        assert link is not None
        await until(lambda: link.connected, "the predictor")
        watch = watched(suite)
        none_waited(watch, await served(suite, 30))
        assert odd.answered > 30
        assert watch.without > 0, "a malformed distribution counts as none"
        assert link.connected, "nonsense is no reason to leave"
