"""A real InferenceService whose streams follow a script: what a scheduler may do to a client, on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc

from fairlead.rpc import Refusal, Server, ServicerContext, make_server, refuse
from fairlead.v1 import inference_pb2 as inference
from fairlead.v1 import inference_pb2_grpc, types_pb2
from tests.open_gate import OPEN


@dataclass
class Stream:
    """What one call does: sends deltas of (first token, count), then ends as told.

    `end`: "finish", "drop" (UNAVAILABLE), "silent" (OK without an outcome), "hang", or a Refusal.
    """

    deltas: list[tuple[int, int]] = field(default_factory=list)
    end: str | Refusal = "finish"
    accept: bool = True
    outcome: types_pb2.Outcome = types_pb2.OUTCOME_STOP


class Scripted(inference_pb2_grpc.InferenceServiceServicer):
    """Plays one `Stream` a call, in order, whichever method is called; keeps what was asked."""

    def __init__(self, *script: Stream) -> None:
        self.script = list(script)
        self.calls: list[inference.GenerateRequest | inference.AttachRequest] = []
        self.cancelled: list[str] = []
        self.keys: list[str] = []
        self.deadlines_s: list[float | None] = []

    async def Generate(
        self, request: inference.GenerateRequest, context: ServicerContext
    ) -> AsyncIterator[inference.GenerateResponse]:
        async for event in self._play(request, context):
            yield inference.GenerateResponse(**event)

    async def Attach(
        self, request: inference.AttachRequest, context: ServicerContext
    ) -> AsyncIterator[inference.AttachResponse]:
        async for event in self._play(request, context):
            yield inference.AttachResponse(**event)

    async def Cancel(
        self,
        request: inference.CancelRequest,
        context: ServicerContext,  # noqa: ARG002
    ) -> inference.CancelResponse:
        self.cancelled.append(request.request_id)
        return inference.CancelResponse(cancelled=True)

    async def ListModels(
        self,
        request: inference.ListModelsRequest,  # noqa: ARG002
        context: ServicerContext,  # noqa: ARG002
    ) -> inference.ListModelsResponse:
        return inference.ListModelsResponse(models=[inference.ModelInfo(model="m", max_context_tokens=512, workers=2)])

    async def _play(self, request, context: ServicerContext):
        self.calls.append(request)
        self.keys.append(dict(context.invocation_metadata() or ()).get("authorization", ""))
        left = context.time_remaining()
        self.deadlines_s.append(left)
        stream = self.script.pop(0)
        ids = isinstance(request, inference.GenerateRequest) and request.return_token_ids
        if stream.accept:
            yield {"accepted": inference.Accepted(request_id=request.request_id, model="m", tenant="t", max_tokens=9)}
        for first, count in stream.deltas:
            held = range(first, first + count) if ids else ()
            text = "".join(f"<{index}>" for index in range(first, first + count)) or "<tail>"
            yield {
                "delta": inference.Delta(
                    first_token=first,
                    token_count=count,
                    text=text,
                    token_ids=held,
                )
            }
        if stream.end == "hang":
            await asyncio.Event().wait()
        if stream.end == "drop":
            await refuse(context, Refusal(grpc.StatusCode.UNAVAILABLE, "going away"))
        if isinstance(stream.end, Refusal):
            await refuse(context, stream.end)
        if stream.end == "finish":
            usage = types_pb2.Usage(prompt_tokens=3, output_tokens=sum(count for _, count in stream.deltas))
            decision = types_pb2.Decision(policy="slo", ttft_ms=12.5, queue_ms=1.0, attempts=1)
            yield {"finished": inference.Finished(outcome=stream.outcome, usage=usage, decision=decision)}


async def serve(servicer: Scripted) -> Server:
    """Starts it on a free port."""
    server = make_server("127.0.0.1:0", [], port_setting="test", gate=OPEN)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server.server)
    await server.start()
    return server
