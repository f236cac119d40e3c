"""What is sent: the same prompts and answer lengths to everyone, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

PROMPT_TOKENS = (16, 96)
ANSWER_TOKENS = (32, 160)
_FIRST_ID = 64
"""Token ids below may be special or single bytes."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: prompt as token ids, and exactly so many output tokens (the end-of-text token is ignored)."""

    token_ids: tuple[int, ...]
    answer_tokens: int


def asks(seed: int, vocabulary: int, variant: int) -> Iterator[Ask]:
    """Endless requests.

    Args:
        seed: of lengths and ids.
        vocabulary: size; ids are below it.
        variant: the prompts' first token, so that who is measured twice on one engine meets no cached prefix.
    """
    rng = random.Random(seed)
    while True:
        prompt = rng.choices(range(_FIRST_ID, vocabulary), k=rng.randint(*PROMPT_TOKENS))
        yield Ask((_FIRST_ID + variant, *prompt), rng.randint(*ANSWER_TOKENS))
