"""The gRPC `WorkerService` round one engine.

Reading guide: `WorkerService` answers the calls; `leader.py` is one scheduler's stream; `held.py` keeps every token
until it is released; `commands.py` carries out what a leader commands; `prompts.py` tokenizes; `convert.py` checks what
comes in; `host.py` puts server, engine and service together.

The engine goes on whether or not a scheduler listens. One scheduler leads at a time; a new one with a higher epoch (or
the same one again) takes over, is told what is held, and asks for the tokens it lacks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import grpc

from fairlead.config import PROTOCOL_VERSION, WorkerConfig
from fairlead.rpc import Refusal, ServicerContext, invalid, refuse
from fairlead.telemetry import get_logger
from fairlead.telemetry.opening import Telemetry
from fairlead.v1 import worker_pb2, worker_pb2_grpc
from worker_svc import convert
from worker_svc.commands import ENGINE_CALL_WITHIN_S, Commands
from worker_svc.engines.base import Engine, EngineInfo
from worker_svc.held import Ledger
from worker_svc.leader import Leader
from worker_svc.prompts import Prompts
from worker_svc.telemetry import WorkerTelemetry

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
LEAD_WITHIN_S = 10.0
LOOK_EVERY_S = 5.0
MOST_SILENT_LOOKS = 24
"""An engine that has work but tells of no step at so many looks in a row counts as dead: after two minutes."""
RIVAL_AFTER_S = 10.0
"""A scheduler whose stream broke so long ago gives way to another one of the same epoch."""
_ABANDONED_END_WITHIN_S = 10.0

SetServing = Callable[[bool], Awaitable[None]]


class WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    """One engine, its held requests and the scheduler that leads it.

    Attributes:
        died: set to a sentence when the engine has died.
    """

    def __init__(
        self,
        engine: Engine,
        info: EngineInfo,
        config: WorkerConfig,
        worker_id: str,
        set_serving: SetServing,
        now_ms: Callable[[], float],
        telemetry: Telemetry | None = None,
    ) -> None:
        self.died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._engine = engine
        self._info = info
        self._worker_id = worker_id
        self._incarnation = secrets.token_hex(8)
        self._set_serving = set_serving
        self._ledger = Ledger()
        self._telemetry = WorkerTelemetry(telemetry or Telemetry(), now_ms)
        self._commands = Commands(engine, info, self._ledger, config.max_held, now_ms, self._telemetry)
        self._telemetry.observe(engine, info, self._ledger, lambda: self._commands.draining)
        self._leader: Leader | None = None
        self._epoch = 0
        self._epoch_of = ""
        self._led_s = 0.0
        self._progress = asyncio.Event()
        self._prompts = Prompts(engine, info)
        self._log = get_logger("service")
        self._silent_looks = 0
        self._pump_task = asyncio.create_task(self._pump())
        self._watch_task = asyncio.create_task(self._watch_engine())

    async def Describe(
        self,
        request: worker_pb2.WorkerServiceDescribeRequest,  # noqa: ARG002
        context: ServicerContext,  # noqa: ARG002
    ) -> worker_pb2.WorkerServiceDescribeResponse:
        """What this worker is and has."""
        model = convert.step_model(*self._engine.step_model())
        commands = self._commands
        return convert.description(
            self._info, self._worker_id, self._incarnation, commands.max_held, commands.draining, model, self._epoch
        )

    async def Tokenize(
        self, request: worker_pb2.TokenizeRequest, context: ServicerContext
    ) -> worker_pb2.TokenizeResponse:
        """Token ids of a prompt; INVALID_ARGUMENT where the model could not take it."""
        try:
            return await self._prompts.tokenize(request)
        except Refusal as refusal:
            await refuse(context, refusal)

    async def Execute(
        self, request_iterator: AsyncIterator[worker_pb2.ExecuteRequest], context: ServicerContext
    ) -> AsyncIterator[worker_pb2.ExecuteResponse]:
        """The stream of the scheduler that leads."""
        try:
            leader = await self._take_lead(request_iterator)
        except Refusal as refusal:
            await refuse(context, refusal)
        reader = asyncio.create_task(self._read(leader, request_iterator))

        def over(_call: Any) -> None:
            leader.end()
            reader.cancel()
            if self._leader is leader:
                self._leader = None
                self._led_s = asyncio.get_running_loop().time()
            self._progress.set()

        # A call that is cancelled while a write is in flight does not come back here.
        context.add_done_callback(over)  # pyright: ignore[reportArgumentType]: the stub lacks `Protocol`
        try:
            leading = worker_pb2.Leading(
                worker_id=self._worker_id,
                incarnation=self._incarnation,
                protocol_version=PROTOCOL_VERSION,
                held=self._ledger.lead(),
            )
            async for event in leader.events(leading):
                yield event
        finally:
            over(None)
        if leader.refusal is not None:
            await refuse(context, leader.refusal)

    async def Drain(self, request: worker_pb2.DrainRequest, context: ServicerContext) -> worker_pb2.DrainResponse:
        """Takes no more, waits for what runs, ends the rest, reports NOT_SERVING."""
        timeout_ms = request.timeout_ms if request.HasField("timeout_ms") else None
        if timeout_ms is not None and not 0 <= timeout_ms <= 1e12:
            await refuse(context, invalid("timeout_ms", "must be a number of at least 0"))
        finished, abandoned = await self.drain(timeout_ms)
        return worker_pb2.DrainResponse(finished=finished, abandoned=abandoned)

    async def drain(self, timeout_ms: float | None) -> tuple[int, int]:
        """Takes no more and waits at most `timeout_ms` (None: for ever) for what runs; then ends the rest.

        Returns:
            How many finished meanwhile, and how many were ended.
        """
        before = self._ledger.finished
        self._commands.draining = True
        self._wake()
        self._log.info("draining", live=self._ledger.live)
        await self._until(self._is_idle, None if timeout_ms is None else timeout_ms / 1000)
        abandoned = await self._commands.abandon()
        await self._until(self._is_idle, _ABANDONED_END_WITHIN_S)
        await self._set_serving(False)
        self._log.info("drained", abandoned=abandoned)
        return self._ledger.finished - before - abandoned, abandoned

    async def settle(self, timeout_s: float) -> None:
        """Waits at most so long for the leader to have taken and released what has ended."""
        await self._until(lambda: self._leader is None or not len(self._ledger), timeout_s)

    async def close(self) -> None:
        """Ends the stream and the pump; the engine is stopped by its owner."""
        if self._leader is not None:
            self._leader.end(Refusal(grpc.StatusCode.UNAVAILABLE, "the worker stops", reason="STOPPING"))
        for task in (self._pump_task, self._watch_task):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._prompts.close()

    async def _take_lead(self, requests: AsyncIterator[worker_pb2.ExecuteRequest]) -> Leader:
        """The first command decides; raises Refusal."""
        try:
            async with asyncio.timeout(LEAD_WITHIN_S):
                first = await anext(requests, None)
        except TimeoutError:
            first = None
        if first is None or first.WhichOneof("command") != "lead":
            raise _out_of_order("LEAD_FIRST", "the first command must be lead, within 10 s")
        lead = first.lead
        self._check_lead(lead)
        async with self._commands.lock:
            self._check_lead(lead)  # another may have led while this one waited
            if self._leader is not None:
                self._leader.end(_superseded(lead.epoch))
            self._epoch, self._epoch_of = lead.epoch, lead.scheduler_id
            self._leader = Leader(lead, self._ledger, self._capacity)
        self._log.info("leading", scheduler_id=lead.scheduler_id, epoch=lead.epoch, held=len(self._ledger))
        return self._leader

    def _check_lead(self, lead: worker_pb2.Lead) -> None:
        if lead.protocol_version != PROTOCOL_VERSION:
            what = f"this worker speaks version {PROTOCOL_VERSION}, the scheduler {lead.protocol_version}"
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"lead.protocol_version: {what}; run the same release on both",
                fields=[("lead.protocol_version", what)],
                reason="VERSION",
            )
        if not 0 < len(lead.scheduler_id) <= convert.MAX_KEY_CHARS:
            raise invalid("lead.scheduler_id", f"must have 1 to {convert.MAX_KEY_CHARS} characters")
        if lead.epoch < 1:
            raise invalid("lead.epoch", "must be at least 1")
        if lead.epoch < self._epoch or (lead.epoch == self._epoch and self._is_held_for_another(lead)):
            what = f"epoch {self._epoch} of scheduler {self._epoch_of!r} leads this worker, {lead.epoch} is not newer"
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"lead.epoch: {what}",
                fields=[("lead.epoch", what)],
                reason="STALE_EPOCH",
            )

    def _is_held_for_another(self, lead: worker_pb2.Lead) -> bool:
        """Whether another scheduler leads under this very epoch: two that keep their epochs apart, one by mistake.

        The one that leads keeps the worker, over a broken stream too; when it has been gone for a while the other may
        have it, so that a mistake that was put right needs no restart.
        """
        gone_s = asyncio.get_running_loop().time() - self._led_s
        return lead.scheduler_id != self._epoch_of and (self._leader is not None or gone_s < RIVAL_AFTER_S)

    async def _read(self, leader: Leader, requests: AsyncIterator[worker_pb2.ExecuteRequest]) -> None:
        """Carries out a leader's commands until its stream ends or another leads."""
        try:
            async for request in requests:
                await leader.room()
                if self._leader is not leader:
                    return
                # A command that has begun is carried out whole, whatever becomes of the stream.
                await asyncio.shield(self._carry_out(request, leader))
        except Refusal as refusal:  # a message that can't be read
            leader.end(refusal)
        finally:
            leader.end()

    async def _carry_out(self, request: worker_pb2.ExecuteRequest, leader: Leader) -> None:
        try:
            await self._commands.run(request, leader, lambda: self._leader)
        except Refusal as refusal:
            leader.end(refusal)
        except TimeoutError:
            self._engine_died(f"it did not answer a command within {ENGINE_CALL_WITHIN_S:.0f} s")
        except Exception as error:
            self._engine_died(f"a command failed: {error!r}")
        self._progress.set()

    async def _pump(self) -> None:
        """Enters what the engine does into the ledger; never waits for the network."""
        try:
            async for batch in self._engine.batches():
                self._silent_looks = 0
                self._ledger.record(batch)
                self._telemetry.batch(batch, self._ledger)
                if batch.ends:
                    self._progress.set()
                self._wake()
            self._engine_died("it ended by itself")
        except Exception as error:
            self._engine_died(str(error) or repr(error))

    async def _watch_engine(self) -> None:
        """An engine that has work and makes no step is as good as dead, though this process answers.

        Looks are counted, not time: a process that was stopped for long, or a clock that leaps, is no silent engine.
        """
        while not self.died.done():
            await asyncio.sleep(LOOK_EVERY_S)
            self._silent_looks = self._silent_looks + 1 if self._ledger.live else 0
            if self._silent_looks >= MOST_SILENT_LOOKS:
                silent_s = LOOK_EVERY_S * MOST_SILENT_LOOKS
                self._engine_died(f"it made no step for {silent_s:.0f} s with {self._ledger.live} requests to work on")

    def _engine_died(self, detail: str) -> None:
        if self.died.done():
            return
        sentence = f"the engine {self._info.engine!r} has died: {detail}"
        self._log.error("engine died", detail=detail, live=self._ledger.live)
        self._commands.refuse_all(sentence)
        self._ledger.fail_all(sentence)
        self._telemetry.engine_died(sentence)
        self._progress.set()
        self._wake()
        self.died.set_result(sentence)

    def _wake(self) -> None:
        if self._leader is not None:
            self._leader.wake()

    def _capacity(self) -> worker_pb2.Capacity:
        state, info = self._ledger.state, self._info
        return worker_pb2.Capacity(
            slots_free=max(0, info.slots - state.running),
            kv_blocks_free=max(0, info.kv_blocks - state.kv_blocks_used),
            step_model=convert.step_model(*self._engine.step_model()),
            draining=self._commands.draining,
        )

    def _is_idle(self) -> bool:
        return not self._ledger.live

    async def _until(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        """Waits until `done`, looked at whenever something ends or a command was carried out; at most so long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not done():
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            pass


def _out_of_order(reason: str, message: str) -> Refusal:
    return Refusal(grpc.StatusCode.FAILED_PRECONDITION, message, reason=reason)


def _superseded(epoch: int) -> Refusal:
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, f"lead.epoch: a stream with epoch {epoch} leads now", reason="SUPERSEDED"
    )
