"""Questions to the predictor, distributions back, outcomes to all of its replicas. What fails here costs quality only.

The scheduler never waits for an answer. A question is in flight at most `timeout_s`; one that no replica can take, or
that meets the bound, is answered "none" at once. A name may stand for several replicas (`dns:///name:port`): all
questions about one request go to the same one, which keeps its prompt, unless that one is much busier than another;
where a stream breaks or a replica is full, its open questions go to another at once. Each is told every outcome.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.length_wire import from_wire
from fairlead.lengths import LengthDistribution
from fairlead.rpc import Outgoing
from fairlead.telemetry import get_logger
from fairlead.v1 import predictor_pb2
from scheduler_svc.core.types import End, Job, Predicted
from scheduler_svc.names import Names, Resolve, resolve
from scheduler_svc.outcome import observation
from scheduler_svc.predictor_replica import Listener, Replica
from scheduler_svc.requests import Request
from scheduler_svc.shell import Shell
from scheduler_svc.wire import class_to_wire

if TYPE_CHECKING:
    from fairlead.telemetry.traces import Trace

MAX_IN_FLIGHT = 2048
MAX_TEXT_CHARS = 16_384
"""Of a prompt or an answer; of a longer one its beginning and its end, half each."""
MAX_ASKED = 2
"""Replicas that are asked one question, one after the other."""
BUSIER_BY = 32
"""Questions that a request's own replica may have in flight above the least busy one."""
SILENT_S = 10.0
"""How long a replica that let a question time out is passed over, if it does not answer before."""
RESOLVE_EVERY_S = 3.0

_OVERLOADED = predictor_pb2.PREDICTION_REFUSAL_REASON_OVERLOADED


@dataclass(slots=True)
class _Question:
    handle: int
    wire: predictor_pb2.PredictRequest
    asked_s: float
    trace: Trace | None
    replica: Replica
    asked: int = 1


class PredictorLink:
    """The predictor, be it one process or several; the shell's `Forecaster`.

    Args:
        address: host:port, or dns:///name:port.
        shell: takes the answers.
        timeout_s: after which a question counts as not answered.
        resolve_every_s: how often a name is asked again.
        resolver: of names.
        outgoing: how it is reached; None: in plain text, on this machine alone.

    Attributes:
        replicas: by host:port.
        answered, missing: questions that a sound answer came to in time, and the others.
        moved: questions that went to another replica.
    """

    def __init__(
        self,
        address: str,
        shell: Shell,
        timeout_s: float,
        resolve_every_s: float = RESOLVE_EVERY_S,
        resolver: Resolve = resolve,
        outgoing: Outgoing | None = None,
    ) -> None:
        self.replicas: dict[str, Replica] = {}
        self.answered = 0
        self.missing = 0
        self.moved = 0
        self._shell = shell
        self._outgoing = outgoing or Outgoing()
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._questions: OrderedDict[int, _Question] = OrderedDict()
        self._next_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._log = get_logger("predictor_link")
        self._closing: set[asyncio.Task[None]] = set()
        self._listener = Listener(self._answered, self._lost, self._wanted)
        self._names = Names([address], resolve_every_s, self._settle, resolver)
        self._settle()

    @property
    def connected(self) -> bool:
        """At least one replica's stream stands."""
        return any(replica.connected for replica in self.replicas.values())

    @property
    def replicas_connected(self) -> int:
        """Replicas whose stream stands."""
        return sum(replica.connected for replica in self.replicas.values())

    @property
    def predictor(self) -> str:
        """Name of the predictor, once one was reached."""
        names = [replica.predictor for replica in self.replicas.values() if replica.predictor]
        return names[0] if names else ""

    @property
    def problem(self) -> str:
        """Why none is connected, for an operator; "" where one is."""
        if self.connected:
            return ""
        told = [f"{replica.address}: {replica.problem}" for replica in self.replicas.values()]
        return "; ".join([*told, *self._names.unresolved.values()]) or "not reached yet"

    @property
    def in_flight(self) -> int:
        """Questions that wait for an answer."""
        return len(self._questions)

    def ask(self, request: Request, generated_tokens: int) -> None:
        """Asks about a live request; a `Predicted` event follows, with or without a distribution."""
        accepted = request.accepted
        replica = self._replica_for(request.handle)
        if replica is None or len(self._questions) >= MAX_IN_FLIGHT or generated_tokens >= accepted.max_tokens:
            self._none(request.handle, generated_tokens, None, "not_connected" if replica is None else "too_many")
            return
        self._next_id += 1
        trace = self._shell.telemetry.question(request, generated_tokens)
        wire = predictor_pb2.PredictRequest(
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
        self._questions[self._next_id] = _Question(request.handle, wire, self._loop.time(), trace, replica)
        replica.in_flight += 1
        replica.send(wire)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._time_out)

    def observe(self, request: Request, job: Job, end: End) -> None:
        """Tells every replica how long an answer was, when it suits."""
        if len(request.answer):
            told = observation(request, job, end)
            for replica in self.replicas.values():
                replica.observe(told)

    async def close(self) -> None:
        """Ends the streams."""
        if self._timer is not None:
            self._timer.cancel()
        await self._names.close()
        await asyncio.gather(*(replica.close() for replica in self.replicas.values()), *self._closing)

    # -- replicas

    def _settle(self) -> None:
        """Starts replicas at new addresses, ends those at addresses that are gone and no longer answer."""
        wanted = self._names.wanted
        for address in sorted(wanted - self.replicas.keys()):
            self.replicas[address] = Replica(address, self._listener, self._outgoing)
        for address in sorted(self.replicas.keys() - wanted):
            if not self.replicas[address].connected:
                closing = asyncio.create_task(self.replicas.pop(address).close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def _replica_for(self, handle: int, *, but: Replica | None = None) -> Replica | None:
        """The request's own replica (the highest of hashes: it stays when others come and go), or the least busy."""
        there: Sequence[Replica] = [one for one in self.replicas.values() if one.connected and one is not but]
        now_s = self._loop.time()
        there = [one for one in there if one.silent_until_s <= now_s] or there
        if not there:
            return None
        own = max(there, key=lambda one: (zlib.crc32(f"{handle} {one.address}".encode()), one.address))
        idlest = min(there, key=lambda one: one.in_flight)
        return idlest if own.in_flight > idlest.in_flight + BUSIER_BY else own

    def _wanted(self, replica: Replica, query_id: int) -> bool:
        question = self._questions.get(query_id)
        return question is not None and question.replica is replica

    def _lost(self, replica: Replica) -> None:
        mine = [query_id for query_id, question in self._questions.items() if question.replica is replica]
        for query_id in mine:
            if not self._moves(self._questions[query_id]):
                self._give_up(query_id, "stream_broke")

    def _moves(self, question: _Question) -> bool:
        """Asks another replica, if there is one and the question was not moved before."""
        other = self._replica_for(question.handle, but=question.replica)
        if other is None or question.asked >= MAX_ASKED:
            return False
        question.replica.in_flight -= 1
        other.in_flight += 1
        question.replica = other
        question.asked += 1
        self.moved += 1
        other.send(question.wire)
        return True

    # -- answers

    def _answered(self, replica: Replica, response: predictor_pb2.PredictResponse) -> None:
        if not self._wanted(replica, response.query_id):
            return
        question = self._questions[response.query_id]
        distribution: LengthDistribution | None = None
        reason = "refused"
        if response.WhichOneof("result") == "distribution":
            try:
                distribution = from_wire(response.distribution, question.wire.max_tokens)
            except ValueError as error:
                reason = "malformed"
                self._log.debug("prediction not usable", error=str(error))
        elif response.refusal.reason == _OVERLOADED and self._moves(question):
            return
        if distribution is None:
            self._give_up(response.query_id, reason)
            return
        self._close(response.query_id)
        self.answered += 1
        latency_ms = 1000 * (self._loop.time() - question.asked_s)
        self._shell.telemetry.predicted(question.trace, latency_ms, distribution)
        self._shell.handle(Predicted(question.handle, question.wire.generated_tokens, distribution))

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
            if question.replica.heard_s < question.asked_s:
                question.replica.silent_until_s = now_s + SILENT_S
            self._give_up(query_id, "late")

    def _give_up(self, query_id: int, reason: str) -> None:
        question = self._close(query_id)
        self._none(question.handle, question.wire.generated_tokens, question.trace, reason)

    def _close(self, query_id: int) -> _Question:
        question = self._questions.pop(query_id)
        question.replica.in_flight -= 1
        return question

    def _none(self, handle: int, generated_tokens: int, trace: Trace | None, reason: str) -> None:
        self.missing += 1
        self._shell.telemetry.not_predicted(trace, reason)
        self._shell.handle(Predicted(handle, generated_tokens, None))


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARS:
        return text
    return text[: MAX_TEXT_CHARS // 2] + text[-MAX_TEXT_CHARS // 2 :]
