"""The pure half of the clients: what a stream has delivered, when to retry, and how it goes on after a break."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from tenacity import RetryCallState
from tenacity.stop import stop_base

from fairlead.client_errors import FairleadError, InternalError, StreamLost
from fairlead.client_trace import CallTrace
from fairlead.client_types import Accepted, Completion, Delta, Event, Finished, accepted_from, delta_from, finished_from
from fairlead.v1 import inference_pb2 as inference

Opening: TypeAlias = inference.GenerateRequest | inference.AttachRequest
Response: TypeAlias = inference.GenerateResponse | inference.AttachResponse


@dataclass(frozen=True)
class Retry:
    """Bounds of what the client tries again by itself.

    Attributes:
        attempts: calls made in all before a refusal is passed on; 1 is no retry.
        first_delay_s: wait before the second attempt where the server names none; doubles with each.
        max_delay_s: longest wait; a refusal that asks for more is passed on at once, unless the request had been
            accepted and is sent again to another scheduler.
        reattach_attempts: times that a broken stream is taken up again without one new token.
        seed: of the jitter; None: random.
    """

    attempts: int = 5
    first_delay_s: float = 0.2
    max_delay_s: float = 5.0
    reattach_attempts: int = 5
    seed: int | None = None

    def worth(self, error: BaseException, *, accepted: bool = False) -> bool:
        """Whether a refusal may pass by itself, soon; `accepted`: the request had been, by a scheduler that is lost."""
        if not isinstance(error, FairleadError):
            return False
        told = error.retry_after_ms
        if told is not None and told / 1000 > self.max_delay_s and not accepted:
            return False
        # RESOURCE_EXHAUSTED without RetryInfo is a message beyond the transport's bound: it will not pass.
        return error.code == grpc.StatusCode.UNAVAILABLE or (
            error.code == grpc.StatusCode.RESOURCE_EXHAUSTED and told is not None
        )

    def delays(self) -> Callable[[RetryCallState], float]:
        """The wait before each attempt, s: what the server told, or doubling; with jitter, never less than told."""
        rng = random.Random(self.seed)

        def delay(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            told = error.retry_after_ms if isinstance(error, FairleadError) else None
            if told is not None:
                return told / 1000 * rng.uniform(1.0, 1.1)
            doubled = self.first_delay_s * 2 ** (state.attempt_number - 1)
            return min(self.max_delay_s, doubled) * rng.uniform(0.5, 1.0)

        return delay


@dataclass
class Deadline(stop_base):
    """The time that a request has left, and tenacity's stop where the next wait would outlast it. `clock` in s."""

    timeout_s: float | None
    clock: Callable[[], float]
    _end_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._end_s = self.clock() + (self.timeout_s or 0.0)

    def left_s(self) -> float | None:
        """Seconds left, at least 0; None where there is no deadline."""
        return None if self.timeout_s is None else max(0.0, self._end_s - self.clock())

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: D102
        left_s = self.left_s()
        return left_s is not None and retry_state.upcoming_sleep >= left_s


class Broken(InternalError):
    """The stream is not what it should be: a gap, half a repeat, or an end without an outcome."""


@dataclass
class Progress:
    """What one request's streams have delivered so far; drops what is repeated, refuses gaps.

    Attributes:
        request: as first sent; its id names the request ever after.
        next_token: index of the first token not yet delivered.
        breaks: streams that broke since the last new token.
        trace: its span, where there is one.
        established: something was delivered (or was by an earlier client), so that a break is not a refusal.
    """

    request: inference.GenerateRequest
    trace: CallTrace
    next_token: int = 0
    breaks: int = 0
    established: bool = False
    accepted: Accepted | None = None
    finished: Finished | None = None
    _token_ids: list[int] = field(default_factory=list[int])
    _tail_at: int = -1

    @property
    def request_id(self) -> str:
        """The id under which the request can be attached to or cancelled."""
        return self.request.request_id

    @property
    def can_ask_again(self) -> bool:
        """Whether a request that the scheduler does not know can be sent to it: accepted once, and asked for here."""
        return self.accepted is not None and self.request.WhichOneof("input") is not None

    def take(self, response: Response) -> Event | None:
        """The event that the caller is to see, or None for a repeat.

        Raises:
            Broken: tokens are missing before this delta, or it repeats only in part.
        """
        self.established = True
        if response.HasField("delta"):
            return self._take_delta(response.delta)
        if response.HasField("finished"):
            self.finished = finished_from(response.finished)
            self.trace.finished(self.finished)
            return self.finished
        if response.HasField("accepted") and self.accepted is None:
            self.accepted = accepted_from(response.accepted)
            self.trace.accepted(self.accepted)
            return self.accepted
        return None

    def _take_delta(self, message: inference.Delta) -> Delta | None:
        end = message.first_token + message.token_count
        if (message.token_count or self._tail_at == end) and end <= self.next_token:
            return None
        if message.first_token != self.next_token:
            raise Broken(f"a delta of tokens {message.first_token} to {end} came where {self.next_token} was due")
        delta = delta_from(message)
        self.next_token = end
        self._token_ids.extend(delta.token_ids)
        if delta.token_count:
            self.breaks = 0
            self.trace.delta()
        else:
            # Text after the last token comes once; a stream taken up again at the same token brings it once more.
            self._tail_at = end
        return delta

    def after_break(self, why: FairleadError, retry: Retry) -> inference.AttachRequest:
        """How the request goes on after its stream broke.

        Raises:
            StreamLost: it broke too often without a new token between.
        """
        self._count_break(why, retry)
        return inference.AttachRequest(request_id=self.request_id, from_token=self.next_token)

    def after_forgotten(self, why: FairleadError, retry: Retry) -> inference.GenerateRequest:
        """How the request goes on where the scheduler no longer knows it: it was lost, and another took its place.

        Raises:
            StreamLost: it broke too often, or text was delivered without the token ids to continue it from.
        """
        self._count_break(why, retry)
        if self.next_token and len(self._token_ids) != self.next_token:
            raise StreamLost(
                f"the scheduler no longer knows request {self.request_id} after {self.next_token} tokens; "
                "ask again, with return_token_ids to be able to go on",
                request_id=self.request_id,
            ) from why
        again = inference.GenerateRequest()
        again.CopyFrom(self.request)
        del again.received_token_ids[:]
        again.received_token_ids.extend(self._token_ids)
        return again

    def _count_break(self, why: FairleadError, retry: Retry) -> None:
        self.breaks += 1
        self.trace.broke(why)
        if self.breaks > retry.reattach_attempts:
            raise StreamLost(
                f"the stream broke {self.breaks} times in a row ({why}); the request may still run: attach to it later",
                request_id=self.request_id,
            ) from why


@dataclass
class Collected:
    """Gathers the events of one request into a `Completion`."""

    parts: list[str] = field(default_factory=list[str])
    token_ids: list[int] = field(default_factory=list[int])
    request_id: str = ""

    def add(self, event: Event) -> Completion | None:
        """Takes one event; the completion at the last."""
        if isinstance(event, Accepted):
            self.request_id = event.request_id
        elif isinstance(event, Delta):
            self.parts.append(event.text)
            self.token_ids.extend(event.token_ids)
        else:
            return Completion(
                self.request_id, "".join(self.parts), tuple(self.token_ids), event.outcome, event.usage, event.decision,
                event.matched_stop,
            )  # fmt: skip
        return None
