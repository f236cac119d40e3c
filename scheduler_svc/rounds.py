"""When clients' streams may send: all that have something at once, and no more often than the event loop can bear.

A message costs far more than a token. While the loop has time, a delta follows each step of an engine at once. Once
messages take it all, steps that wait to be read would each bring hundreds of deltas more and the tokens of all would
fall behind; so a round of deltas is followed by a rest in proportion to the time that it took, in which tokens are
read, and these join the next delta. What is sent less often then is messages, not tokens.

The time that passed is what counts, not the CPU time: where others want the same CPU, workers and clients on one
machine first of all, a round takes longer, and what they all need then is fewer messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

REST = 2.0
"""Rest after a round, as a multiple of the time that its deltas took to make and to hand to gRPC."""
MAX_REST_S = 0.05
MOST_AT_ONCE = 8
"""Streams in one turn of the event loop: gRPC takes one new call in two turns or so, which must not last long."""


class Turned(Protocol):
    """A stream that waits for its turn."""

    def take_turn(self) -> None:
        """It may send one delta."""
        ...


class Rounds:
    """Gives streams their turns.

    Args:
        now_s: monotonic, s; how long a round takes is measured by it.
    """

    def __init__(self, now_s: Callable[[], float] = time.perf_counter) -> None:
        self._now_s = now_s
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Turned, None] = {}
        self._next_is_due = False
        self._not_before_s = 0.0

    def wait(self, stream: Turned) -> None:
        """The stream has something to send: it gets its turn in the next round."""
        self._waiting[stream] = None
        if not self._next_is_due:
            self._call_next()

    def _call_next(self) -> None:
        self._next_is_due = True
        if self._loop.time() >= self._not_before_s:
            self._loop.call_soon(self._begin)
        else:
            self._loop.call_at(self._not_before_s, self._begin)

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._go_on(list(waiting), self._now_s())

    def _go_on(self, left: list[Turned], begun_s: float) -> None:
        for stream in left[:MOST_AT_ONCE]:
            stream.take_turn()
        del left[:MOST_AT_ONCE]
        # What their tasks do now is done before this: the loop keeps the order in which it was asked.
        if left:
            self._loop.call_soon(self._go_on, left, begun_s)
        else:
            self._loop.call_soon(self._over, begun_s)

    def _over(self, begun_s: float) -> None:
        self._not_before_s = self._loop.time() + min(MAX_REST_S, REST * (self._now_s() - begun_s))
        self._next_is_due = False
        if self._waiting:
            self._call_next()
