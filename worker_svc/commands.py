"""Carries out what a leader commands: one command at a time, whichever stream it came on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from fairlead.rpc import Refusal, invalid
from fairlead.telemetry import get_logger
from fairlead.v1 import types_pb2, worker_pb2
from worker_svc import convert
from worker_svc.engines.base import BadPrompt, Engine, EngineFailed, EngineInfo, EngineRequest
from worker_svc.held import Ledger
from worker_svc.leader import Leader
from worker_svc.telemetry import WorkerTelemetry

ENGINE_CALL_WITHIN_S = 60.0

CurrentLeader = Callable[[], Leader | None]


class _Refused(Exception):
    """An Admit that is not taken: reason, detail."""

    def __init__(self, reason: worker_pb2.AdmitRefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Commands:
    """Commands to engine and ledger.

    Attributes:
        lock: held while a command is carried out, or the lead changes.
        draining: no Admit is taken any more.
        max_held: requests held at once, waiting ones included.
    """

    def __init__(
        self,
        engine: Engine,
        info: EngineInfo,
        ledger: Ledger,
        max_held: int,
        now_ms: Callable[[], float],
        telemetry: WorkerTelemetry,
    ) -> None:
        self.lock = asyncio.Lock()
        self.draining = False
        self.max_held = max_held
        self._engine = engine
        self._info = info
        self._ledger = ledger
        self._now_ms = now_ms
        self._telemetry = telemetry
        self._dead = ""
        self._log = get_logger("commands")

    def refuse_all(self, sentence: str) -> None:
        """The engine has died: nothing is taken, nothing asked of it."""
        self.draining = True
        self._dead = sentence

    async def run(self, request: worker_pb2.ExecuteRequest, leader: Leader, current: CurrentLeader) -> None:
        """Carries out one command of `leader`; nothing if it leads no more.

        Raises:
            Refusal: the command ends the stream.
            EngineFailed: the engine did not answer, or has died.
        """
        async with self.lock, asyncio.timeout(ENGINE_CALL_WITHIN_S):
            if current() is not leader:
                return
            match request.WhichOneof("command"):
                case "admit":
                    await self._admit(request.admit, current)
                case "ranks":
                    await self._rank(request.ranks, leader)
                case "cancel":
                    await self._end(self._ledger.live_handles(request.cancel.handles))
                case "release":
                    await self._end(self._ledger.release(request.release.handles))
                case "replay":
                    leader.replay(request.replay.handle, request.replay.from_token)
                case "lead":
                    raise Refusal(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        "lead: this stream leads already; open another to lead anew",
                        reason="LEADS_ALREADY",
                    )
                case _:
                    raise invalid("command", "is missing, or unknown to this release")

    async def abandon(self) -> int:
        """Ends all that lives, for the operator; returns how many."""
        async with self.lock:
            live = self._ledger.live_handles()
            await self._end(live, types_pb2.OUTCOME_CANCELLED_BY_OPERATOR)
            return len(live)

    async def _admit(self, admit: worker_pb2.Admit, current: CurrentLeader) -> None:
        try:
            if not self._is_new(admit):
                return
            request = convert.engine_request(admit, self._info, self._now_ms())
            self._ledger.add(admit)
            with self._telemetry.admitted(admit):
                await self._give(request)
        except BadPrompt as error:
            self._refuse(admit, worker_pb2.ADMIT_REFUSAL_REASON_INVALID, str(error), current())
        except _Refused as refused:
            self._refuse(admit, refused.reason, refused.detail, current())

    async def _give(self, request: EngineRequest) -> None:
        """The engine takes a request that the ledger holds already, for its first step may come before this returns."""
        try:
            await self._engine.admit(request)
        except BadPrompt:
            self._ledger.drop(request.handle)
            raise
        except (EngineFailed, TimeoutError):
            raise
        except Exception as error:
            # What one request brings about must not end the others.
            # Its text may quote the prompt, so it stays out of the log.
            self._log.error("the engine failed to take a request", handle=request.handle, error=type(error).__name__)
            self._ledger.drop(request.handle)
            raise BadPrompt(f"the engine did not take it: {type(error).__name__}") from None

    def _is_new(self, admit: worker_pb2.Admit) -> bool:
        """Whether the engine is to have it; False: it was told already, or is out of date. Raises _Refused."""
        held = self._ledger.get(admit.handle)
        if held is not None:
            same = admit.request_key == held.admit.request_key and not held.released
            if same and admit.attempt <= held.admit.attempt:
                return False
            raise _Refused(
                worker_pb2.ADMIT_REFUSAL_REASON_DUPLICATE,
                f"handle {admit.handle} is held as attempt {held.admit.attempt} of another placement",
            )
        if self.draining:
            raise _Refused(worker_pb2.ADMIT_REFUSAL_REASON_DRAINING, self._dead or "the worker drains")
        if len(self._ledger) >= self.max_held:
            what = f"{self.max_held} requests are held (worker.max_held)"
            raise _Refused(worker_pb2.ADMIT_REFUSAL_REASON_FULL, what)
        return True

    def _refuse(
        self, admit: worker_pb2.Admit, reason: worker_pb2.AdmitRefusalReason, detail: str, leader: Leader | None
    ) -> None:
        name = worker_pb2.AdmitRefusalReason.Name(reason).removeprefix("ADMIT_REFUSAL_REASON_")
        self._log.debug("admit refused", handle=admit.handle, reason=name)
        self._telemetry.refused(admit.handle, name, detail, is_held=admit.handle in self._ledger)
        if leader is not None:
            refused = worker_pb2.AdmitRefused(
                handle=admit.handle, attempt=admit.attempt, reason=reason, detail=detail[:500]
            )
            leader.answer(worker_pb2.ExecuteResponse(admit_refused=refused))

    async def _rank(self, ranks: worker_pb2.Ranks, leader: Leader) -> None:
        rules = convert.step_rules(ranks.rules, self._info.slots) if ranks.HasField("rules") else None
        if ranks.version <= leader.ranks_version or self._dead:
            return
        leader.ranks_version = ranks.version
        await self._engine.set_ranks(self._ledger.live_handles(ranks.handles), rules)

    async def _end(
        self, live: list[int], cancelled_as: types_pb2.Outcome = types_pb2.OUTCOME_CANCELLED_BY_CLIENT
    ) -> None:
        for handle in live:
            held = self._ledger.get(handle)
            if held is not None:
                held.cancelled_as = cancelled_as
        if live and not self._dead:
            await self._engine.cancel(live)
