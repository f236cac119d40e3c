"""Recorded answers as arrays: one example for each answer and each number of tokens out at which it is asked about."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictor_svc.encoder.session import Side, Vectors
from predictor_svc.features import PromptFacts, progress_facts, prompt_facts
from predictor_svc.head import HeadInputs
from predictor_svc.training.dataset import Row
from predictor_svc.training.tokens import Tokens, so_far

WINDOW = 50
"""Tokens between two questions about one answer, as the scheduler asks."""

MAX_WINDOW = 500
ASKED_AGAIN = 4
"""Later questions that one answer gives at most, drawn from all its windows."""

PROMPT_PIECES = 128
Array: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.int64]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, all) while texts are encoded."""


class Embeds(Protocol):
    """What gives vectors: `predictor_svc.encoder.session.Encoder`, or one that keeps what it gave."""

    @property
    def width(self) -> int:
        """Of a vector."""
        ...

    @property
    def sha256(self) -> str:
        """Of the encoder's weights."""
        ...

    def embed(self, texts: Sequence[str], *, max_tokens: int, side: Side = "start") -> Vectors:
        """One vector for each text."""
        ...


@dataclass(frozen=True)
class Examples:
    """n examples.

    Attributes:
        inputs: what the head sees.
        left: tokens left, [n], >= 1.
        group: equal for equal prompts, [n].
    """

    inputs: HeadInputs
    left: Array
    group: Indices

    @property
    def prompts(self) -> Sequence[str]:
        """Texts of the prompts, n."""
        return self.inputs.prompts

    def __len__(self) -> int:
        return len(self.left)

    def take(self, index: Indices) -> Examples:
        """Those at `index`."""
        return Examples(self.inputs.take(index), self.left[index], self.group[index])

    @property
    def first(self) -> NDArray[np.bool_]:
        """Which are first questions, with no token out; [n]."""
        return self.inputs.generated == 0


def make_examples(
    rows: Sequence[Row],
    encoder: Embeds,
    *,
    seed: int,
    reads_text: bool,
    text_pieces: int,
    at: Sequence[int] | None = None,
    tokens: Tokens | None = None,
    progress: Progress | None = None,
) -> Examples:
    """Encodes every prompt once and the answers' texts at their windows.

    Args:
        rows: recorded answers.
        encoder: gives the vectors.
        seed: draws the windows.
        reads_text: whether the answers' text is used at all; False where rows have lengths only.
        text_pieces: word pieces of the text so far that are encoded; 0: none.
        at: numbers of tokens out at which each longer answer is asked about again; None: windows drawn for each.
        tokens: tells where an answer's tokens end; None: they share its characters evenly.
        progress: told how far it is.
    """
    asked = [
        (row, out)
        for row in range(len(rows))
        for out in (_windows(rows[row], np.random.default_rng((seed, row))) if at is None else _fixed(rows[row], at))
    ]
    unique: dict[str, int] = {}
    for row in rows:
        unique.setdefault(row.prompt, len(unique))
    ends = [tokens.ends(row.response) if tokens is not None and reads_text else None for row in rows]
    texts = [so_far(rows[row].response, rows[row].tokens, out, ends[row]) if reads_text else "" for row, out in asked]
    total = len(unique) + sum(bool(text and text_pieces) for text in texts)
    done = 0

    def embed(text: str, pieces: int, *, end: bool) -> Array:
        nonlocal done
        done += 1
        if progress is not None and (done % 16 == 0 or done == total):
            progress(done, total)
        return encoder.embed([text], max_tokens=pieces, side="end" if end else "start")[0]

    vectors = np.stack([embed(prompt, PROMPT_PIECES, end=False) for prompt in unique])
    nothing = np.zeros(encoder.width, np.float32)
    facts: list[PromptFacts] = [prompt_facts(row.prompt, row.prompt_tokens) for row in rows]
    inputs = HeadInputs(
        prompt=vectors[[unique[rows[row].prompt] for row, _ in asked]],
        text=np.stack([embed(text, text_pieces, end=True) if text and text_pieces else nothing for text in texts]),
        facts=[facts[row] for row, _ in asked],
        progress=np.stack(
            [progress_facts(facts[row], text, out) for (row, out), text in zip(asked, texts, strict=True)]
        ),
        generated=np.array([out for _, out in asked], np.float32),
        prompts=tuple(rows[row].prompt for row, _ in asked),
    )
    left = np.array([rows[row].tokens - out for row, out in asked], np.float32)
    group = np.array([zlib.crc32(rows[row].prompt.encode()) for row, _ in asked], np.int64)
    return Examples(inputs, left, group)


def _windows(row: Row, random: np.random.Generator) -> list[int]:
    later = np.arange(WINDOW, min(row.tokens, MAX_WINDOW + 1), WINDOW)
    if len(later) > ASKED_AGAIN:
        later = np.sort(random.choice(later, ASKED_AGAIN, replace=False))
    return [0, *later.tolist()]


def _fixed(row: Row, at: Sequence[int]) -> list[int]:
    return [0, *(out for out in at if out < row.tokens)]
