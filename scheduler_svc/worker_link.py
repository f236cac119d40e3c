"""The connection to one worker address: describe, lead, stream, and come back when the stream breaks.

While a stream is broken the worker goes on with what it has. It gets nothing new, and for a grace its requests are
taken to be alive; comes the same incarnation back in time, its answers are replayed, else they go on elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from grpc import aio

from fairlead.config import PROTOCOL_VERSION, ConfigError
from fairlead.rpc import InsecureAddress, Outgoing, in_plain_words, is_ending, together
from fairlead.telemetry import get_logger
from fairlead.v1 import worker_pb2, worker_pb2_grpc
from scheduler_svc.core.types import StepCost, WorkerUp, WorkerUpdated
from scheduler_svc.executions import Executions
from scheduler_svc.outbox import Outbox, WorkerDoesNotRead
from scheduler_svc.shell import Shell
from scheduler_svc.wire import cost_from_wire

HELD_PER_SLOT = 4
"""Requests placed at most, for each slot, on a worker of an earlier release, which does not tell its own bound."""
FIRST_RETRY_S = 0.05
MAX_RETRY_S = 3.0
FLUSH_WITHIN_S = 1.0


@dataclass(frozen=True)
class Patience:
    """How long the scheduler waits for a worker, s.

    Attributes:
        grace_s: after a broken stream, until its requests go on elsewhere.
        answer_s: for Describe and for the answer to Lead.
        silence_s: without any message on the stream; a worker tells its capacity each second.
        clear_out_s: for a worker to let go of requests of an earlier time.
    """

    grace_s: float = 5.0
    answer_s: float = 10.0
    silence_s: float = 15.0
    clear_out_s: float = 5.0


@dataclass(frozen=True)
class Leadership:
    """Under which name and epoch this scheduler leads its workers.

    Attributes:
        scheduler_id, epoch: as workers are told.
        claims: address by incarnation, so that a worker which has two addresses is led at one of them.
        newer_seen: told of a newer epoch that leads a worker, so that the next start is newer still.
    """

    scheduler_id: str
    epoch: int
    claims: dict[str, str] = field(default_factory=dict[str, str])
    newer_seen: Callable[[int], None] = lambda _epoch: None


class _Unusable(Exception):
    """A worker that can't be used as it is; the message is one sentence for an operator."""


class WorkerLink:
    """One address of a worker.

    Attributes:
        address: host:port.
        description: what it said of itself last; None before it was reached.
        executions: what it runs for us; None while the core does not count on it.
        connected: the stream stands and the core counts on it.
        problem: why it is not connected, for an operator.
        draining: it takes nothing new.
        step_model: its newest fit.
        metadata: what each call to it carries.
    """

    def __init__(
        self, address: str, shell: Shell, leadership: Leadership, patience: Patience, outgoing: Outgoing
    ) -> None:
        self.address = address
        self.metadata: Sequence[tuple[str, str]] = ()
        self._outgoing = outgoing
        self.description: worker_pb2.WorkerServiceDescribeResponse | None = None
        self.executions: Executions | None = None
        self.connected = False
        self.problem = "not reached yet"
        self.draining = False
        self.step_model = worker_pb2.StepModel()
        self.stub: worker_pb2_grpc.WorkerServiceAsyncStub | None = None
        self._shell = shell
        self._leadership = leadership
        self._patience = patience
        self._lost_timer: asyncio.TimerHandle | None = None
        self._outbox = Outbox()
        self._retry_s = FIRST_RETRY_S
        self._log = get_logger("worker_link")
        self._task = asyncio.create_task(self._run())

    @property
    def context_tokens(self) -> int:
        """Longest prompt and answer together that this worker can take."""
        assert self.description is not None, "asked of a worker that was never reached"
        kv_tokens = self.description.kv_blocks * self.description.kv_block_tokens
        return min(self.description.max_context_tokens, kv_tokens or self.description.max_context_tokens)

    async def close(self) -> None:
        """Writes what is still to be written, ends the stream; the worker keeps what it holds."""
        if self.connected:
            await self._outbox.flushed(FLUSH_WITHIN_S)
        if self._lost_timer is not None:
            self._lost_timer.cancel()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            problem = await self._attempt()
            self._broken(problem)
            await asyncio.sleep(self._retry_s)
            self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)

    async def _attempt(self) -> str:
        """One stream from start to end; returns why it ended."""
        try:
            self.metadata = self._outgoing.metadata()
            async with self._outgoing.channel(self.address) as channel:
                await self._session(channel)
        except (_Unusable, WorkerDoesNotRead, ConfigError, InsecureAddress) as error:
            return str(error)
        except aio.AioRpcError as error:
            return f"{error.code().name}: {in_plain_words(error.details() or '')}"
        except TimeoutError:
            return "it did not answer in time"
        except asyncio.CancelledError:
            if is_ending():
                raise
            return "the call was cancelled"
        except ValueError as error:
            return f"it sent a malformed message: {error}"
        except Exception as error:
            # What goes wrong with one worker must not cost the others theirs.
            self._log.exception("worker stream failed", address=self.address)
            return f"an error of the scheduler's own: {error!r}"
        return "it ended the stream"

    def _broken(self, problem: str) -> None:
        """Takes note of a stream that ended, or did not come about."""
        if self.connected:
            self._log.warning("worker stream broke", address=self.address, problem=problem)
        elif problem != self.problem:
            self._log.warning("worker not connected", address=self.address, problem=problem)
        self.connected = False
        self.stub = None
        self.problem = problem
        if self.executions is not None and self._lost_timer is None:
            # It may only be the stream: nothing new goes there, and what is there gets its grace.
            self._shell.handle(WorkerUpdated(self.executions.name, draining=True))
            self._lost_timer = asyncio.get_running_loop().call_later(self._patience.grace_s, self._lost)
        self._claim_only(self.executions)

    def _lost(self) -> None:
        """The incarnation counts as gone."""
        if self._lost_timer is not None:
            self._lost_timer.cancel()
            self._lost_timer = None
        if self.executions is not None:
            self._log.warning("worker lost", address=self.address, worker=self.executions.name)
            name, self.executions = self.executions.name, None
            self._shell.worker_lost(name)
        self._claim_only(None)

    def _claim(self, name: str) -> None:
        holder = self._leadership.claims.setdefault(name, self.address)
        if holder != self.address:
            raise _Unusable(f"it is led already, at its other address {holder}")

    def _claim_only(self, executions: Executions | None) -> None:
        claims = self._leadership.claims
        kept = executions.name if executions is not None else None
        for name in [name for name, address in claims.items() if address == self.address and name != kept]:
            del claims[name]

    async def _session(self, channel: aio.Channel) -> None:
        stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)
        description: worker_pb2.WorkerServiceDescribeResponse = await stub.Describe(
            worker_pb2.WorkerServiceDescribeRequest(), timeout=self._patience.answer_s, metadata=self.metadata
        )
        name = f"{description.worker_id}/{description.incarnation}"
        if self.executions is not None and self.executions.name != name:
            self._lost()
        self._check(description, name)
        self.description, self.stub = description, stub
        call: Any = stub.Execute(metadata=self.metadata)
        try:
            async with asyncio.timeout(self._patience.answer_s):
                leading = await self._lead(call, description)
            self._outbox = Outbox()
            await together(call, self._read(call, name, leading), self._write(call, self._outbox))
        finally:
            call.cancel()

    def _check(self, description: worker_pb2.WorkerServiceDescribeResponse, name: str) -> None:
        theirs = description.protocol_version
        if theirs != PROTOCOL_VERSION:
            raise _Unusable(
                f"worker {description.worker_id!r} speaks protocol version {theirs}, this scheduler "
                f"{PROTOCOL_VERSION}; run the same release on both"
            )
        if description.leader_epoch > self._leadership.epoch:
            self._leadership.newer_seen(description.leader_epoch)
            raise _Unusable(
                f"another scheduler has led worker {description.worker_id!r} under epoch {description.leader_epoch}, "
                f"this one has {self._leadership.epoch}; stop the other one, then restart this one: it will be newer"
            )
        if not description.slots or not description.max_context_tokens:
            raise _Unusable(f"worker {description.worker_id!r} says that it has no slots or no context")
        self._claim(name)

    async def _lead(self, call: Any, description: worker_pb2.WorkerServiceDescribeResponse) -> worker_pb2.Leading:
        lead = worker_pb2.Lead(
            scheduler_id=self._leadership.scheduler_id,
            epoch=self._leadership.epoch,
            protocol_version=PROTOCOL_VERSION,
        )
        await call.write(worker_pb2.ExecuteRequest(lead=lead))
        first = await call.read()
        if first is aio.EOF or first.WhichOneof("event") != "leading":
            raise _Unusable("it did not answer that this scheduler leads it")
        if first.leading.incarnation != description.incarnation:
            raise _Unusable("it started anew between two calls")
        return first.leading

    async def _write(self, call: Any, outbox: Outbox) -> None:
        while True:
            await call.write(await outbox.next())

    async def _read(self, call: Any, name: str, leading: worker_pb2.Leading) -> None:
        assert self.description is not None
        if self.executions is not None:
            executions = self.executions
            executions.resume(leading.held, self._outbox)
            self._stands(executions)
            self._shell.handle(WorkerUpdated(name, draining=self.description.draining))
        else:
            executions = Executions(name, self.description.worker_id, self._shell, self._outbox)
            executions.clear_out(leading.held)
        clear_by = asyncio.get_running_loop().time() + self._patience.clear_out_s
        while True:
            if not self.connected and (not executions.leftover or asyncio.get_running_loop().time() > clear_by):
                self._up(executions, self.description)
            async with asyncio.timeout(self._patience.silence_s):
                event = await call.read()
            if event is aio.EOF:
                return
            self._take(event, executions)

    def _take(self, event: worker_pb2.ExecuteResponse, executions: Executions) -> None:
        match event.WhichOneof("event"):
            case "steps":
                executions.take_steps(event.steps)
            case "replayed":
                executions.take_replay(event.replayed)
            case "admit_refused":
                executions.take_refusal(event.admit_refused)
            case "capacity":
                self._take_capacity(event.capacity, executions.name)
            case _:
                raise ValueError("an event that this release does not know")

    def _take_capacity(self, capacity: worker_pb2.Capacity, name: str) -> None:
        if self.connected and (capacity.step_model != self.step_model or capacity.draining != self.draining):
            cost = cost_from_wire(capacity.step_model)
            model = capacity.step_model
            error = model.relative_error if model.HasField("relative_error") else None
            self._shell.handle(WorkerUpdated(name, cost=cost, draining=capacity.draining, relative_error=error))
        self.step_model, self.draining = capacity.step_model, capacity.draining

    def _up(self, executions: Executions, description: worker_pb2.WorkerServiceDescribeResponse) -> None:
        """The core counts on it from now on."""
        self._claim(executions.name)  # again: its grace may have passed since the stream began
        self.executions = executions
        self._stands(executions)
        self.draining = description.draining
        self.step_model = description.step_model
        up = WorkerUp(
            worker=executions.name,
            model=description.model,
            slots=description.slots,
            step_seats=min(description.step_seats or description.slots, description.slots),
            kv_blocks=description.kv_blocks,
            kv_block_tokens=description.kv_block_tokens,
            max_held=description.max_held if description.HasField("max_held") else HELD_PER_SLOT * description.slots,
            cost=cost_from_wire(description.step_model) or StepCost(),
        )
        self._shell.worker_up(up, executions)
        if description.draining:
            self._shell.handle(WorkerUpdated(executions.name, draining=True))

    def _stands(self, executions: Executions) -> None:
        if self._lost_timer is not None:
            self._lost_timer.cancel()
            self._lost_timer = None
        self.connected = True
        self.problem = ""
        self._retry_s = FIRST_RETRY_S
        self._log.info("worker connected", address=self.address, worker=executions.name)
