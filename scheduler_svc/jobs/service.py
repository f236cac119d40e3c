"""What clients see of durable jobs: `JobService`. Each handler authenticates first; another tenant's job is unknown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator

import grpc

from fairlead.config import Tenant
from fairlead.rpc import Refusal, ServicerContext, invalid, refuse
from fairlead.v1 import jobs_pb2, jobs_pb2_grpc
from scheduler_svc.auth import Authenticator
from scheduler_svc.jobs.office import Office
from scheduler_svc.jobs.submitting import Submissions
from scheduler_svc.jobs.wire import job_to_wire, page_from, page_token, result_to_wire
from scheduler_svc.journal.records import Job, Result

SERVICE = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name
MAX_PAGE = 1000
USUAL_PAGE = 100
PAGE_BYTES = 1_000_000
STREAM_AT_ONCE = 100
MAX_WATCHERS = 512
"""Streams of WatchJob and StreamResults at once."""
USUAL_INTERVAL_S = 1.0
LEAST_INTERVAL_S = 0.1
MOST_INTERVAL_S = 60.0
MAX_JOB_ID_CHARS = 64


class JobService(jobs_pb2_grpc.JobServiceServicer):
    """SubmitJob, GetJob, WatchJob, ListJobs, CancelJob, FetchResults, StreamResults, DeleteJob."""

    def __init__(
        self,
        office: Office,
        submissions: Submissions,
        authenticator: Authenticator,
        refused: Callable[[Refusal], None] = lambda _refusal: None,
    ) -> None:
        self._office = office
        self._submissions = submissions
        self._authenticator = authenticator
        self._refused = refused
        self._watchers = 0

    async def SubmitJob(
        self, request_iterator: AsyncIterator[jobs_pb2.SubmitJobRequest], context: ServicerContext
    ) -> jobs_pb2.SubmitJobResponse:
        """Takes a file; answers when it is on disk."""
        async with self._refusing(context):
            tenant = self._authenticator.caller(context)
            job, existed = await self._submissions.take(request_iterator, tenant)
            told = await self._told(job.job_id, tenant)
        return jobs_pb2.SubmitJobResponse(job=told, existed=existed)

    async def GetJob(self, request: jobs_pb2.GetJobRequest, context: ServicerContext) -> jobs_pb2.GetJobResponse:
        """A job as it is now."""
        async with self._refusing(context):
            told = await self._told(request.job_id, self._authenticator.caller(context))
        return jobs_pb2.GetJobResponse(job=told)

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: ServicerContext
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        """A job as it is now, and again when it has changed, until it has ended."""
        async with self._refusing(context):
            tenant = self._authenticator.caller(context)
            interval_s = USUAL_INTERVAL_S
            if request.HasField("interval"):
                interval_s = request.interval.ToTimedelta().total_seconds()
                if not LEAST_INTERVAL_S <= interval_s <= MOST_INTERVAL_S:
                    raise invalid("interval", f"must be {LEAST_INTERVAL_S:g} to {MOST_INTERVAL_S:g} s")
            with self._watching():
                last: jobs_pb2.Job | None = None
                while True:
                    told = await self._told(request.job_id, tenant)
                    if told != last:
                        yield jobs_pb2.WatchJobResponse(job=told)
                        last = told
                    if told.HasField("ended_at"):
                        return
                    await self._news(request.job_id, interval_s, ended=True)

    async def ListJobs(self, request: jobs_pb2.ListJobsRequest, context: ServicerContext) -> jobs_pb2.ListJobsResponse:
        """One page of the tenant's jobs, newest first."""
        async with self._refusing(context):
            tenant = self._authenticator.caller(context)
            active = dict(self._office.opened().jobs)
            size = _page_size(request.page_size)
            before = page_from(request.page_token)
            async with self._office.asking():
                found = await self._office.journal.jobs(
                    tenant.name, before=before, limit=size + 1, live_only=request.live_only
                )
        token = page_token(found[size - 1]) if len(found) > size else ""
        keep_days = self._office.limits.keep_days
        told = [job_to_wire(job, active.get(job.job_id), keep_days) for job in found[:size]]
        return jobs_pb2.ListJobsResponse(jobs=told, next_page_token=token)

    async def CancelJob(
        self, request: jobs_pb2.CancelJobRequest, context: ServicerContext
    ) -> jobs_pb2.CancelJobResponse:
        """Ends a job; answers when the wish is on disk."""
        async with self._refusing(context):
            tenant = self._authenticator.caller(context)
            cancelled = await self._office.cancel(await self._find(request.job_id, tenant))
            told = await self._told(request.job_id, tenant)
        return jobs_pb2.CancelJobResponse(job=told, cancelled=cancelled)

    async def FetchResults(
        self, request: jobs_pb2.FetchResultsRequest, context: ServicerContext
    ) -> jobs_pb2.FetchResultsResponse:
        """One page of results."""
        async with self._refusing(context):
            job = await self._find(request.job_id, self._authenticator.caller(context))
            first = max(1, request.from_line)
            found, all_there = await self._results(
                job, first, _page_size(request.page_size), skip_unfinished=request.skip_unfinished
            )
        following = found[-1].line + 1 if found else first
        return jobs_pb2.FetchResultsResponse(
            results=map(result_to_wire, found),
            next_line=following,
            complete=all_there,
        )

    async def StreamResults(
        self, request: jobs_pb2.StreamResultsRequest, context: ServicerContext
    ) -> AsyncIterator[jobs_pb2.StreamResultsResponse]:
        """All results from a line on, as their lines end."""
        async with self._refusing(context):
            tenant = self._authenticator.caller(context)
            following = max(1, request.from_line)
            with self._watching():
                while True:
                    job = await self._find(request.job_id, tenant)
                    found, all_there = await self._results(job, following, STREAM_AT_ONCE)
                    if found:
                        yield jobs_pb2.StreamResultsResponse(results=map(result_to_wire, found))
                        following = found[-1].line + 1
                    if all_there:
                        return
                    if not found:
                        await self._news(request.job_id, USUAL_INTERVAL_S, ended=False)

    async def DeleteJob(
        self, request: jobs_pb2.DeleteJobRequest, context: ServicerContext
    ) -> jobs_pb2.DeleteJobResponse:
        """Forgets an ended job."""
        async with self._refusing(context):
            job = await self._find(request.job_id, self._authenticator.caller(context))
            async with self._office.asking():
                gone = await self._office.journal.delete(job.tenant, job.job_id)
            if not gone:
                raise Refusal(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"job_id: job {job.job_id!r} has not ended; cancel it first, and delete it when it has ended",
                    fields=[("job_id", "has not ended")],
                    reason="JOB_LIVES",
                )
        return jobs_pb2.DeleteJobResponse()

    # -- what they share

    @contextlib.asynccontextmanager
    async def _refusing(self, context: ServicerContext) -> AsyncGenerator[None]:
        """Turns a Refusal inside into the call's status."""
        try:
            yield
        except Refusal as refusal:
            self._refused(refusal)
            await refuse(context, refusal)

    async def _find(self, job_id: str, tenant: Tenant) -> Job:
        """A job of the calling tenant. Raises Refusal."""
        self._office.opened()
        found: Job | None = None
        if 0 < len(job_id) <= MAX_JOB_ID_CHARS and job_id.isascii() and job_id.isprintable():
            async with self._office.asking():
                found = await self._office.journal.job(tenant.name, job_id)
        if found is None:
            raise Refusal(
                grpc.StatusCode.NOT_FOUND,
                f"job_id: tenant {tenant.name!r} has no job {job_id[:MAX_JOB_ID_CHARS]!r}; it was never submitted, was "
                "deleted, or ended so long ago that its results are gone",
                fields=[("job_id", "unknown")],
                reason="UNKNOWN_JOB",
            )
        return found

    async def _told(self, job_id: str, tenant: Tenant) -> jobs_pb2.Job:
        """A job as it is now. Raises Refusal."""
        # The runner is asked first: one that ends meanwhile is told as it was a moment ago.
        active = self._office.opened().jobs.get(job_id)
        job = await self._find(job_id, tenant)
        return job_to_wire(job, active, self._office.limits.keep_days)

    async def _results(
        self, job: Job, first: int, limit: int, *, skip_unfinished: bool = False
    ) -> tuple[list[Result], bool]:
        """Results up to about PAGE_BYTES, and whether nothing follows them. Raises Refusal."""
        async with self._office.asking():
            found, whole = await self._office.journal.results(
                job.job_id, first, limit + 1, skip_unfinished=skip_unfinished
            )
        size, last = 0, min(limit, len(found))
        for index, result in enumerate(found[:limit]):
            size += _bytes_of(result)
            if size > PAGE_BYTES and index:
                last = index
                break
        return found[:last], whole and not job.live and last == len(found)

    @contextlib.contextmanager
    def _watching(self) -> Generator[None]:
        """One of the streams that wait for something. Raises Refusal where there are too many."""
        if self._watchers >= MAX_WATCHERS:
            what = f"{self._watchers} streams watch jobs already"
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{what}; try again later, or ask with GetJob and FetchResults",
                quota=("scheduler", what),
                retry_after_ms=5000,
                reason="TOO_MANY_STREAMS",
            )
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def _news(self, job_id: str, within_s: float, *, ended: bool) -> None:
        """Waits until a job has changed (`ended`: has ended), at most so long."""
        active = self._office.runner.jobs.get(job_id) if self._office.runner is not None else None
        if active is None:
            await asyncio.sleep(LEAST_INTERVAL_S)  # it ended this moment, or the journal is away
            return
        event = active.over if ended else active.news
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await event.wait()


def _page_size(given: int) -> int:
    if given > MAX_PAGE:
        raise invalid("page_size", f"must be at most {MAX_PAGE}; 0 or absent is {USUAL_PAGE}")
    return given or USUAL_PAGE


def _bytes_of(result: Result) -> int:
    return len(result.text.encode()) + len(result.token_ids or b"") + len(result.detail) + len(result.custom_id) + 64
