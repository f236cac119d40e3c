"""One predictor process behind the scheduler: a stream of questions and answers, and outcomes sent back to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from grpc import aio

from fairlead.config import PROTOCOL_VERSION, ConfigError
from fairlead.rpc import InsecureAddress, Outgoing, in_plain_words, is_ending, together
from fairlead.telemetry import get_logger
from fairlead.v1 import predictor_pb2, predictor_pb2_grpc

MAX_NAME_CHARS = 64
MAX_OBSERVATIONS = 4096
OBSERVE_EVERY_S = 1.0
OBSERVE_WITHIN_S = 5.0
DESCRIBE_WITHIN_S = 10.0
FIRST_RETRY_S = 0.2
MAX_RETRY_S = 3.0


@dataclass(frozen=True)
class Listener:
    """Who hears of a replica, on the event loop.

    Attributes:
        answered: an answer came.
        lost: the stream broke; what was asked there is not answered any more.
        wanted: whether a question that is about to be written is still open there.
    """

    answered: Callable[[Replica, predictor_pb2.PredictResponse], None]
    lost: Callable[[Replica], None]
    wanted: Callable[[Replica, int], bool]


class Replica:
    """Keeps a stream to one address, and opens it again when it breaks.

    Args:
        address: host:port.
        listener: hears of it.
        outgoing: how it is reached.

    Attributes:
        connected: the stream stands.
        predictor: name of the predictor there, once reached.
        problem: why it is not connected, for an operator.
        in_flight: questions out at it; counted by who asks.
        answers: that came from it.
        heard_s: when the last answer came, on the loop's clock.
        silent_until_s: it let a question time out, and is passed over until then or until it answers.
    """

    def __init__(self, address: str, listener: Listener, outgoing: Outgoing) -> None:
        self.address = address
        self._outgoing = outgoing
        self._metadata: Sequence[tuple[str, str]] = ()
        self.connected = False
        self.predictor = ""
        self.problem = "not reached yet"
        self.in_flight = 0
        self.answers = 0
        self.heard_s = 0.0
        self.silent_until_s = 0.0
        self._listener = listener
        self._to_write: deque[predictor_pb2.PredictRequest] = deque()
        self._observations: deque[predictor_pb2.Observation] = deque(maxlen=MAX_OBSERVATIONS)
        self._news = asyncio.Event()
        self._retry_s = FIRST_RETRY_S
        self._loop = asyncio.get_running_loop()
        self._log = get_logger("predictor_link")
        self._task = asyncio.create_task(self._run())

    def send(self, question: predictor_pb2.PredictRequest) -> None:
        """Writes a question when its turn comes, if it is still open then."""
        self._to_write.append(question)
        self._news.set()

    def observe(self, observation: predictor_pb2.Observation) -> None:
        """Tells it an outcome when it suits; the oldest go first if it does not listen."""
        self._observations.append(observation)

    async def close(self) -> None:
        """Ends the stream."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            problem = await self._attempt()
            if problem != self.problem:
                self._log.warning("predictor not connected", address=self.address, problem=problem)
            self.connected = False
            self.problem = problem
            self._to_write.clear()
            self._listener.lost(self)
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)

    async def _attempt(self) -> str:
        """One stream from start to end; returns why it ended."""
        try:
            self._metadata = self._outgoing.metadata()
            async with self._outgoing.channel(self.address) as channel:
                return await self._session(predictor_pb2_grpc.PredictorServiceStub(channel))
        except aio.AioRpcError as error:
            return f"{error.code().name}: {in_plain_words(error.details() or '')}"
        except (ConfigError, InsecureAddress) as error:
            return str(error)
        except asyncio.CancelledError:
            if is_ending():
                raise
            return "the call was cancelled"
        except Exception as error:
            self._log.exception("predictor stream failed", address=self.address)
            return f"an error of the scheduler's own: {error!r}"

    async def _session(self, stub: Any) -> str:
        described = await stub.Describe(
            predictor_pb2.PredictorServiceDescribeRequest(), timeout=DESCRIBE_WITHIN_S, metadata=self._metadata
        )  # fmt: skip
        if described.protocol_version != PROTOCOL_VERSION:
            return (
                f"the predictor speaks protocol version {described.protocol_version}, this scheduler "
                f"{PROTOCOL_VERSION}; run the same release on both"
            )
        call = stub.Predict(metadata=self._metadata)
        self.predictor = described.predictor[:MAX_NAME_CHARS]
        self.connected, self.problem, self._retry_s = True, "", FIRST_RETRY_S
        self.silent_until_s = 0.0
        self._log.info("predictor connected", address=self.address, predictor=self.predictor)
        await together(call, self._read(call), self._write(call), self._send_observations(stub))
        return "it ended the stream"

    async def _write(self, call: Any) -> None:
        while True:
            while self._to_write:
                question = self._to_write.popleft()
                if self._listener.wanted(self, question.query_id):
                    await call.write(question)
            self._news.clear()
            await self._news.wait()

    async def _read(self, call: Any) -> None:
        while True:
            response = await call.read()
            if response is aio.EOF:
                return
            self.answers += 1
            self.heard_s, self.silent_until_s = self._loop.time(), 0.0
            self._listener.answered(self, response)

    async def _send_observations(self, stub: Any) -> None:
        while True:
            await asyncio.sleep(OBSERVE_EVERY_S)
            if not self._observations:
                continue
            batch = list(self._observations)
            self._observations.clear()
            with contextlib.suppress(aio.AioRpcError):
                message = predictor_pb2.ObserveRequest(observations=batch)
                await stub.Observe(message, timeout=OBSERVE_WITHIN_S, metadata=self._metadata)
