"""Token pacing on the reader's side: an answer that comes in bursts is shown at an even rate.

A server that orders by quality of experience (policy `qoe`) serves a reader ahead of time and then turns to others.
What is ahead waits here, so that the reader sees one token each TPOT (Andes, arXiv 2404.16283).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from fairlead.client_stream import Event
from fairlead.client_types import Delta


class Pacer:
    """When each token is to be shown: as soon as it is there, but not sooner than `tpot_ms` after the one before.

    Args:
        tpot_ms: time that a reader takes for a token; above 0.

    Raises:
        ValueError: `tpot_ms` is not above 0.
    """

    def __init__(self, tpot_ms: float) -> None:
        if not tpot_ms > 0:  # NaN is not
            raise ValueError(f"tpot_ms: {tpot_ms} must be above 0")
        self._tpot_ms = tpot_ms
        self._next_ms = float("-inf")

    def due_ms(self, now_ms: float, tokens: int) -> float:
        """When `tokens` that came now are to be shown; tokens of one delta are shown together."""
        due_ms = max(now_ms, self._next_ms)
        self._next_ms = due_ms + tokens * self._tpot_ms
        return due_ms


async def paced(
    events: AsyncGenerator[Event, None],
    tpot_ms: float,
    *,
    clock_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Event, None]:
    """The same events, each delta held back until its reader is ready for it; all else follows what came before it.

    The stream is read on meanwhile, so that the server never waits; what is held is at most the answer. Errors of the
    stream come after the deltas that came before them. Closing this generator closes `events`.

    Raises:
        ValueError: `tpot_ms` is not above 0.
    """
    pacer = Pacer(tpot_ms)
    arrived: asyncio.Queue[tuple[float, Event] | None] = asyncio.Queue()
    reader = asyncio.create_task(_read(events, arrived, clock_s))
    try:
        while (item := await arrived.get()) is not None:
            at_s, event = item
            if isinstance(event, Delta):
                wait_s = pacer.due_ms(at_s * 1000, event.token_count) / 1000 - clock_s()
                if wait_s > 0:
                    await sleep(wait_s)
            yield event
        await reader
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await reader
        await events.aclose()


async def _read(
    events: AsyncIterator[Event], arrived: asyncio.Queue[tuple[float, Event] | None], clock_s: Callable[[], float]
) -> None:
    try:
        async for event in events:
            arrived.put_nowait((clock_s(), event))
    finally:
        arrived.put_nowait(None)
