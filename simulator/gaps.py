"""The longest time that a running request went without a token, kept without touching every request at every step."""

from __future__ import annotations

from bisect import bisect_left


class Gaps:
    """Gaps between the tokens of each sequence of one worker.

    Sequences that take part in every step share the steps' own times: the longest step since a time is looked up in a
    list of steps that no later one has outlasted. Only those that were paused are followed one by one.
    """

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._lasted: list[float] = []
        self._since: dict[int, float] = {}
        self._paused: dict[int, float] = {}
        self._longest: dict[int, float] = {}

    def stepped(self, end_ms: float, step_ms: float) -> None:
        """A step ended that lasted so long; of steps in a row that grow, the last one will do."""
        ends, lasted = self._ends, self._lasted
        while lasted and lasted[-1] <= step_ms:
            ends.pop()
            lasted.pop()
        ends.append(end_ms)
        lasted.append(step_ms)

    def began(self, handle: int, end_ms: float) -> None:
        """Its first token left at `end_ms`."""
        self._since[handle] = end_ms

    def paused(self, handle: int, last_token_ms: float) -> None:
        """It takes no part any more; `last_token_ms` is the end of the last step before."""
        since_ms = self._since.pop(handle, None)
        if since_ms is not None:
            self._note(handle, self._longest_step(since_ms))
            self._paused[handle] = last_token_ms

    def resumed(self, handles: list[int], end_ms: float) -> None:
        """These made tokens in a step that ended now: for the paused among them the pause is over."""
        if self._paused:
            for handle in self._paused.keys() & set(handles):
                self._note(handle, end_ms - self._paused.pop(handle))
                self._since[handle] = end_ms

    def ended(self, handle: int) -> float:
        """The longest gap of a sequence that is held no more, ms; 0 where it made fewer than two tokens."""
        since_ms = self._since.pop(handle, None)
        self._paused.pop(handle, None)
        longest_ms = self._longest.pop(handle, 0.0)
        return longest_ms if since_ms is None else max(longest_ms, self._longest_step(since_ms))

    def _note(self, handle: int, gap_ms: float) -> None:
        self._longest[handle] = max(gap_ms, self._longest.get(handle, 0.0))

    def _longest_step(self, since_ms: float) -> float:
        """The longest of the steps that ended after `since_ms`."""
        first = bisect_left(self._ends, since_ms + 1e-9)
        return self._lasted[first] if first < len(self._lasted) else 0.0
