"""From a stream of pieces to a job on disk. Refusals are typed; nothing is kept of a file that is not accepted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager

import grpc
from google.protobuf.duration_pb2 import Duration

from fairlead.config import ClassDefaults, SchedulerConfig, Tenant
from fairlead.rpc import Refusal, invalid
from fairlead.v1 import inference_pb2, jobs_pb2
from scheduler_svc.jobs.office import DAY_MS, Office
from scheduler_svc.jobs.reading import JobFile
from scheduler_svc.journal.records import Job
from scheduler_svc.validation import MAX_MODEL_CHARS, MAX_REQUEST_ID_CHARS, check_generate

MAX_SUBMISSIONS = 4
"""Files that are taken at once; half of that for one tenant. Each is held in memory until it is on disk."""
PIECE_WITHIN_S = 30.0
MAX_NAME_CHARS = 128
BUSY_RETRY_MS = 500.0

Pieces = AsyncIterator[jobs_pb2.SubmitJobRequest]


class Submissions:
    """Takes files.

    Args:
        office: keeps jobs.
        config, defaults: as for every request.
        models: that are served now.
        draining: whether nothing new is taken.
    """

    def __init__(
        self,
        office: Office,
        config: SchedulerConfig,
        defaults: ClassDefaults,
        models: Callable[[], list[str]],
        draining: Callable[[], bool],
    ) -> None:
        self._office = office
        self._config = config
        self._defaults = defaults
        self._models = models
        self._draining = draining
        self._taking: list[str] = []

    async def take(self, pieces: Pieces, tenant: Tenant) -> tuple[Job, bool]:
        """The job that a stream makes, on disk, and whether it was there before. Raises Refusal."""
        if self._draining():
            raise Refusal(
                grpc.StatusCode.UNAVAILABLE, "this scheduler drains: ask another, or again later", reason="DRAINING"
            )
        self._office.opened()
        if "be" not in tenant.classes:
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"tenant {tenant.name!r} may not send best-effort requests, as jobs are; its `classes` must hold be",
                reason="CLASS_NOT_ALLOWED",
            )
        with self._turn(tenant.name):
            first = await _next(pieces)
            if first is None or first.WhichOneof("part") != "options":
                raise invalid("options", "must be the first message of the stream")
            options = first.options
            self._check(options)
            file = JobFile(options, self._config.jobs, self._checker(tenant))
            while (piece := await _next(pieces)) is not None:
                if piece.WhichOneof("part") != "jsonl":
                    raise invalid("jsonl", "only pieces of the file may follow the options")
                await file.take(piece.jsonl)
            file.end()
            job = self._job(options, tenant, file)
            if not await self._known(job):
                await self._office.check_room(tenant.name)
            known = await self._office.submit(job, file.lines)
        if known is None:
            return job, False
        if known.digest != job.digest:
            what = f"{job.idempotency_key!r} is in use for another file or other options"
            raise Refusal(
                grpc.StatusCode.ALREADY_EXISTS,
                f"options.idempotency_key: {what} (job {known.job_id}); choose a new key, or send what was sent first",
                fields=[("options.idempotency_key", what)],
                reason="KEY_IN_USE",
            )
        return known, True

    async def _known(self, job: Job) -> bool:
        """Whether its key is in use: then nothing is written, and nothing needs room."""
        if job.idempotency_key is None:
            return False
        async with self._office.asking():
            return await self._office.journal.by_key(job.tenant, job.idempotency_key) is not None

    @contextmanager
    def _turn(self, tenant: str) -> Generator[None]:
        if len(self._taking) >= MAX_SUBMISSIONS or self._taking.count(tenant) >= MAX_SUBMISSIONS // 2:
            what = f"{len(self._taking)} jobs are being submitted"
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{what}; try again shortly",
                quota=("scheduler", what),
                retry_after_ms=BUSY_RETRY_MS,
                reason="TOO_MANY_SUBMISSIONS",
            )
        self._taking.append(tenant)
        try:
            yield
        finally:
            self._taking.remove(tenant)

    def _check(self, options: jobs_pb2.JobOptions) -> None:
        """Raises Refusal where an option does not fit."""
        key = options.idempotency_key
        if options.HasField("idempotency_key") and not (
            0 < len(key) <= MAX_REQUEST_ID_CHARS and key.isascii() and key.isprintable()
        ):
            raise invalid(
                "options.idempotency_key", f"must have 1 to {MAX_REQUEST_ID_CHARS} printable ASCII characters"
            )
        if len(options.name) > MAX_NAME_CHARS or not options.name.isprintable():
            raise invalid("options.name", f"must have at most {MAX_NAME_CHARS} printable characters")
        if len(options.model) > MAX_MODEL_CHARS or not options.model.isprintable():
            raise invalid("options.model", f"must have at most {MAX_MODEL_CHARS} printable characters")
        for name in ("completion_target", "lifetime"):
            if options.HasField(name) and _ms(getattr(options, name)) < 1000:
                raise invalid(f"options.{name}", "must be at least 1 s; leave it out for none")

    def _checker(self, tenant: Tenant) -> Callable[[inference_pb2.GenerateRequest], None]:
        served = self._models()

        def check(request: inference_pb2.GenerateRequest) -> None:
            check_generate(request, tenant, self._config, self._defaults)
            if not served:
                return
            if request.HasField("model") and request.model not in served:
                raise invalid("model", f"{request.model!r} is not served; served now: {', '.join(served)}")
            if not request.HasField("model") and len(served) > 1:
                raise invalid("model", f"must be given: {', '.join(served)}")

        return check

    def _job(self, options: jobs_pb2.JobOptions, tenant: Tenant, file: JobFile) -> Job:
        now_ms = self._office.wall_ms()
        lifetime_ms = int(self._config.jobs.max_lifetime_days * DAY_MS)
        if options.HasField("lifetime"):
            lifetime_ms = min(lifetime_ms, _ms(options.lifetime))
        served = self._models()
        return Job(
            job_id=f"job-{secrets.token_hex(12)}",
            tenant=tenant.name,
            idempotency_key=options.idempotency_key if options.HasField("idempotency_key") else None,
            digest=file.digest,
            name=options.name,
            model=options.model or (served[0] if len(served) == 1 else ""),
            lines=len(file.lines),
            request_bytes=file.size_bytes,
            return_token_ids=options.return_token_ids,
            created_ms=now_ms,
            expires_ms=now_ms + lifetime_ms,
            target_ms=_ms(options.completion_target) if options.HasField("completion_target") else None,
        )


async def _next(pieces: Pieces) -> jobs_pb2.SubmitJobRequest | None:
    """The next message; None at the end. Raises Refusal where the client stalls."""
    try:
        async with asyncio.timeout(PIECE_WITHIN_S):
            return await anext(pieces, None)
    except TimeoutError:
        raise Refusal(
            grpc.StatusCode.ABORTED,
            f"no piece of the file came for {PIECE_WITHIN_S:.0f} s; submit it again, under the same idempotency_key",
            reason="SUBMISSION_STALLED",
        ) from None


def _ms(duration: Duration) -> int:
    return min(max(duration.ToMilliseconds(), 0), 2**53)
