"""Requests by id and by handle: what the shell keeps of each, while it lives and for some time after.

Only the core decides about a request; what is here are the words and streams that the core does not know.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.answer import Answer

if TYPE_CHECKING:
    from fairlead.telemetry.traces import Trace
    from scheduler_svc.streams import ClientStream

MAX_KEPT_TOKENS = 5_000_000
"""Tokens of ended answers that are kept in all, whatever `finished_kept` says."""
_MAX_HANDLE = 2**32 - 1
_EPOCH_HANDLES = 20

Key = tuple[str, str]
"""(tenant, request_id)."""


@dataclass(slots=True, eq=False)
class Request:
    """One accepted request.

    Attributes:
        handle: the core's job_id and the workers' handle.
        accepted: as the client was told.
        digest: of its content.
        latency_sensitive: its class.
        prompt_ids, prompt_text: until it ends.
        sampling: for the whole answer; `max_tokens` clamped to the context.
        slo: targets, all filled in, for the worker.
        arrived_ms, expires_ms: on the shell's clock.
        resume_grace_ms: how long it goes on without a client.
        return_token_ids: ids beside the text in every delta.
        length_hint: true length, from an operator.
        streams: of clients that read it now.
        finished: its last event, once it has ended.
        cached_prompt_tokens, matched_stop, worker_id: as the workers told.
        grace: ends it unless a client comes back.
        trace: its span; None where it has none.
        on_end: told when it has its outcome, by a job whose line it is: it lives without clients, and what becomes of
            it is kept in the journal, not here.
        fetch_text: gets `prompt_text` where only token ids were given; None: it is known.
    """

    handle: int
    accepted: inference_pb2.Accepted
    digest: bytes
    latency_sensitive: bool
    prompt_ids: array[int]
    prompt_text: str
    sampling: types_pb2.SamplingParams
    slo: types_pb2.Slo
    arrived_ms: float
    expires_ms: float
    resume_grace_ms: int
    return_token_ids: bool
    length_hint: int | None
    answer: Answer
    streams: list[ClientStream] = field(default_factory=list["ClientStream"])
    finished: inference_pb2.Finished | None = None
    cached_prompt_tokens: int = 0
    matched_stop: str | None = None
    worker_id: str = ""
    grace: asyncio.TimerHandle | None = None
    trace: Trace | None = None
    on_end: Callable[[Request], None] | None = None
    fetch_text: Callable[[], Awaitable[str]] | None = None

    @property
    def key(self) -> Key:
        """(tenant, request_id)."""
        return self.accepted.tenant, self.accepted.request_id


@dataclass(frozen=True, slots=True)
class Reservation:
    """An id whose request is still being prepared. `done`: it was accepted, or refused, and the id looked up again."""

    digest: bytes
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Book:
    """All requests that can be asked for by id.

    Args:
        finished_kept: ended requests that are kept; those asked for longest ago go first.
        epoch: of this leadership; handles of different epochs differ.

    Attributes:
        live: by handle, from acceptance until the outcome.
        preparing: ids whose requests are not accepted yet.
    """

    def __init__(self, finished_kept: int, epoch: int) -> None:
        self.live: dict[int, Request] = {}
        self.preparing: dict[Key, Reservation] = {}
        self._by_key: dict[Key, Request] = {}
        self._tenants: dict[str, None] = {}
        self._ended: OrderedDict[Key, Request] = OrderedDict()
        self._ended_tokens = 0
        self._finished_kept = finished_kept
        self._handle = (epoch & (_MAX_HANDLE >> _EPOCH_HANDLES)) << _EPOCH_HANDLES

    def next_handle(self) -> int:
        """A handle that no live request has; never 0."""
        while True:
            self._handle = self._handle % _MAX_HANDLE + 1
            if self._handle not in self.live:
                return self._handle

    def find(self, key: Key) -> Request | None:
        """The request with this id, live or ended."""
        request = self._by_key.get(key)
        if request is not None and key in self._ended:
            self._ended.move_to_end(key)
        return request

    def find_any(self, request_id: str, tenant: str | None) -> list[Request]:
        """Requests with this id, of one tenant or of all that ever asked here; looked at, not asked for."""
        tenants = (tenant,) if tenant is not None else tuple(self._tenants)
        keys = [(name, request_id) for name in tenants]
        return [self._by_key[key] for key in keys if key in self._by_key]

    def live_of(self, tenant: str) -> int:
        """Requests of a tenant that are accepted, or being prepared, and have not ended."""
        names = [request.accepted.tenant for request in self.live.values()] + [name for name, _ in self.preparing]
        return names.count(tenant)

    def forget_tenant(self, tenant: str) -> None:
        """Drops the ended requests of a tenant."""
        for key in [key for key in self._ended if key[0] == tenant]:
            self._ended_tokens -= len(self._ended.pop(key).answer)
            del self._by_key[key]
        self._tenants.pop(tenant, None)

    def add(self, request: Request) -> None:
        """Takes an accepted request."""
        self.live[request.handle] = request
        self._by_key[request.key] = request
        self._tenants[request.accepted.tenant] = None

    def ended(self, request: Request) -> None:
        """It has its outcome: keeps what a client may still ask for, forgets the oldest beyond the bounds."""
        del self.live[request.handle]
        request.prompt_ids, request.prompt_text = array("I"), ""
        request.answer.seal()
        if request.on_end is not None:
            del self._by_key[request.key]
            return
        self._ended[request.key] = request
        self._ended_tokens += len(request.answer)
        while len(self._ended) > self._finished_kept or self._ended_tokens > MAX_KEPT_TOKENS:
            key, oldest = self._ended.popitem(last=False)
            self._ended_tokens -= len(oldest.answer)
            del self._by_key[key]


def tokens_agree(answer: Answer, received: Sequence[int]) -> bool:
    """Whether `received` is how this answer begins."""
    return len(received) <= len(answer) and answer.tokens[: len(received)] == array("I", received)
