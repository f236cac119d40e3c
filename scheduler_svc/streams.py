"""One client's stream of one request: at most one write in flight; tokens that come meanwhile join the next delta."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2
from scheduler_svc.requests import Request


class ClientStream:
    """Reads a request's answer at its own pace.

    It belongs to the task that makes it, the one of the call.

    Args:
        request: what is read.
        from_token: first token wanted; at most the answer's present length.

    Attributes:
        cut: why the stream ends before the request; None while it goes on.
    """

    __slots__ = ("_news", "_piece", "_replayed_to", "_task", "_token", "cut", "request")

    def __init__(self, request: Request, from_token: int) -> None:
        self.request = request
        self.cut: Refusal | None = None
        self._task = asyncio.current_task()
        self._token = from_token
        self._piece = request.answer.piece_at(from_token)
        self._replayed_to = len(request.answer)
        self._news = asyncio.Event()

    @property
    def lag_tokens(self) -> int:
        """Tokens that came since this stream began and that no delta has taken."""
        return len(self.request.answer) - max(self._token, self._replayed_to)

    def wake(self) -> None:
        """There is something to send, or the end."""
        self._news.set()

    def end(self, refusal: Refusal) -> None:
        """Ends this stream alone."""
        self.cut = refusal
        self._news.set()

    def abort(self) -> None:
        """Ends the call even while a write is in flight that its client does not take."""
        if self._task is not None:
            self._task.cancel()

    async def deltas(self) -> AsyncIterator[inference_pb2.Delta]:
        """What follows, until the request has ended or the stream is cut."""
        request, answer = self.request, self.request.answer
        while self.cut is None:
            self._news.clear()
            made = answer.delta(self._token, self._piece, with_ids=request.return_token_ids)
            if made is not None:
                delta, self._piece = made
                self._token += delta.token_count
                yield delta
            elif request.finished is not None:
                tail = answer.tail()
                if tail:
                    yield inference_pb2.Delta(first_token=self._token, text=tail)
                return
            else:
                await self._news.wait()
