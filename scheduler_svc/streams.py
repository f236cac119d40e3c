"""One client's stream of one request: at most one write in flight; tokens that come meanwhile join the next delta."""

from __future__ import annotations

import asyncio

from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2
from scheduler_svc.requests import Request
from scheduler_svc.rounds import Rounds


class ClientStream:
    """Reads a request's answer at its own pace.

    It belongs to the task that makes it, the one of the call.

    Args:
        request: what is read.
        from_token: first token wanted; at most the answer's present length.
        rounds: say when it may send.

    Attributes:
        cut: why the stream ends before the request; None while it goes on.
        taken: tokens of the answer that a delta has taken, or that were there before this stream.
    """

    __slots__ = ("_news", "_piece", "_rounds", "_tail_sent", "_task", "_token", "_turn", "cut", "request", "taken")

    def __init__(self, request: Request, from_token: int, rounds: Rounds) -> None:
        self.request = request
        self.cut: Refusal | None = None
        self.taken = len(request.answer)
        self._task = asyncio.current_task()
        self._token = from_token
        self._piece = request.answer.piece_at(from_token)
        self._tail_sent = False
        self._rounds = rounds
        self._turn = True  # a first token waits for nobody
        self._news: asyncio.Future[None] | None = None

    def tokens_came(self) -> None:
        """There is something to send."""
        if self._turn:
            self.wake()
        elif self._news is not None:
            self._rounds.wait(self)

    def take_turn(self) -> None:
        """It may send one delta now."""
        self._turn = True
        self.wake()

    def wake(self) -> None:
        """The request has ended, or something else is to be looked at."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def end(self, refusal: Refusal) -> None:
        """Ends this stream alone."""
        self.cut = refusal
        self.wake()

    def abort(self) -> None:
        """Ends the call even while a write is in flight that its client does not take."""
        if self._task is not None:
            self._task.cancel()

    async def next(self, delta: inference_pb2.Delta) -> bool:
        """Fills `delta` with what follows, as soon as there is something; False: the request, or this stream, is over.

        Args:
            delta: overwritten whole; one message can serve for all, once it is serialised.
        """
        request, answer = self.request, self.request.answer
        while self.cut is None:
            ended = request.finished is not None
            if not answer.follows(self._piece):
                if ended:
                    return self._tail(delta)
            elif self._turn or ended:
                self._turn = False
                self._piece = answer.fill(delta, self._token, self._piece, with_ids=request.return_token_ids)
                self._token += delta.token_count
                self.taken = max(self.taken, self._token)
                return True
            else:
                self._rounds.wait(self)
            await self._something()
        return False

    def _tail(self, delta: inference_pb2.Delta) -> bool:
        """Text that came after the last token: a delta of its own, once."""
        text = self.request.answer.tail()
        if not text or self._tail_sent:
            return False
        self._tail_sent = True
        delta.Clear()
        delta.first_token, delta.text = self._token, text
        return True

    async def _something(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None
