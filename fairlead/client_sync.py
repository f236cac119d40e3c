"""The blocking client: as the asyncio one, for programs without an event loop."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias, Unpack

import grpc
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from fairlead.client_connection import Connection
from fairlead.client_errors import BREAKS_STREAM, FairleadError, NotFound, error_from
from fairlead.client_jobs import Jobs
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
from fairlead.rpc import Tls
from fairlead.v1 import inference_pb2 as inference
from fairlead.v1 import inference_pb2_grpc, jobs_pb2_grpc

_Call: TypeAlias = Any  # the stubs of grpc do not name the type of a blocking stream
_Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
CANCEL_TIMEOUT_S = 2.0
UNARY_TIMEOUT_S = 10.0


class Client:
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self._retry = retry or Retry()
        self._clock, self._sleep = clock, sleep
        self._metadata: _Metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._connection: Connection[grpc.Channel] = Connection(
            address, tls, credentials, secure=grpc.secure_channel, insecure=grpc.insecure_channel,
            stub=inference_pb2_grpc.InferenceServiceStub, close=grpc.Channel.close,
        )  # fmt: skip
        self.jobs = Jobs(
            lambda: jobs_pb2_grpc.JobServiceStub(self._connection.channel()), self._metadata, self._retry, sleep
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; streams in flight end with `Cancelled`."""
        for channel in self._connection.channels():
            channel.close()

    def generate(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Generator[Event, None, None]:
        """Asks for one answer and yields `Accepted`, then `Delta`s without gap or repeat, then `Finished`.

        Leaving the loop early (closing the generator) cancels the request.

        Raises:
            FairleadError: a subclass says why; before `Accepted` nothing has been charged.
        """
        request = build_request(prompt, options)
        with CallTrace("generate", self.address, request) as trace:
            progress = Progress(request, trace)
            yield from self._follow(progress, request, options.get("timeout_s"), cancel_on_leave=True)

    def attach(
        self, request_id: str, from_token: int = 0, *, timeout_s: float | None = None
    ) -> Generator[Event, None, None]:
        """Yields what `generate` would of a request accepted before, from `from_token` on; leaving cancels nothing.

        Raises:
            FairleadError: `NotFound` where this tenant has no such request.
        """
        request = inference.GenerateRequest(request_id=request_id)
        opening = inference.AttachRequest(request_id=request_id, from_token=from_token)
        with CallTrace("attach", self.address, request) as trace:
            progress = Progress(request, trace, next_token=from_token, established=True)
            yield from self._follow(progress, opening, timeout_s, cancel_on_leave=False)

    def complete(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Completion:
        """The whole answer at once.

        Raises:
            RequestFailed: it was accepted but ended otherwise than by STOP or LENGTH; `completion` holds what came.
            FairleadError: any other failure.
        """
        collected = Collected()
        with contextlib.closing(self.generate(prompt, **options)) as events:
            for event in events:
                completion = collected.add(event)
                if completion is not None and isinstance(event, Finished):
                    if not completion.outcome.complete:
                        raise RequestFailed(completion, event.detail)
                    return completion
        raise AssertionError("a stream ends with Finished or raises")

    def cancel(self, request_id: str) -> bool:
        """Ends a request of this tenant; whether it was still live."""
        message = inference.CancelRequest(request_id=request_id)
        try:
            answer = self._connection.stub().Cancel(message, metadata=self._metadata, timeout=UNARY_TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_from(error, request_id) from None
        return answer.cancelled

    def list_models(self) -> list[ModelInfo]:
        """The models that can be asked for now."""
        try:
            answer = self._connection.stub().ListModels(
                inference.ListModelsRequest(), metadata=self._metadata, timeout=UNARY_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise error_from(error) from None
        return [ModelInfo(model.model, model.max_context_tokens, model.workers) for model in answer.models]

    def _follow(
        self, progress: Progress, opening: Opening, timeout_s: float | None, *, cancel_on_leave: bool
    ) -> Generator[Event, None, None]:
        """The events of a request over as many streams as it takes."""
        deadline = Deadline(timeout_s, self._clock)
        left_early = cancel_on_leave
        try:
            while progress.finished is None:
                try:
                    yield from self._stream(progress, opening, deadline)
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
                self._abandon(progress.request_id)

    def _stream(self, progress: Progress, opening: Opening, deadline: Deadline) -> Generator[Event, None, None]:
        """The events of one stream; raises `Broken` where it ends without `Finished`."""
        call, response = self._open(opening, deadline, progress)
        try:
            while response is not None:
                event = progress.take(response)
                if event is not None:
                    yield event
                if progress.finished is not None:
                    return
                response = next(call, None)
            raise Broken("it ended without an outcome")
        except grpc.RpcError as error:
            raise error_from(error, progress.request_id) from None
        finally:
            call.cancel()

    def _open(self, opening: Opening, deadline: Deadline, progress: Progress) -> tuple[_Call, Any]:
        """A call and its first event; tries again within the bounds of `Retry`."""
        worth = partial(self._retry.worth, accepted=progress.accepted is not None)
        try:
            return self._open_once(opening, deadline, progress.trace)
        except FairleadError as error:
            if not worth(error):
                raise
            refused = [error]
        # What counts attempts and waits costs more than a call: only who was refused once needs it.
        retrying = Retrying(
            stop=stop_after_attempt(self._retry.attempts) | deadline,
            wait=self._retry.delays(),
            retry=retry_if_exception(worth),
            sleep=self._sleep,
            reraise=True,
        )

        def attempt() -> tuple[_Call, Any]:
            if refused:
                raise refused.pop()
            return self._open_once(opening, deadline, progress.trace)

        return retrying(attempt)

    def _open_once(self, opening: Opening, deadline: Deadline, trace: CallTrace) -> tuple[_Call, Any]:
        timeout_s = deadline.left_s()
        metadata = (*self._metadata, *trace.metadata)
        call: _Call
        if isinstance(opening, inference.AttachRequest):
            call = self._connection.stub().Attach(opening, metadata=metadata, timeout=timeout_s)
        else:
            call = self._connection.stub().Generate(opening, metadata=metadata, timeout=timeout_s)
        try:
            return call, next(call, None)
        except grpc.RpcError as error:
            raise error_from(error, opening.request_id) from None
        except KeyboardInterrupt:
            call.cancel()
            raise

    def _abandon(self, request_id: str) -> None:
        """Cancels a request whose caller left; a lost message costs the resume grace, no more."""
        message = inference.CancelRequest(request_id=request_id)
        with contextlib.suppress(grpc.RpcError, ValueError):  # ValueError: the client was closed first
            self._connection.stub().Cancel(message, metadata=self._metadata, timeout=CANCEL_TIMEOUT_S)
