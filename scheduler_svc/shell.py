"""The shell round the core: events in as they happen, one tick for all of a turn of the event loop, decisions out.

Everything here runs on one event loop and never waits. An event goes into the core at once, so that nothing queues in
front of it; what follows from it is decided in the next turn of the loop, together with all else that came meanwhile.
A step of forty sequences, or forty arrivals, are thus one tick.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

from fairlead.config import TelemetryConfig
from fairlead.rpc import Refusal
from fairlead.telemetry import get_logger
from fairlead.telemetry.opening import Telemetry
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Assign,
    CancelOn,
    CancelRequested,
    Decision,
    End,
    Event,
    Job,
    Outcome,
    PolicyFault,
    Reorder,
    WorkerLost,
    WorkerUp,
)
from scheduler_svc.outcome import finished
from scheduler_svc.plugins import FaultLog
from scheduler_svc.questions import Questions
from scheduler_svc.requests import Book, Request
from scheduler_svc.rounds import Rounds
from scheduler_svc.streams import ClientStream
from scheduler_svc.telemetry import SchedulerTelemetry
from scheduler_svc.tenants.salts import KEY_BYTES, CacheSalts

MAX_STREAMS = 8
"""Clients that read one request at once."""
LAST_READ_WITHIN_S = 10.0
"""A client that was cut for reading too slowly may still take what was sent to it, so long."""
_EXPIRY_SLACK_MS = 250.0


class Worker(Protocol):
    """A worker as the shell sees it; none of these waits."""

    def assign(self, request: Request, decision: Assign) -> None:
        """Gives it a request."""
        ...

    def reorder(self, decision: Reorder) -> None:
        """Gives it its order."""
        ...

    def cancel(self, decision: CancelOn) -> None:
        """Ends a request there."""
        ...


class Forecaster(Protocol):
    """A predictor as the shell sees it; neither waits."""

    def ask(self, request: Request, generated_tokens: int) -> None:
        """A `Predicted` event follows, sooner or later."""
        ...

    def observe(self, request: Request, job: Job, end: End) -> None:
        """Tells how long an answer was."""
        ...


class Witness(Protocol):
    """Sees what goes into the core and what comes out; neither waits, and what fails in it costs only itself."""

    def saw(self, event: Event, at_ms: float) -> None:
        """An event is about to go into the core."""
        ...

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        """The core has decided; nothing of it is carried out yet."""
        ...


class Shell:
    """Owns the core, the requests, and the way between them and clients, workers and predictor.

    Args:
        core: decides.
        book: of requests.
        max_buffered_tokens: that a client may lag behind.
        clock_ms: monotonic.
        telemetry: of requests.
        cache_salt: of a tenant, for its prefix cache on engines; None: one that only this process can repeat.

    Attributes:
        workers: those that the core knows, by its name of them.
        forecaster: asked for predictions.
        witnesses: of events and decisions.
        draining: nothing new is accepted.
        policy_faults: what policies got wrong.
        changed: set when a worker came or went, or the drain began.
        died: set to a sentence if the core itself has failed; nothing is decided from then on.
    """

    def __init__(
        self,
        core: SchedulerCore,
        book: Book,
        *,
        max_buffered_tokens: int,
        clock_ms: Callable[[], float],
        telemetry: SchedulerTelemetry | None = None,
        cache_salt: Callable[[str], str] | None = None,
    ) -> None:
        self.core = core
        self.book = book
        self.clock_ms = clock_ms
        self.telemetry = telemetry or SchedulerTelemetry(Telemetry(), TelemetryConfig(), (), clock_ms)
        self.cache_salt = cache_salt or CacheSalts(secrets.token_bytes(KEY_BYTES)).of
        self.workers: dict[str, Worker] = {}
        self.forecaster: Forecaster | None = None
        self.witnesses: list[Witness] = []
        self.draining = False
        self.changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.died: asyncio.Future[str] = self._loop.create_future()
        self._max_buffered_tokens = max_buffered_tokens
        self._rounds = Rounds()
        self._questions = Questions(book.live, self._ask)
        self._idle = asyncio.Event()
        self._tick_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: float | None = None
        self.policy_faults = FaultLog(clock_ms)
        self._log = get_logger("shell")
        # A tick belongs to no request: it must not log under the trace of the one that brought it about.
        self._context = contextvars.copy_context()

    # -- into the core

    def handle(self, event: Event, at_ms: float | None = None) -> None:
        """Gives the core an event; what follows is carried out in the next turn of the loop.

        Args:
            event: what happened.
            at_ms: when, on the shell's clock; None: now.
        """
        if self.died.done():
            return
        then_ms = self.clock_ms() if at_ms is None else at_ms
        for witness in self.witnesses:
            try:
                witness.saw(event, then_ms)
            except Exception as error:
                self._dismiss(witness, error)
        try:
            self.core.handle(event, then_ms)
        except Exception as error:
            self._die(error)
            return
        if not self._tick_due:
            self._tick_due = True
            self._loop.call_soon(self._tick, context=self._context)

    def worker_up(self, event: WorkerUp, worker: Worker) -> None:
        """A worker takes requests from now on."""
        self.workers[event.worker] = worker
        self.handle(event)
        self.changed.set()

    def worker_lost(self, name: str) -> None:
        """A worker's incarnation is gone."""
        self.workers.pop(name, None)
        self.handle(WorkerLost(name))
        self.changed.set()

    def accept(self, request: Request, arrived: Arrived) -> None:
        """From here on the request ends in exactly one outcome."""
        self.book.add(request)
        # Tokenizing is part of the client's wait: its clock began when the call came in.
        self.handle(arrived, request.arrived_ms)
        if arrived.received_tokens >= arrived.max_tokens:
            self.handle(CancelRequested(request.handle, Outcome.LENGTH))

    def cancel(self, request: Request, outcome: Outcome, detail: str) -> None:
        """Ends a live request; an ended one stays as it is."""
        if request.finished is None:
            self.handle(CancelRequested(request.handle, outcome, detail))

    # -- to and from clients

    def attach(self, request: Request, from_token: int) -> ClientStream:
        """A client reads the request from this token on.

        Raises:
            Refusal: too many do already.
        """
        if len(request.streams) >= MAX_STREAMS:
            what = f"{MAX_STREAMS} streams of this request are open already"
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{what}; close one of them",
                quota=("request_id", what),
                reason="TOO_MANY_STREAMS",
            )
        if request.grace is not None:
            request.grace.cancel()
            request.grace = None
        stream = ClientStream(request, from_token, self._rounds)
        request.streams.append(stream)
        return stream

    def detach(self, stream: ClientStream) -> None:
        """A client reads no more; a request without any ends after its grace."""
        request = stream.request
        if stream not in request.streams:
            return
        request.streams.remove(stream)
        if request.finished is not None or request.streams or request.on_end is not None:
            return
        if request.resume_grace_ms:
            request.grace = self._loop.call_later(request.resume_grace_ms / 1000, self._abandoned, request)
        else:
            self._abandoned(request)

    def deliver(self, request: Request, token_ids: Sequence[int], text: str) -> None:
        """New tokens of a request, on their way to whoever reads it."""
        if request.finished is not None:
            return
        length = request.answer.append(token_ids, text)
        slow: ClientStream | None = None
        for stream in request.streams:
            stream.tokens_came()
            if length - stream.taken > self._max_buffered_tokens:
                slow = stream
        if slow is not None:
            self._too_slow(request, slow)
        if self._questions.put_off:
            self._questions.token_came(request)

    def drain(self) -> None:
        """Accepts nothing from now on; what lives goes on."""
        self.draining = True
        self.changed.set()

    async def drained(self, timeout_s: float | None) -> int:
        """Waits at most so long (None: for ever) until nothing lives; returns how many requests still do."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.book.live:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            pass
        return len(self.book.live)

    def _abandoned(self, request: Request) -> None:
        request.grace = None
        if self.clock_ms() >= request.expires_ms - _EXPIRY_SLACK_MS:
            # The transport ends the call at the deadline, by its own clock.
            self.cancel(request, Outcome.EXPIRED, "its deadline passed")
        else:
            self.cancel(request, Outcome.CANCELLED_BY_CLIENT, "its client was gone for longer than the resume grace")

    def _too_slow(self, request: Request, stream: ClientStream) -> None:
        what = f"the client lagged more than {self._max_buffered_tokens} tokens behind"
        if len(request.streams) > 1 or request.on_end is not None:
            request.streams.remove(stream)
            stream.end(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{what}; others read on", reason="SLOW_READER"))
        else:
            self.cancel(request, Outcome.SLOW_READER, what)
        self._loop.call_later(LAST_READ_WITHIN_S, stream.abort)

    # -- out of the core

    def _tick(self) -> None:
        self._tick_due = False
        if self.died.done():
            return
        try:
            now_ms = self.clock_ms()
            decisions = self.core.tick(now_ms)
            for witness in self.witnesses:
                try:
                    witness.ticked(now_ms, decisions)
                except Exception as error:
                    self._dismiss(witness, error)
            for decision in decisions:
                self._carry_out(decision)
            self._arm(self.core.next_due_ms())
        except Exception as error:
            self._die(error)

    def _arm(self, due_ms: float | None) -> None:
        if due_ms == self._timer_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_ms = due_ms
        if due_ms is not None:
            self._timer = self._loop.call_later(max(0.0, due_ms - self.clock_ms()) / 1000, self._due)

    def _due(self) -> None:
        self._timer = self._timer_ms = None
        self._tick()

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case AskPrediction(job_id, generated_tokens):
                if self.forecaster is not None:
                    job = self.core.job(job_id)
                    placed = job is not None and job.worker is not None
                    self._questions.put(self.book.live[job_id], generated_tokens, placed=placed)
            case Assign():
                self.workers[decision.worker].assign(self.book.live[decision.job_id], decision)
            case Reorder():
                self.workers[decision.worker].reorder(decision)
            case CancelOn():
                worker = self.workers.get(decision.worker)  # it may have been lost since
                if worker is not None:
                    worker.cancel(decision)
            case End():
                self._end(decision)
            case PolicyFault():
                self.policy_faults.note(decision)

    def _ask(self, request: Request, generated_tokens: int) -> None:
        if self.forecaster is not None:
            self.forecaster.ask(request, generated_tokens)

    def _end(self, end: End) -> None:
        request, job = self.book.live[end.job_id], self.core.job(end.job_id)
        assert job is not None, f"job {end.job_id} was forgotten before its end"
        request.finished = finished(request, job, end, self.core.policy.name, self.clock_ms())
        if request.grace is not None:
            request.grace.cancel()
            request.grace = None
        self.telemetry.ended(request, job, end)
        self.book.ended(request)
        self.core.forget(end.job_id)
        for stream in request.streams:
            stream.wake()
        if request.on_end is not None:
            request.on_end(request)
        if self.forecaster is not None:
            self.forecaster.observe(request, job, end)
        if not self.book.live:
            self._idle.set()

    def _dismiss(self, witness: Witness, error: Exception) -> None:
        """What explains must not break what serves."""
        self._log.error("what records decisions failed and ends", what=type(witness).__name__, exc_info=error)
        self.witnesses = [other for other in self.witnesses if other is not witness]

    def _die(self, error: Exception) -> None:
        self._log.error("the core failed", error=repr(error), exc_info=error)
        if not self.died.done():
            self.died.set_result(f"the scheduling core failed ({error!r}); clients attach again at the next start")
