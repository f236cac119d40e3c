"""The connection to the predictor: questions out, distributions in, outcomes back. What fails here costs quality only.

The scheduler never waits for an answer. A question is in flight at most `timeout_s`; one that finds the stream broken
or the bound reached is answered "none" at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpc import aio

from fairlead.config import PROTOCOL_VERSION
from fairlead.length_wire import from_wire
from fairlead.lengths import LengthDistribution
from fairlead.rpc import make_channel
from fairlead.telemetry import get_logger
from fairlead.v1 import predictor_pb2, predictor_pb2_grpc
from scheduler_svc.core.types import End, Job, Predicted
from scheduler_svc.outcome import observation
from scheduler_svc.requests import Request
from scheduler_svc.shell import Shell
from scheduler_svc.wire import class_to_wire

if TYPE_CHECKING:
    from fairlead.telemetry.traces import Trace

MAX_IN_FLIGHT = 2048
MAX_TEXT_CHARS = 16_384
"""Of a prompt or an answer; of a longer one its beginning and its end, half each."""
MAX_NAME_CHARS = 64
MAX_OBSERVATIONS = 4096
OBSERVE_EVERY_S = 1.0
OBSERVE_WITHIN_S = 5.0
DESCRIBE_WITHIN_S = 10.0
FIRST_RETRY_S = 0.2
MAX_RETRY_S = 3.0


@dataclass(frozen=True, slots=True)
class _Question:
    handle: int
    generated_tokens: int
    max_tokens: int
    asked_s: float
    trace: Trace | None


class PredictorLink:
    """One predictor; the shell's `Forecaster`.

    Args:
        address: host:port.
        shell: takes the answers.
        timeout_s: after which a question counts as not answered.

    Attributes:
        connected: the stream stands.
        predictor: name of the predictor there, once reached.
        problem: why it is not connected, for an operator.
        answered, missing: questions that a sound answer came to in time, and the others.
    """

    def __init__(self, address: str, shell: Shell, timeout_s: float) -> None:
        self.address = address
        self.connected = False
        self.predictor = ""
        self.problem = "not reached yet"
        self.answered = 0
        self.missing = 0
        self._shell = shell
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._questions: OrderedDict[int, _Question] = OrderedDict()
        self._to_write: deque[predictor_pb2.PredictRequest] = deque()
        self._observations: deque[predictor_pb2.Observation] = deque(maxlen=MAX_OBSERVATIONS)
        self._news = asyncio.Event()
        self._next_id = 0
        self._retry_s = FIRST_RETRY_S
        self._timer: asyncio.TimerHandle | None = None
        self._log = get_logger("predictor_link")
        self._task = asyncio.create_task(self._run())

    @property
    def in_flight(self) -> int:
        """Questions that wait for an answer."""
        return len(self._questions)

    def ask(self, request: Request, generated_tokens: int) -> None:
        """Asks about a live request; a `Predicted` event follows, with or without a distribution."""
        accepted = request.accepted
        if not self.connected or len(self._questions) >= MAX_IN_FLIGHT or generated_tokens >= accepted.max_tokens:
            self._none(request.handle, generated_tokens, None, "too_many" if self.connected else "not_connected")
            return
        self._next_id += 1
        trace = self._shell.telemetry.question(request, generated_tokens)
        question = _Question(request.handle, generated_tokens, accepted.max_tokens, self._loop.time(), trace)
        self._questions[self._next_id] = question
        self._to_write.append(
            predictor_pb2.PredictRequest(
                query_id=self._next_id,
                model=accepted.model,
                tenant=accepted.tenant,
                service_class=class_to_wire(request.latency_sensitive),
                prompt_tokens=accepted.prompt_tokens,
                max_tokens=accepted.max_tokens,
                prompt=_shortened(request.prompt_text),
                generated_text=_shortened(request.answer.text()) if generated_tokens else "",
                generated_tokens=generated_tokens,
                temperature=request.sampling.temperature if request.sampling.HasField("temperature") else None,
                length_hint_tokens=request.length_hint,
                traceparent=trace.traceparent if trace is not None else "",
                tracestate=trace.tracestate if trace is not None else "",
            )
        )
        self._news.set()
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._time_out)

    def observe(self, request: Request, job: Job, end: End) -> None:
        """Tells the predictor how long an answer was, when it suits; the oldest go first if it does not listen."""
        if len(request.answer):
            self._observations.append(observation(request, job, end))

    async def close(self) -> None:
        """Ends the stream."""
        if self._timer is not None:
            self._timer.cancel()
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
            self._give_up_all()
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)

    async def _attempt(self) -> str:
        """One stream from start to end; returns why it ended."""
        try:
            async with make_channel(self.address) as channel:
                return await self._session(predictor_pb2_grpc.PredictorServiceStub(channel))
        except aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except Exception as error:
            self._log.exception("predictor stream failed", address=self.address)
            return f"an error of the scheduler's own: {error!r}"

    async def _session(self, stub: Any) -> str:
        described = await stub.Describe(
            predictor_pb2.PredictorServiceDescribeRequest(), timeout=DESCRIBE_WITHIN_S
        )  # fmt: skip
        if described.protocol_version != PROTOCOL_VERSION:
            return (
                f"the predictor speaks protocol version {described.protocol_version}, this scheduler "
                f"{PROTOCOL_VERSION}; run the same release on both"
            )
        call = stub.Predict()
        self.predictor = described.predictor[:MAX_NAME_CHARS]
        self.connected, self.problem, self._retry_s = True, "", FIRST_RETRY_S
        self._log.info("predictor connected", address=self.address, predictor=self.predictor)
        tasks = [
            asyncio.create_task(work) for work in (self._write(call), self._read(call), self._send_observations(stub))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            call.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return "it ended the stream"

    async def _write(self, call: Any) -> None:
        while True:
            while self._to_write:
                question = self._to_write.popleft()
                if question.query_id in self._questions:
                    await call.write(question)
            self._news.clear()
            await self._news.wait()

    async def _read(self, call: Any) -> None:
        while True:
            response = await call.read()
            if response is aio.EOF:
                return
            question = self._questions.pop(response.query_id, None)
            if question is not None:
                self._answered(question, response)

    def _answered(self, question: _Question, response: predictor_pb2.PredictResponse) -> None:
        distribution: LengthDistribution | None = None
        reason = "refused"
        if response.WhichOneof("result") == "distribution":
            try:
                distribution = from_wire(response.distribution, question.max_tokens)
            except ValueError as error:
                reason = "malformed"
                self._log.debug("prediction not usable", error=str(error))
        if distribution is None:
            self._none(question.handle, question.generated_tokens, question.trace, reason)
            return
        self.answered += 1
        latency_ms = 1000 * (self._loop.time() - question.asked_s)
        self._shell.telemetry.predicted(question.trace, latency_ms, distribution)
        self._shell.handle(Predicted(question.handle, question.generated_tokens, distribution))

    async def _send_observations(self, stub: Any) -> None:
        while True:
            await asyncio.sleep(OBSERVE_EVERY_S)
            if not self._observations:
                continue
            batch = list(self._observations)
            self._observations.clear()
            with contextlib.suppress(aio.AioRpcError):
                await stub.Observe(predictor_pb2.ObserveRequest(observations=batch), timeout=OBSERVE_WITHIN_S)

    def _time_out(self) -> None:
        """Gives up the questions that were asked too long ago; they stand in the order in which they were asked."""
        self._timer = None
        now_s = self._loop.time()
        while self._questions:
            query_id, question = next(iter(self._questions.items()))
            left_s = question.asked_s + self._timeout_s - now_s
            if left_s > 0:
                self._timer = self._loop.call_later(left_s, self._time_out)
                return
            del self._questions[query_id]
            self._none(question.handle, question.generated_tokens, question.trace, "late")

    def _give_up_all(self) -> None:
        self._to_write.clear()
        while self._questions:
            _, question = self._questions.popitem(last=False)
            self._none(question.handle, question.generated_tokens, question.trace, "stream_broke")

    def _none(self, handle: int, generated_tokens: int, trace: Trace | None, reason: str) -> None:
        self.missing += 1
        self._shell.telemetry.not_predicted(trace, reason)
        self._shell.handle(Predicted(handle, generated_tokens, None))


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return text[: MAX_TEXT_CHARS // 2] + text[-MAX_TEXT_CHARS // 2 :]
