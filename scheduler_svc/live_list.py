"""Live requests a page at a time, for `fairlead top`: bounded, filtered, without any text."""

from __future__ import annotations

import asyncio
from collections import Counter
from heapq import nsmallest

from fairlead.rpc import invalid
from fairlead.v1 import admin_pb2, types_pb2
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.record_types import Record
from scheduler_svc.records import Records
from scheduler_svc.why import Teller, state_of, worker_id
from scheduler_svc.wire import class_to_wire

DEFAULT_PAGE = 100
MAX_PAGE = 1000
GIVES_WAY_EVERY = 256
"""Requests looked at in one go: well below a millisecond, so that tokens never wait for an operator."""


class LiveList:
    """Answers ListRequests.

    Args:
        core: knows who lives.
        records: what is known of them.
        teller: puts one into words.
    """

    def __init__(self, core: SchedulerCore, records: Records, teller: Teller) -> None:
        self._core = core
        self._records = records
        self._teller = teller

    async def page(self, request: admin_pb2.ListRequestsRequest, now_ms: float) -> admin_pb2.ListRequestsResponse:
        """One page: those on workers first, oldest first. Gives way to others now and then.

        Raises:
            Refusal: a field does not fit.
        """
        size = request.page_size or DEFAULT_PAGE
        if size > MAX_PAGE:
            raise invalid("page_size", f"must be at most {MAX_PAGE}")
        after = _after(request.page_token)
        counts: Counter[admin_pb2.RequestState] = Counter()
        fitting: list[tuple[int, int]] = []
        for number, job_id in enumerate(list(self._core.live_jobs())):
            if number % GIVES_WAY_EVERY == GIVES_WAY_EVERY - 1:
                await asyncio.sleep(0)
            record = self._records.of(job_id)
            if record is None or record.job.outcome is not None or not _fits(record, request):
                continue
            counts[state_of(record)] += 1
            place = (0 if record.job.worker is not None else 1, job_id)
            if place > after:
                fitting.append(place)
        shown = nsmallest(size, fitting)
        records = [record for _, job_id in shown if (record := self._records.of(job_id)) is not None]
        return admin_pb2.ListRequestsResponse(
            requests=[self._teller.view(record, now_ms) for record in records],
            next_page_token=f"{shown[-1][0]}-{shown[-1][1]:x}" if len(fitting) > size else "",
            counts=[
                admin_pb2.StateCount(state=state, requests=number)
                for state, number in sorted(counts.items(), key=lambda each: int(each[0]))
            ],
        )


def _fits(record: Record, request: admin_pb2.ListRequestsRequest) -> bool:
    if request.tenant and record.spec.tenant != request.tenant:
        return False
    wanted = request.service_class
    if wanted != types_pb2.SERVICE_CLASS_UNSPECIFIED and class_to_wire(record.job.spec.latency_sensitive) != wanted:
        return False
    if request.worker_id and worker_id(record.job.worker or "") != request.worker_id:
        return False
    return request.state in (admin_pb2.REQUEST_STATE_UNSPECIFIED, state_of(record))


def _after(token: str) -> tuple[int, int]:
    if not token:
        return (-1, -1)
    section, _, job_id = token[:32].partition("-")
    try:
        return (int(section), int(job_id, 16))
    except ValueError:
        raise invalid("page_token", "must be `next_page_token` of the last answer, or empty") from None
