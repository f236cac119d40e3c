"""The gRPC face of a predictor: many questions in flight on each stream, answers in any order, typed refusals."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict

from fairlead.config import PROTOCOL_VERSION, PredictorConfig, SecurityConfig, TelemetryConfig
from fairlead.rpc import Gate, Refusal, Role, Server, ServicerContext, invalid, make_server, refuse, scheduler_only
from fairlead.telemetry import get_logger
from fairlead.telemetry.opening import open_telemetry
from fairlead.v1 import predictor_pb2, predictor_pb2_grpc
from predictor_svc.batching import Batcher, Result
from predictor_svc.calibration import CalibratedPredictor
from predictor_svc.online.keeper import Keeper
from predictor_svc.predictors.base import Answer, Predictor, Question
from predictor_svc.telemetry import PredictorTelemetry
from predictor_svc.wire import (
    Reason,
    error_of,
    observed_of,
    question_of,
    refusal_of,
    response_of,
    says_something,
    what_is_wrong,
)

SERVICE = predictor_pb2.DESCRIPTOR.services_by_name["PredictorService"].full_name
MAX_OBSERVATIONS = 10_000
MAX_UNREAD = 4096
"""Answers that a stream's reader may lag behind before no more of its questions are read."""

_log = get_logger("service")


class _Stream:
    """One Predict call: reads questions, and collects answers for its writer."""

    def __init__(self, batcher: Batcher, telemetry: PredictorTelemetry) -> None:
        self._batcher = batcher
        self._telemetry = telemetry
        self._out: deque[predictor_pb2.PredictResponse] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._in_flight = 0
        self._no_more = False
        self._gone = False

    def finish(self) -> None:
        """No more questions are read; those asked are still answered."""
        self._no_more = True
        self._changed.set()

    def leave(self) -> None:
        """Nobody reads the answers any more; what waits is dropped."""
        self._gone = True
        self.finish()

    async def read(self, requests: AsyncIterator[predictor_pb2.PredictRequest]) -> None:
        """Asks each question as it comes, until the asker ends its side or `finish`."""
        async for request in requests:
            if self._no_more:
                return
            self._ask(request)
            while len(self._out) >= MAX_UNREAD:
                self._room.clear()
                await self._room.wait()
        self.finish()

    async def answers(self) -> AsyncIterator[predictor_pb2.PredictResponse]:
        """Every answer, until no question is left."""
        while True:
            while self._out:
                yield self._out.popleft()
                self._room.set()
            if self._no_more and not self._in_flight:
                return
            self._changed.clear()
            await self._changed.wait()

    def _ask(self, request: predictor_pb2.PredictRequest) -> None:
        wrong = what_is_wrong(request)
        if wrong:
            self._put(refusal_of(request.query_id, Reason.PREDICTION_REFUSAL_REASON_INVALID, wrong))
            return
        query_id = request.query_id
        asked = self._telemetry.asked(request)

        def deliver(result: Result) -> None:
            self._in_flight -= 1
            self._telemetry.answered(asked, error=error_of(result))
            self._put(response_of(query_id, result))

        if self._batcher.ask(question_of(request), deliver, lambda: not self._gone):
            self._in_flight += 1
        else:
            detail = "too many questions are waiting; go on without a prediction and ask less often"
            self._telemetry.answered(asked, error="OVERLOADED")
            self._put(refusal_of(query_id, Reason.PREDICTION_REFUSAL_REASON_OVERLOADED, detail))

    def _put(self, response: predictor_pb2.PredictResponse) -> None:
        self._out.append(response)
        self._changed.set()


class PredictorService(predictor_pb2_grpc.PredictorServiceServicer):
    """Serves one predictor."""

    def __init__(self, batcher: Batcher, telemetry: PredictorTelemetry) -> None:
        self._batcher = batcher
        self._telemetry = telemetry
        self._streams: set[_Stream] = set()

    @property
    def askers(self) -> int:
        """Open streams."""
        return len(self._streams)

    def finish_streams(self) -> None:
        """Every stream answers what was asked and then ends."""
        for stream in self._streams:
            stream.finish()

    async def Predict(
        self, request_iterator: AsyncIterator[predictor_pb2.PredictRequest], context: ServicerContext
    ) -> AsyncIterator[predictor_pb2.PredictResponse]:
        """Answers questions as they are ready; a broken one is refused alone."""
        stream = _Stream(self._batcher, self._telemetry)
        self._streams.add(stream)
        reading = asyncio.create_task(stream.read(request_iterator))
        # A reader that ends by an error (the asker is gone) ends the stream as well.
        reading.add_done_callback(lambda _: stream.finish())
        try:
            async for response in stream.answers():
                yield response
            if reading.done() and not reading.cancelled() and isinstance(refusal := reading.exception(), Refusal):
                await refuse(context, refusal)
        finally:
            stream.leave()
            self._streams.discard(stream)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await reading

    async def Observe(
        self, request: predictor_pb2.ObserveRequest, context: ServicerContext
    ) -> predictor_pb2.ObserveResponse:
        """Learns from outcomes; those that say nothing about a length are passed over."""
        if len(request.observations) > MAX_OBSERVATIONS:
            await refuse(context, invalid("observations", f"at most {MAX_OBSERVATIONS} in one call"))
        observed = [observed_of(one) for one in request.observations if says_something(one)]
        return predictor_pb2.ObserveResponse(learned=await self._batcher.observe(observed) if observed else 0)

    async def Describe(
        self, request: predictor_pb2.PredictorServiceDescribeRequest, context: ServicerContext
    ) -> predictor_pb2.PredictorServiceDescribeResponse:
        """Which predictor, which protocol, which weights, and how its predictions do."""
        del request, context
        predictor = self._batcher.predictor
        standings = await self._batcher.run(predictor.standings) if isinstance(predictor, CalibratedPredictor) else []
        return predictor_pb2.PredictorServiceDescribeResponse(
            predictor=name_of(predictor),
            protocol_version=PROTOCOL_VERSION,
            fingerprint=predictor.fingerprint,
            standings=[predictor_pb2.PredictorStanding(**asdict(one)) for one in standings],
        )


class PredictorHost:
    """A predictor service from bind to drain.

    Args:
        config: where to listen, and the bounds.
        predictor: an opened one.
        telemetry: which traces and metrics; None: none.
        security: TLS and who may ask; None: anyone, on a loopback address.

    Raises:
        PortTaken: the address can't be listened on.
        ConfigError: telemetry that can't be had, certificates that can't be used, a port that is open to everyone.
    """

    def __init__(
        self,
        config: PredictorConfig,
        predictor: Predictor,
        telemetry: TelemetryConfig | None = None,
        security: SecurityConfig | None = None,
    ) -> None:
        checked = security or SecurityConfig()
        self._server: Server = make_server(
            config.listen,
            (SERVICE,),
            port_setting="predictor.listen",
            service="predictor",
            security=checked,
            gate=Gate({Role.SCHEDULER: scheduler_only(checked, "predictor", config.listen)}),
        )
        asked = CalibratedPredictor(predictor) if config.calibrate and predictor.calibrated else predictor
        self._batcher = Batcher(
            asked,
            max_batch=config.max_batch,
            max_queued=config.max_queued,
            within_s=config.answer_within_ms / 1000,
            fallback=fallback_of(asked),
        )
        self._keeper = Keeper(config.state_dir, self._batcher) if config.state_dir is not None else None
        self._telemetry = open_telemetry(telemetry or TelemetryConfig(), "predictor", _now_ms)
        self._server.observe(self._telemetry.meter)
        told = PredictorTelemetry(self._telemetry, self._batcher, predictor.name, _now_ms)
        self._service = PredictorService(self._batcher, told)
        predictor_pb2_grpc.add_PredictorServiceServicer_to_server(self._service, self._server.server)

    @property
    def address(self) -> str:
        """host:port really bound."""
        return self._server.address

    @property
    def askers(self) -> int:
        """Streams of questions that are open."""
        return self._service.askers

    @property
    def waiting(self) -> int:
        """Questions that wait for the model."""
        return self._batcher.waiting

    async def start(self) -> None:
        """Takes back what was learned before, then serves."""
        if self._keeper is not None:
            await self._keeper.start()
        await self._server.start(SERVICE)

    async def drain(self, grace_s: float) -> None:
        """Takes no more questions, answers those asked within `grace_s` seconds, then stops."""
        await self._server.set_serving(SERVICE, False)
        self._service.finish_streams()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._batcher.drained(), grace_s)
        await self._server.stop(grace_s)
        if self._keeper is not None:
            await self._keeper.stop()
        await self._batcher.stop()
        await self._telemetry.close()
        _log.info(
            "stopped",
            answered=self._batcher.answered,
            refused=self._batcher.refused,
            failed=self._batcher.failed,
            late=self._batcher.late,
        )

    async def replace(self, predictor: Predictor) -> None:
        """Asks another predictor of the same name from the next batch on; what is known of lengths stays known."""
        asked = self._batcher.predictor
        after = asked.around(predictor) if isinstance(asked, CalibratedPredictor) else predictor
        await self._batcher.replace(after, fallback_of(after))
        _log.info("another model serves", predictor=predictor.name, fingerprint=predictor.fingerprint[:16])


def fallback_of(predictor: Predictor) -> Callable[[Question], Answer] | None:
    """What answers questions that wait too long."""
    return predictor.fallback if isinstance(predictor, CalibratedPredictor) else None


def name_of(predictor: Predictor) -> str:
    """The name that was configured."""
    return predictor.inner.name if isinstance(predictor, CalibratedPredictor) else predictor.name


def _now_ms() -> float:
    return time.monotonic() * 1000
