"""What clients see: `InferenceService`. Every handler authenticates first; every refusal is typed.

Reading guide: `auth.py` says who asks, `validation.py` checks the fields, `intake.py` makes an accepted request of a
call, `streams.py` is a client's stream of one request, `requests.py` finds requests by id.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn, TypeVar

import grpc

from fairlead.rpc import Refusal, ServicerContext, refuse
from fairlead.v1 import inference_pb2, inference_pb2_grpc
from scheduler_svc.auth import Authenticator
from scheduler_svc.core.types import Outcome
from scheduler_svc.intake import Intake
from scheduler_svc.requests import Request
from scheduler_svc.shell import Shell
from scheduler_svc.streams import ClientStream
from scheduler_svc.validation import check_request_id

_Response = TypeVar("_Response", inference_pb2.GenerateResponse, inference_pb2.AttachResponse)
TURNS_TO_WORKER = 2
"""Turns of the event loop in which an accepted request is placed and written to its worker, before its client is told
that it is accepted: the first token waits for the one, for the other nobody does."""
SERVICE = inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].full_name
GENERATE = f"/{SERVICE}/Generate"


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """Generate, Attach, Cancel, ListModels."""

    def __init__(self, shell: Shell, intake: Intake, authenticator: Authenticator) -> None:
        self._shell = shell
        self._intake = intake
        self._authenticator = authenticator

    async def Generate(self, request: inference_pb2.GenerateRequest, context: ServicerContext) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Accepts a request and streams its answer; with a known id and the same content, streams that one."""
        try:
            with self._shell.telemetry.asked(request, context) as asked:
                asked.tenant = self._authenticator.caller(context)
                known, from_token = await self._intake.accept(request, asked.tenant, _time_left_s(context), asked)
                stream = self._open(known, from_token, context)
        except Refusal as refusal:
            await refuse(context, refusal)
        for _ in range(TURNS_TO_WORKER):
            await asyncio.sleep(0)
        await self._send(stream, inference_pb2.GenerateResponse, context)

    async def Attach(self, request: inference_pb2.AttachRequest, context: ServicerContext) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Streams the answer of a request that was accepted before."""
        try:
            known = self._find(request.request_id, context)
            stream = self._open(known, request.from_token, context)
        except Refusal as refusal:
            await self._refuse(context, refusal)
        await self._send(stream, inference_pb2.AttachResponse, context)

    async def Cancel(
        self, request: inference_pb2.CancelRequest, context: ServicerContext
    ) -> inference_pb2.CancelResponse:
        """Ends a request of the same tenant; one that has ended stays as it is."""
        try:
            known = self._find(request.request_id, context)
        except Refusal as refusal:
            await self._refuse(context, refusal)
        live = known.finished is None
        self._shell.cancel(known, Outcome.CANCELLED_BY_CLIENT, "its client cancelled it")
        return inference_pb2.CancelResponse(cancelled=live)

    async def ListModels(
        self,
        request: inference_pb2.ListModelsRequest,  # noqa: ARG002
        context: ServicerContext,
    ) -> inference_pb2.ListModelsResponse:
        """The models that connected workers serve."""
        try:
            self._authenticator.caller(context)
        except Refusal as refusal:
            await self._refuse(context, refusal)
        models = [
            inference_pb2.ModelInfo(
                model=model, max_context_tokens=min(link.context_tokens for link in links), workers=len(links)
            )
            for model, links in self._intake.models().items()
        ]
        return inference_pb2.ListModelsResponse(models=models)

    async def _send(self, stream: ClientStream, response: type[_Response], context: ServicerContext) -> None:
        """Everything from where the stream begins to the outcome, one write at a time."""
        known, write = stream.request, context.write
        message = response()
        delta = message.delta  # written over and over: a write has serialised it before anything else can run
        try:
            await write(response(accepted=known.accepted))
            while await stream.next(delta):
                await write(message)
            if stream.cut is None:
                await write(response(finished=known.finished))
        finally:
            self._shell.detach(stream)
        if stream.cut is not None:
            await self._refuse(context, stream.cut)

    async def _refuse(self, context: ServicerContext, refusal: Refusal) -> NoReturn:
        """Ends a call that asks for nothing new, and counts it."""
        self._shell.telemetry.call_refused("inference", refusal)
        await refuse(context, refusal)

    def _find(self, request_id: str, context: ServicerContext) -> Request:
        """A request of the calling tenant. Raises Refusal; another tenant's request is as unknown as none."""
        tenant = self._authenticator.caller(context)
        check_request_id(request_id)
        known = self._shell.book.find((tenant.name, request_id))
        if known is None:
            raise Refusal(
                grpc.StatusCode.NOT_FOUND,
                f"request_id: tenant {tenant.name!r} has no request {request_id!r} here; it was never accepted, or "
                "ended so long ago that it is forgotten",
                fields=[("request_id", "unknown")],
                reason="UNKNOWN_REQUEST",
            )
        return known

    def _open(self, request: Request, from_token: int, context: ServicerContext) -> ClientStream:
        """A stream that is let go of when the call ends, however it ends. Raises Refusal."""
        first, length = request.answer.text_from, len(request.answer)
        if not first <= from_token <= length:
            what = f"must be {first} to {length} now"
            raise Refusal(
                grpc.StatusCode.OUT_OF_RANGE,
                f"from_token: {what}",
                fields=[("from_token", what)],
                reason="NO_SUCH_TOKEN",
            )
        stream = self._shell.attach(request, from_token)

        def over(_call: Any) -> None:
            self._shell.detach(stream)

        # A call that is cancelled while a write is in flight may never come back to its handler.
        context.add_done_callback(over)  # pyright: ignore[reportArgumentType]: the stub lacks `Protocol`
        return stream


def _time_left_s(context: ServicerContext) -> float | None:
    """To the deadline of the call; None where it has none."""
    left: float | None = context.time_remaining()  # pyright: ignore[reportUnnecessaryComparison]: the stub lacks None
    return left
