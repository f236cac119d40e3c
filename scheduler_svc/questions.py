"""Questions to the predictor, put when they cost nobody a first token.

An LS request that found room at once has its place, and its worker orders it by its targets: what a prediction says of
it concerns those that come later. So the question waits for its first token, at most `AT_LATEST_S`: where services
share a machine, the predictor would compute on the very CPU that is to carry that token. Whose text is not known yet
(a prompt of token ids that nobody had to look at) has it fetched first. No other question waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from scheduler_svc.requests import Request

AT_LATEST_S = 0.25


class Questions:
    """What is to be asked about live requests.

    Args:
        live: accepted requests that have not ended, by handle.
        ask: puts a question: about whom, and how many tokens were out.

    Attributes:
        put_off: requests whose question waits for their first token, and how many tokens were out.
    """

    def __init__(self, live: Mapping[int, Request], ask: Callable[[Request, int], None]) -> None:
        self._live = live
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self.put_off: dict[int, int] = {}
        self._fetching: set[asyncio.Task[None]] = set()

    def put(self, request: Request, generated_tokens: int, *, placed: bool) -> None:
        """Asks about a request; `placed`: a worker has it already."""
        if placed and request.latency_sensitive and generated_tokens == request.answer.text_from:
            self.put_off[request.handle] = generated_tokens
            self._loop.call_later(AT_LATEST_S, self._no_longer_put_off, request.handle)
        else:
            self._send(request, generated_tokens)

    def token_came(self, request: Request) -> None:
        """Tokens of a request are on their way to its client."""
        if request.handle in self.put_off:
            self._loop.call_soon(self._no_longer_put_off, request.handle)

    def _no_longer_put_off(self, handle: int) -> None:
        generated_tokens = self.put_off.pop(handle, None)
        request = self._live.get(handle)
        if generated_tokens is not None and request is not None:
            self._send(request, generated_tokens)

    def _send(self, request: Request, generated_tokens: int) -> None:
        if request.fetch_text is None:
            self._ask(request, generated_tokens)
            return
        fetching = asyncio.create_task(self._fetch(request, generated_tokens))
        self._fetching.add(fetching)
        fetching.add_done_callback(self._fetching.discard)

    async def _fetch(self, request: Request, generated_tokens: int) -> None:
        assert request.fetch_text is not None
        fetch, request.fetch_text = request.fetch_text, None
        text = await fetch()
        if request.finished is None:
            request.prompt_text = text
            self._ask(request, generated_tokens)
