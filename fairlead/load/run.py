"""Sends a plan at its arrival times whatever the answers do (open loop), or keeps a number in flight (closed loop)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fairlead.client import AsyncClient, Delta, Event, FairleadError, Finished, Outcome, ServiceClass
from fairlead.load.plan import Planned

GIVEN_UP = "GIVEN_UP"
"""Outcome of what the load itself cancelled, because it had not ended within the bound after the last arrival."""


@dataclass(slots=True)
class Record:
    """What came of one request. Times in s from the start of the load, as this client saw them.

    Attributes:
        arrival_s: when it was due; TTFT and JCT count from here, so that a late sender cannot flatter them.
        sent_s: when it was sent.
        first_s, last_s: its first and its last token; None if there was none.
        outcome: the contract's outcome, the gRPC status of a refusal, or GIVEN_UP.
        scheduler_ttft_ms, queue_ms: on the scheduler's clock, from arrival there.
    """

    index: int
    tenant: str
    service_class: ServiceClass
    arrival_s: float
    ttft_target_ms: float | None
    tpot_target_ms: float | None
    sent_s: float = 0.0
    first_s: float | None = None
    last_s: float | None = None
    output_tokens: int = 0
    outcome: str = GIVEN_UP
    accepted: bool = False
    detail: str = ""
    scheduler_ttft_ms: float | None = None
    queue_ms: float | None = None
    predicted_p50_tokens: float | None = None
    evictions: int = 0
    pauses: int = 0

    @property
    def finished(self) -> bool:
        """Whether the whole answer came."""
        return self.outcome in (Outcome.STOP, Outcome.LENGTH)

    @property
    def ttft_ms(self) -> float | None:
        """Due time to first token at the client."""
        return None if self.first_s is None else (self.first_s - self.arrival_s) * 1000

    @property
    def jct_ms(self) -> float | None:
        """Due time to last token at the client, of finished requests."""
        return (self.last_s - self.arrival_s) * 1000 if self.finished and self.last_s is not None else None

    @property
    def tpot_ms(self) -> float | None:
        """Mean time per token after the first; None below two tokens."""
        if self.first_s is None or self.last_s is None or self.output_tokens < 2:
            return None
        return (self.last_s - self.first_s) * 1000 / (self.output_tokens - 1)


@dataclass
class Progress:
    """How far a load is."""

    planned: int
    sent: int = 0
    ended: int = 0
    failed: int = 0
    tokens: int = 0


Watch: TypeAlias = Callable[[Planned, Event], None]


class Load:
    """Sends requests over one connection a tenant and records what comes back.

    Args:
        clients: tenant to client.
        watch: called with every event of every request, e.g. to show one answer.
        clock: monotonic, s.
    """

    def __init__(
        self,
        clients: Mapping[str, AsyncClient],
        *,
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clients, self._watch, self._clock = clients, watch, clock
        self.progress = Progress(0)

    async def run_open(self, plan: Sequence[Planned], *, finish_s: float) -> list[Record]:
        """Sends each request at its time; what has not ended `finish_s` after the last arrival is given up."""
        if not plan:
            return []
        self.progress = Progress(len(plan))
        start_s = self._clock()
        records: list[Record] = []
        tasks: list[asyncio.Task[None]] = []
        try:
            for request in plan:
                wait_s = start_s + request.arrival_s - self._clock()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                records.append(_record(request))
                tasks.append(asyncio.create_task(self._send(request, records[-1], start_s)))
            await asyncio.wait(tasks, timeout=finish_s)
        finally:
            await _end(tasks)
        return records

    async def run_closed(
        self, plan: Sequence[Planned], *, in_flight: int, submit_s: float, finish_s: float = 60.0
    ) -> list[Record]:
        """Keeps `in_flight` requests going for `submit_s` or until the plan is used up; then they may finish.

        What has not ended `finish_s` later is given up.
        """
        self.progress = Progress(len(plan))
        start_s = self._clock()
        records: list[Record] = []
        left: Iterator[Planned] = iter(plan)

        async def sender() -> None:
            while self._clock() - start_s < submit_s:
                request = next(left, None)
                if request is None:
                    return
                record = _record(request)
                record.arrival_s = self._clock() - start_s
                records.append(record)
                await self._send(request, record, start_s)

        tasks = [asyncio.create_task(sender()) for _ in range(in_flight)]
        try:
            await asyncio.wait(tasks, timeout=submit_s + finish_s)
        finally:
            await _end(tasks)
        return records

    async def _send(self, request: Planned, record: Record, start_s: float) -> None:
        clock, progress = self._clock, self.progress
        record.sent_s = clock() - start_s
        progress.sent += 1
        events = self._clients[request.tenant].generate(request.prompt, **request.options())
        try:
            async with contextlib.aclosing(events):
                async for event in events:
                    if isinstance(event, Delta):
                        record.last_s = clock() - start_s
                        if record.first_s is None:
                            record.first_s = record.last_s
                        record.output_tokens += event.token_count
                        progress.tokens += event.token_count
                    elif isinstance(event, Finished):
                        _finish(record, event, clock() - start_s)
                    else:
                        record.accepted = True
                        record.ttft_target_ms, record.tpot_target_ms = event.ttft_ms, event.tpot_ms
                    if self._watch is not None:
                        self._watch(request, event)
        except FairleadError as error:
            record.outcome, record.detail = error.code.name, error.message
        finally:
            progress.ended += 1
            progress.failed += not record.finished


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _record(request: Planned) -> Record:
    return Record(
        request.index, request.tenant, request.service_class, request.arrival_s, request.ttft_ms, request.tpot_ms
    )


def _finish(record: Record, event: Finished, now_s: float) -> None:
    record.outcome, record.detail = str(event.outcome), event.detail
    record.output_tokens = event.usage.output_tokens
    record.scheduler_ttft_ms, record.queue_ms = event.decision.ttft_ms, event.decision.queue_ms
    record.predicted_p50_tokens = event.decision.predicted_p50_tokens
    record.evictions, record.pauses = event.decision.evictions, event.decision.pauses
    if record.last_s is None:  # an answer without a token ends with its outcome
        record.first_s = record.last_s = now_s
