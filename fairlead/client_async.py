"""The asyncio client: streams an answer, and takes the stream up again by itself when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, Unpack

import grpc
from grpc import aio
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from fairlead.client_connection import Connection
from fairlead.client_errors import BREAKS_STREAM, FairleadError, NotFound, error_from
from fairlead.client_jobs import AsyncJobs
from fairlead.client_stream import Broken, Collected, Deadline, Opening, Progress, Retry
from fairlead.client_trace import CallTrace
from fairlead.client_types import (
    Completion,
    Event,
    Finished,
    ModelInfo,
    Prompt,
    RequestFailed,
    RequestOptions,
    build_request,
)
from fairlead.event_loop import ease_grpc
from fairlead.rpc import Tls
from fairlead.v1 import inference_pb2 as inference
from fairlead.v1 import inference_pb2_grpc, jobs_pb2_grpc

_Call: TypeAlias = "aio.UnaryStreamCall[Any, Any]"
CANCEL_TIMEOUT_S = 2.0
UNARY_TIMEOUT_S = 10.0


class AsyncClient:
    """A tenant's connection to a scheduler.

    Args:
        address: host:port of the scheduler.
        key: the tenant's API key, sent as `authorization: Bearer`.
        retry: bounds of what is tried again.
        tls: `Tls(...)` with your files, read again when they are renewed; True: with gRPC's own CAs; False: plain text
            on purpose; None: as FAIRLEAD_CA, FAIRLEAD_CERT, FAIRLEAD_CERT_KEY say, else plain text to this machine.
        credentials: gRPC's own, instead of `tls`.
        clock, sleep: monotonic seconds and waiting; replaced in tests.

    Attributes:
        jobs: durable jobs.

    Raises:
        ConfigError: certificates that can't be used.
        InsecureAddress: plain text to another machine that nobody asked for.
    """

    def __init__(
        self,
        address: str,
        key: str | None = None,
        *,
        retry: Retry | None = None,
        tls: Tls | bool | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.address = address
        self._retry = retry or Retry()
        self._clock, self._sleep = clock, sleep
        self._metadata: Sequence[tuple[str, str]] = (("authorization", f"Bearer {key}"),) if key else ()
        ease_grpc()
        self._closing: set[asyncio.Task[None]] = set()
        self._connection: Connection[aio.Channel] = Connection(
            address, tls, credentials, secure=aio.secure_channel, insecure=aio.insecure_channel,
            stub=inference_pb2_grpc.InferenceServiceStub, close=self._close_later,
        )  # fmt: skip
        self.jobs = AsyncJobs(
            lambda: jobs_pb2_grpc.JobServiceStub(self._connection.channel()), self._metadata, self._retry, sleep
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; streams in flight end with `Cancelled`."""
        for channel in self._connection.channels():
            await channel.close()

    def _close_later(self, channel: aio.Channel) -> None:
        closing = asyncio.ensure_future(channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def generate(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> AsyncGenerator[Event, None]:
        """Asks for one answer and yields `Accepted`, then `Delta`s without gap or repeat, then `Finished`.

        Leaving the loop early (close the generator, or cancel the task) cancels the request.

        Raises:
            FairleadError: a subclass says why; before `Accepted` nothing has been charged.
        """
        request = build_request(prompt, options)
        with CallTrace("generate", self.address, request) as trace:
            follow = self._follow(Progress(request, trace), request, options.get("timeout_s"), cancel_on_leave=True)
            async with contextlib.aclosing(follow) as events:
                async for event in events:
                    yield event

    async def attach(
        self, request_id: str, from_token: int = 0, *, timeout_s: float | None = None
    ) -> AsyncGenerator[Event, None]:
        """Yields what `generate` would of a request accepted before, from `from_token` on; leaving cancels nothing.

        Raises:
            FairleadError: `NotFound` where this tenant has no such request.
        """
        request = inference.GenerateRequest(request_id=request_id)
        opening = inference.AttachRequest(request_id=request_id, from_token=from_token)
        with CallTrace("attach", self.address, request) as trace:
            progress = Progress(request, trace, next_token=from_token, established=True)
            follow = self._follow(progress, opening, timeout_s, cancel_on_leave=False)
            async with contextlib.aclosing(follow) as events:
                async for event in events:
                    yield event

    async def complete(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Completion:
        """The whole answer at once.

        Raises:
            RequestFailed: it was accepted but ended otherwise than by STOP or LENGTH; `completion` holds what came.
            FairleadError: any other failure.
        """
        collected = Collected()
        async with contextlib.aclosing(self.generate(prompt, **options)) as events:
            async for event in events:
                completion = collected.add(event)
                if completion is not None and isinstance(event, Finished):
                    if not completion.outcome.complete:
                        raise RequestFailed(completion, event.detail)
                    return completion
        raise AssertionError("a stream ends with Finished or raises")

    async def cancel(self, request_id: str) -> bool:
        """Ends a request of this tenant; whether it was still live."""
        message = inference.CancelRequest(request_id=request_id)
        try:
            answer = await self._connection.stub().Cancel(message, metadata=self._metadata, timeout=UNARY_TIMEOUT_S)
        except aio.AioRpcError as error:
            raise error_from(error, request_id) from None
        return answer.cancelled

    async def list_models(self) -> list[ModelInfo]:
        """The models that can be asked for now."""
        try:
            answer = await self._connection.stub().ListModels(
                inference.ListModelsRequest(), metadata=self._metadata, timeout=UNARY_TIMEOUT_S
            )
        except aio.AioRpcError as error:
            raise error_from(error) from None
        return [ModelInfo(model.model, model.max_context_tokens, model.workers) for model in answer.models]

    async def _follow(
        self, progress: Progress, opening: Opening, timeout_s: float | None, *, cancel_on_leave: bool
    ) -> AsyncGenerator[Event, None]:
        """The events of a request over as many streams as it takes."""
        deadline = Deadline(timeout_s, self._clock)
        left_early = cancel_on_leave
        try:
            while progress.finished is None:
                try:
                    async with contextlib.aclosing(self._stream(progress, opening, deadline)) as events:
                        async for event in events:
                            yield event
                except NotFound as error:
                    if not progress.can_ask_again:
                        raise
                    opening = progress.after_forgotten(error, self._retry)
                except BREAKS_STREAM as error:
                    if not progress.established:
                        raise
                    opening = progress.after_break(error, self._retry)
            left_early = False
        except FairleadError:
            left_early = False
            raise
        finally:
            if left_early and progress.finished is None:
                await self._abandon(progress.request_id)

    async def _stream(self, progress: Progress, opening: Opening, deadline: Deadline) -> AsyncGenerator[Event, None]:
        """The events of one stream; raises `Broken` where it ends without `Finished`."""
        call, response = await self._open(opening, deadline, progress)
        response: Any
        try:
            while response is not aio.EOF:
                event = progress.take(response)
                if event is not None:
                    yield event
                if progress.finished is not None:
                    return
                response = await call.read()
            raise Broken("it ended without an outcome")
        except aio.AioRpcError as error:
            raise error_from(error, progress.request_id) from None
        finally:
            call.cancel()

    async def _open(self, opening: Opening, deadline: Deadline, progress: Progress) -> tuple[_Call, Any]:
        """A call and its first event; tries again within the bounds of `Retry`."""
        worth = partial(self._retry.worth, accepted=progress.accepted is not None)
        try:
            return await self._open_once(opening, deadline, progress.trace)
        except FairleadError as error:
            if not worth(error):
                raise
            refused = [error]
        # What counts attempts and waits costs more than a call: only who was refused once needs it.
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._retry.attempts) | deadline,
            wait=self._retry.delays(),
            retry=retry_if_exception(worth),
            sleep=self._sleep,
            reraise=True,
        )

        async def attempt() -> tuple[_Call, Any]:
            if refused:
                raise refused.pop()
            return await self._open_once(opening, deadline, progress.trace)

        return await retrying(attempt)

    async def _open_once(self, opening: Opening, deadline: Deadline, trace: CallTrace) -> tuple[_Call, Any]:
        timeout_s = deadline.left_s()
        metadata = (*self._metadata, *trace.metadata)
        call: _Call
        if isinstance(opening, inference.AttachRequest):
            call = self._connection.stub().Attach(opening, metadata=metadata, timeout=timeout_s)
        else:
            call = self._connection.stub().Generate(opening, metadata=metadata, timeout=timeout_s)
        try:
            return call, await call.read()
        except aio.AioRpcError as error:
            raise error_from(error, opening.request_id) from None
        except asyncio.CancelledError:
            call.cancel()
            raise

    async def _abandon(self, request_id: str) -> None:
        """Cancels a request whose caller left; a lost message costs the resume grace, no more."""
        message = inference.CancelRequest(request_id=request_id)
        with contextlib.suppress(aio.AioRpcError, aio.UsageError):  # UsageError: the client was closed first
            await self._connection.stub().Cancel(message, metadata=self._metadata, timeout=CANCEL_TIMEOUT_S)
