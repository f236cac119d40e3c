"""Durable jobs from a program: `client.jobs`, blocking and asyncio.

    with Client("127.0.0.1:7600", key="...") as client:
        job = client.jobs.submit(Path("prompts.jsonl"), name="nightly")
        for result in client.jobs.results(job.job_id):
            print(result.line, result.text)

Each call is tried again while nobody answers; a submission is safe to repeat, since it carries a key, and a stream of
results goes on at the line after the last one that came.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Unpack, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from tenacity import AsyncRetrying, Retrying, retry_if_exception, stop_after_attempt

from fairlead.client_errors import BREAKS_STREAM, FairleadError, StreamLost, error_from
from fairlead.client_job_types import (
    Job,
    JobOptions,
    JobResult,
    JobSource,
    build_options,
    job_from,
    pieces,
    result_from,
)
from fairlead.client_stream import Retry
from fairlead.v1 import jobs_pb2 as messages

UNARY_TIMEOUT_S = 30.0
SUBMIT_TIMEOUT_S = 600.0
DEFAULT_INTERVAL_S = 1.0
PAGE = 500

Metadata = tuple[tuple[str, str | bytes], ...]


class Jobs:
    """Durable jobs of a tenant; `Client.jobs` is one."""

    def __init__(
        self, stub: Callable[[], Any], metadata: Metadata, retry: Retry, sleep: Callable[[float], None]
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._retry = retry
        self._sleep = sleep

    def submit(self, source: JobSource, **options: Unpack[JobOptions]) -> Job:
        """Submits a file of JSON lines; the job is on the scheduler's disk when this returns.

        Without an `idempotency_key` one is made, so that what is sent again by itself makes no second job.

        Raises:
            FairleadError: `InvalidRequest` names the bad lines in `fields`.
            OSError: the file can't be read.
        """
        header = _header(source, options)
        rewind = _rewinder(source)

        def once() -> messages.SubmitJobResponse:
            rewind()
            return self._stub().SubmitJob(_parts(source, header), metadata=self._metadata, timeout=SUBMIT_TIMEOUT_S)

        answer = self._call(once)
        return job_from(answer.job, existed=answer.existed)

    def get(self, job_id: str) -> Job:
        """A job as it is now. Raises FairleadError."""
        message = messages.GetJobRequest(job_id=job_id)
        return job_from(self._call(lambda: self._unary("GetJob", message)).job)

    def list(self, *, live_only: bool = False) -> Iterator[Job]:
        """The tenant's jobs, newest first. Raises FairleadError."""
        token = ""
        while True:
            message = messages.ListJobsRequest(page_size=PAGE, page_token=token, live_only=live_only)
            answer = self._call(lambda message=message: self._unary("ListJobs", message))
            yield from map(job_from, answer.jobs)
            token = answer.next_page_token
            if not token:
                return

    def cancel(self, job_id: str) -> Job:
        """Ends a job; what has ended stays. Raises FairleadError."""
        message = messages.CancelJobRequest(job_id=job_id)
        return job_from(self._call(lambda: self._unary("CancelJob", message)).job)

    def delete(self, job_id: str) -> None:
        """Forgets an ended job. Raises FairleadError."""
        message = messages.DeleteJobRequest(job_id=job_id)
        self._call(lambda: self._unary("DeleteJob", message))

    def watch(self, job_id: str, interval_s: float = DEFAULT_INTERVAL_S) -> Generator[Job, None, None]:
        """The job now and whenever it has changed, until it has ended; leaving ends nothing. Raises FairleadError."""
        breaks = Breaks(self._retry)
        message = watch_request(job_id, interval_s)
        while True:
            call: Any = self._stub().WatchJob(message, metadata=self._metadata)
            try:
                for answer in call:
                    breaks.went_on()
                    job = job_from(answer.job)
                    yield job
                    if job.state.ended:
                        return
                self._sleep(breaks.next_delay_s(None))
            except grpc.RpcError as error:
                self._sleep(breaks.next_delay_s(error_from(error)))
            finally:
                call.cancel()

    def results(self, job_id: str, from_line: int = 1) -> Generator[JobResult, None, None]:
        """Results in line order as lines end, each once, until the job has ended; leaving ends nothing.

        Raises FairleadError.
        """
        breaks = Breaks(self._retry)
        following = from_line
        while True:
            message = messages.StreamResultsRequest(job_id=job_id, from_line=following)
            call: Any = self._stub().StreamResults(message, metadata=self._metadata)
            try:
                for answer in call:
                    breaks.went_on()
                    for result in answer.results:
                        following = result.line + 1
                        yield result_from(result)
            except grpc.RpcError as error:
                self._sleep(breaks.next_delay_s(error_from(error)))
            else:
                return
            finally:
                call.cancel()

    def _unary(self, method: str, message: Any) -> Any:
        return getattr(self._stub(), method)(message, metadata=self._metadata, timeout=UNARY_TIMEOUT_S)

    def _call(self, once: Callable[[], Any]) -> Any:
        retrying = Retrying(
            stop=stop_after_attempt(self._retry.attempts),
            wait=self._retry.delays(),
            retry=retry_if_exception(self._retry.worth),
            sleep=self._sleep,
            reraise=True,
        )

        def translated() -> Any:
            try:
                return once()
            except grpc.RpcError as error:
                raise error_from(error) from None

        return retrying(translated)


class AsyncJobs:
    """Durable jobs of a tenant; `AsyncClient.jobs` is one."""

    def __init__(
        self, stub: Callable[[], Any], metadata: Any, retry: Retry, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._stub = stub
        self._metadata = metadata
        self._retry = retry
        self._sleep = sleep

    async def submit(self, source: JobSource, **options: Unpack[JobOptions]) -> Job:
        """As `Jobs.submit`."""
        header = _header(source, options)
        rewind = _rewinder(source)

        async def once() -> messages.SubmitJobResponse:
            rewind()
            return await self._stub().SubmitJob(
                _parts(source, header), metadata=self._metadata, timeout=SUBMIT_TIMEOUT_S
            )

        answer = await self._call(once)
        return job_from(answer.job, existed=answer.existed)

    async def get(self, job_id: str) -> Job:
        """A job as it is now. Raises FairleadError."""
        message = messages.GetJobRequest(job_id=job_id)
        return job_from((await self._call(lambda: self._unary("GetJob", message))).job)

    async def list(self, *, live_only: bool = False) -> AsyncGenerator[Job, None]:
        """The tenant's jobs, newest first. Raises FairleadError."""
        token = ""
        while True:
            message = messages.ListJobsRequest(page_size=PAGE, page_token=token, live_only=live_only)
            answer = await self._call(lambda message=message: self._unary("ListJobs", message))
            for job in answer.jobs:
                yield job_from(job)
            token = answer.next_page_token
            if not token:
                return

    async def cancel(self, job_id: str) -> Job:
        """Ends a job; what has ended stays. Raises FairleadError."""
        message = messages.CancelJobRequest(job_id=job_id)
        return job_from((await self._call(lambda: self._unary("CancelJob", message))).job)

    async def delete(self, job_id: str) -> None:
        """Forgets an ended job. Raises FairleadError."""
        message = messages.DeleteJobRequest(job_id=job_id)
        await self._call(lambda: self._unary("DeleteJob", message))

    async def watch(self, job_id: str, interval_s: float = DEFAULT_INTERVAL_S) -> AsyncGenerator[Job, None]:
        """As `Jobs.watch`."""
        breaks = Breaks(self._retry)
        message = watch_request(job_id, interval_s)
        while True:
            call: Any = self._stub().WatchJob(message, metadata=self._metadata)
            try:
                async for answer in call:
                    breaks.went_on()
                    job = job_from(answer.job)
                    yield job
                    if job.state.ended:
                        return
                await self._sleep(breaks.next_delay_s(None))
            except aio.AioRpcError as error:
                await self._sleep(breaks.next_delay_s(error_from(error)))
            finally:
                call.cancel()

    async def results(self, job_id: str, from_line: int = 1) -> AsyncGenerator[JobResult, None]:
        """As `Jobs.results`."""
        breaks = Breaks(self._retry)
        following = from_line
        while True:
            message = messages.StreamResultsRequest(job_id=job_id, from_line=following)
            call: Any = self._stub().StreamResults(message, metadata=self._metadata)
            try:
                async for answer in call:
                    breaks.went_on()
                    for result in answer.results:
                        following = result.line + 1
                        yield result_from(result)
            except aio.AioRpcError as error:
                await self._sleep(breaks.next_delay_s(error_from(error)))
            else:
                return
            finally:
                call.cancel()

    def _unary(self, method: str, message: Any) -> Awaitable[Any]:
        return getattr(self._stub(), method)(message, metadata=self._metadata, timeout=UNARY_TIMEOUT_S)

    async def _call(self, once: Callable[[], Awaitable[Any]]) -> Any:
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._retry.attempts),
            wait=self._retry.delays(),
            retry=retry_if_exception(self._retry.worth),
            sleep=self._sleep,
            reraise=True,
        )

        async def translated() -> Any:
            try:
                return await once()
            except aio.AioRpcError as error:
                raise error_from(error) from None

        return await retrying(translated)


@dataclass
class Breaks:
    """Streams that broke in a row without anything new, and how long to wait after each."""

    retry: Retry
    _in_row: int = field(default=0)

    def went_on(self) -> None:
        """Something new came."""
        self._in_row = 0

    def next_delay_s(self, error: FairleadError | None) -> float:
        """The wait before the stream is taken up again, s.

        Raises:
            FairleadError: it is not worth it, or broke too often.
        """
        if error is not None and not (isinstance(error, BREAKS_STREAM) or self.retry.worth(error)):
            raise error
        self._in_row += 1
        if self._in_row > self.retry.reattach_attempts:
            why = error.message if error is not None else "it ended too early"
            raise StreamLost(f"the stream broke {self._in_row} times in a row ({why}); the job goes on") from error
        return min(self.retry.max_delay_s, self.retry.first_delay_s * 2 ** (self._in_row - 1))


def with_key(options: JobOptions) -> JobOptions:
    """The options with a key, their own or a new one."""
    return {**options, "idempotency_key": options.get("idempotency_key") or uuid.uuid4().hex}


def watch_request(job_id: str, interval_s: float) -> messages.WatchJobRequest:
    """The message that asks for a job's progress."""
    interval = Duration()
    interval.FromMilliseconds(int(interval_s * 1000))
    return messages.WatchJobRequest(job_id=job_id, interval=interval)


def _header(source: JobSource, options: JobOptions) -> messages.JobOptions:
    """The first message; what is wrong with it, or with the file, is raised here and not in the middle of the call."""
    if isinstance(source, Path):
        source.open("rb").close()
    return build_options(with_key(options))


def _parts(source: JobSource, header: messages.JobOptions) -> Iterator[messages.SubmitJobRequest]:
    yield messages.SubmitJobRequest(options=header)
    for piece in pieces(source):
        yield messages.SubmitJobRequest(jsonl=piece)


def _rewinder(source: JobSource) -> Callable[[], None]:
    """Brings an open file back to where it was, for another try."""
    if not hasattr(source, "seek"):
        return lambda: None
    file = cast("IO[bytes]", source)
    start = file.tell()
    return lambda: cast("None", file.seek(start))
