"""The way of a job's line into the scheduler: the intake of every request, without a network and without a client."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from fairlead.config import Tenant
from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.core.types import Outcome
from scheduler_svc.intake import Intake
from scheduler_svc.requests import Request
from scheduler_svc.shell import Shell


@dataclass(frozen=True, slots=True)
class Ending:
    """How one run of a line ended, and what it brought."""

    outcome: types_pb2.Outcome
    detail: str = ""
    text: str = ""
    token_ids: array[int] = field(default_factory=lambda: array("I"))
    matched_stop: str | None = None
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0


class Run(Protocol):
    """One run of a line."""

    @property
    def ended(self) -> asyncio.Future[Ending]:
        """Done when it has its outcome."""
        ...

    @property
    def begun(self) -> bool:
        """A token is out."""
        ...

    def cancel(self, outcome: Outcome, detail: str) -> None:
        """Ends it, on the engine too; one that has ended stays as it is."""
        ...


class Door(Protocol):
    """What the runner knows of the scheduler."""

    async def ask(self, tenant: str, request: inference_pb2.GenerateRequest, time_left_s: float) -> Run:
        """Has a request accepted. Raises Refusal."""
        ...

    def most_in_flight(self, tenant: str, configured: int) -> int:
        """Lines of a tenant that may be in flight: what is configured, or less where its own limits are lower."""
        ...


class AcceptedRun:
    """A run inside this process."""

    def __init__(self, shell: Shell, request: Request) -> None:
        self._shell = shell
        self._request = request
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        if request.finished is not None:
            self._note(request)
        else:
            request.on_end = self._note

    @property
    def ended(self) -> asyncio.Future[Ending]:
        """Done when it has its outcome."""
        return self._ended

    @property
    def begun(self) -> bool:
        """A token is out."""
        return len(self._request.answer) > 0

    def cancel(self, outcome: Outcome, detail: str) -> None:
        """Ends it, on the engine too."""
        self._shell.cancel(self._request, outcome, detail)

    def _note(self, request: Request) -> None:
        last = request.finished
        assert last is not None, "a request is told of at its end"
        if self._ended.done():
            return
        self._ended.set_result(
            Ending(
                outcome=last.outcome,
                detail=last.detail,
                text=request.answer.text(),
                token_ids=request.answer.tokens,
                matched_stop=last.matched_stop if last.HasField("matched_stop") else None,
                prompt_tokens=last.usage.prompt_tokens,
                cached_prompt_tokens=last.usage.cached_prompt_tokens,
                output_tokens=last.usage.output_tokens,
            )
        )


class IntakeDoor:
    """The door of a real scheduler.

    Args:
        shell, intake: of the scheduler.
        tenant_of: the tenant of this name as it is configured now; None where there is none.
    """

    def __init__(self, shell: Shell, intake: Intake, tenant_of: Callable[[str], Tenant | None]) -> None:
        self._shell = shell
        self._intake = intake
        self._tenant_of = tenant_of

    async def ask(self, tenant: str, request: inference_pb2.GenerateRequest, time_left_s: float) -> AcceptedRun:
        """Has a request accepted, or finds the one that has its id and content. Raises Refusal."""
        known = self._tenant_of(tenant)
        if known is not None and known.disabled:
            raise Refusal(
                grpc.StatusCode.UNAVAILABLE,
                f"tenant {tenant!r} is disabled: its lines wait until it is enabled again",
                retry_after_ms=10_000,
                reason="TENANT_DISABLED",
            )
        if known is None or "be" not in known.classes:
            raise Refusal(
                grpc.StatusCode.UNAVAILABLE,
                f"tenant {tenant!r} may not send best-effort requests now",
                retry_after_ms=10_000,
                reason="CLASS_NOT_ALLOWED",
            )
        asked = self._shell.telemetry.asked_inside(request, known)
        accepted, _ = await self._intake.accept(request, known, time_left_s, asked)
        return AcceptedRun(self._shell, accepted)

    def most_in_flight(self, tenant: str, configured: int) -> int:
        """What is configured, or half of what the tenant may have in flight or queued: the rest is for its calls."""
        known = self._tenant_of(tenant)
        if known is None:
            return configured
        own = (known.limits.max_in_flight, known.limits.max_queued_requests)
        return min([configured, *(max(1, most // 2) for most in own if most is not None)])
