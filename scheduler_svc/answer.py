"""The tokens and text of one answer, kept so that a client's stream can begin at any token.

Text comes in pieces, one for the tokens of one message; which token brought which character is not known. A piece's
text therefore lies at its last token: who holds a piece only in part has none of its text yet. What a client was sent
always ends where a piece ends, so what it is sent next begins there, without gap or repeat.

Text that comes without tokens waits for the next ones, or, at the end of the answer, for the tail: one delta of no
tokens, right before the outcome.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from fairlead.v1 import inference_pb2

MAX_DELTA_TOKENS = 8192
"""Tokens in one delta, so that it stays well below the largest message."""


class Answer:
    """Grows by `append`; `seal` ends it and packs it.

    Args:
        received: tokens that the client holds from an earlier scheduler; their text is not known here.

    Attributes:
        tokens: ids of all tokens.
        text_from: first token whose text is known here.
    """

    __slots__ = ("_char_ends", "_late", "_parts", "_piece_ends", "_sealed", "text_from", "tokens")

    def __init__(self, received: Sequence[int] = ()) -> None:
        self.tokens = array("I", received)
        self.text_from = len(received)
        self._piece_ends = array("I")
        self._char_ends = array("I")
        self._parts: list[str] = []
        self._late = ""
        self._sealed: str | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, token_ids: Sequence[int], text: str) -> int:
        """Adds what one message brought; returns how many tokens there are."""
        tokens = self.tokens
        if not token_ids:
            self._late += text
            return len(tokens)
        if self._late:
            text, self._late = self._late + text, ""
        tokens.extend(token_ids)
        length = len(tokens)
        self._piece_ends.append(length)
        self._parts.append(text)
        return length

    def text(self) -> str:
        """All that is known of the text."""
        return (self._sealed if self._sealed is not None else "".join(self._parts)) + self._late

    def tail(self) -> str:
        """Text that came after the last token."""
        return self._late

    def seal(self) -> None:
        """No more follows: packs the text, which streams go on reading."""
        self._sealed = "".join(self._parts)
        self._char_ends = array("I", accumulate(map(len, self._parts)))
        self._parts.clear()

    def piece_at(self, token: int) -> int:
        """Index of the first piece that holds `token` or a later one."""
        return bisect_right(self._piece_ends, token)

    def follows(self, piece: int) -> bool:
        """Whether there is a piece of this index or a later one."""
        return piece < len(self._piece_ends)

    def fill(self, delta: inference_pb2.Delta, token: int, piece: int, *, with_ids: bool) -> int:
        """Writes what follows from `token`, which `piece` is the first to hold, over `delta`; there must be something.

        Returns:
            The piece after it.
        """
        ends = self._piece_ends
        last = len(ends)
        if ends[-1] - token > MAX_DELTA_TOKENS:
            last = max(piece + 1, bisect_right(ends, token + MAX_DELTA_TOKENS))
        end = ends[last - 1]
        if self._sealed is None:
            text = self._parts[piece] if last == piece + 1 else "".join(self._parts[piece:last])
        else:
            text = self._sealed[self._char_ends[piece - 1] if piece else 0 : self._char_ends[last - 1]]
        delta.first_token = token
        delta.token_count = end - token
        delta.text = text
        if with_ids:
            del delta.token_ids[:]
            delta.token_ids.extend(self.tokens[token:end])
        return last
