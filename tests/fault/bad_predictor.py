"""A predictor that is good, slow, silent, lying, broken, or speaks nonsense, as its mood says at each question."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from fairlead.config import PROTOCOL_VERSION
from fairlead.length_wire import to_wire
from fairlead.lengths import LengthDistribution
from fairlead.v1 import predictor_pb2, predictor_pb2_grpc, types_pb2

MOODS = ("good", "slow", "silent", "lying", "nonsense", "breaking", "real")


class BadPredictor(predictor_pb2_grpc.PredictorServiceServicer):
    """Answers in its mood.

    Args:
        mood: one of `MOODS` but "real", asked at each question.
        rng: of delays and lies.
    """

    def __init__(self, mood: Callable[[], str], rng: random.Random) -> None:
        self._mood = mood
        self._rng = rng

    async def Describe(self, request: Any, context: Any) -> predictor_pb2.PredictorServiceDescribeResponse:
        """As any predictor."""
        del request, context
        return predictor_pb2.PredictorServiceDescribeResponse(predictor="bad", protocol_version=PROTOCOL_VERSION)

    async def Observe(self, request: Any, context: Any) -> predictor_pb2.ObserveResponse:
        """Learns nothing."""
        del request, context
        return predictor_pb2.ObserveResponse()

    async def Predict(
        self, request_iterator: AsyncIterator[predictor_pb2.PredictRequest], context: Any
    ) -> AsyncIterator[predictor_pb2.PredictResponse]:
        """An answer, or none, or another's, or one that makes no sense, or the end of the stream."""
        rng = self._rng
        async for question in request_iterator:
            match self._mood():
                case "silent":
                    continue
                case "slow":
                    await asyncio.sleep(rng.uniform(0.1, 1.0))
                    yield self._answer(question, 24)
                case "lying":
                    yield self._answer(question, rng.choice((1, 2, 100_000)))
                case "nonsense":
                    yield self._nonsense(question)
                case "breaking" if rng.random() < 0.1:
                    await context.abort(rng.choice((grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)), "broken")
                case _:
                    await asyncio.sleep(rng.uniform(0.0, 0.01))
                    yield self._answer(question, 24)

    def _answer(self, question: predictor_pb2.PredictRequest, median: float) -> predictor_pb2.PredictResponse:
        made = LengthDistribution.lognormal(median, 0.5)
        return predictor_pb2.PredictResponse(query_id=question.query_id, distribution=to_wire(made))

    def _nonsense(self, question: predictor_pb2.PredictRequest) -> predictor_pb2.PredictResponse:
        rng = self._rng
        bad = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e300))
        distribution = types_pb2.LengthDistribution()
        distribution.CopyFrom(to_wire(LengthDistribution.lognormal(20, 0.5)))
        for field, value in distribution.ListFields():
            if rng.random() < 0.5 and field.cpp_type == field.CPPTYPE_DOUBLE:
                if field.is_repeated:
                    value[rng.randrange(len(value))] = bad
                else:
                    setattr(distribution, field.name, bad)
        query_id = question.query_id + rng.choice((0, 0, 1, 10_000))
        return predictor_pb2.PredictResponse(query_id=query_id, distribution=distribution)
