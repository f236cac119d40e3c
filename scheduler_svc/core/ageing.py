"""Keys that change while nothing happens, refreshed about once a second, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

PERIOD_MS = 1000.0
LEAST_SLICES = 10
MOST_IN_SLICE = 64
"""Jobs refreshed at once: some tenths of a millisecond, so that no event waits long behind it."""


class Ageing:
    """Hands out live job ids in slices, so that no single tick pays for all of them.

    Attributes:
        due_ms: when the next slice is due; None while there is nothing to refresh.
    """

    def __init__(self) -> None:
        self.due_ms: float | None = None
        self._left: list[int] = []
        self._slice = 1
        self._every_ms = PERIOD_MS / LEAST_SLICES

    def wake(self, now_ms: float) -> None:
        """There is something to refresh again."""
        if self.due_ms is None:
            self.due_ms = now_ms + PERIOD_MS / LEAST_SLICES

    def stop(self) -> None:
        """Nothing ages any more."""
        self.due_ms = None
        self._left.clear()

    def take(self, now_ms: float, live: Callable[[], Iterable[int]]) -> list[int]:
        """The ids to refresh now: a slice of `live()` as it was when the round began.

        A round is spread over a second, in ten slices or in as many as keep them small.
        """
        if self.due_ms is None or now_ms < self.due_ms:
            return []
        if not self._left:
            self._left = list(live())
            slices = max(LEAST_SLICES, -(-len(self._left) // MOST_IN_SLICE))
            self._slice = len(self._left) // slices + 1
            self._every_ms = PERIOD_MS / slices
        chosen = self._left[-self._slice :]
        del self._left[-self._slice :]
        self.due_ms = now_ms + self._every_ms if chosen else None
        return chosen
