"""Words and answers of the simulated engine: a word tokenizer that needs no files, and answers that need no model.

A token is a word of three syllables; a word that is not one of these is hashed to one, so a prompt has as many tokens
as words. An answer is a function of the prompt, the seed and the position alone: two runs can be compared token by
token.
"""

from __future__ import annotations

import random
import zlib
from array import array
from collections.abc import Sequence

_SYLLABLES = ("ba", "de", "fi", "go", "ka", "le", "mi", "no", "pa", "re", "si", "to", "va", "we", "zi", "lu")
WORDS = tuple(first + second + third for first in _SYLLABLES for second in _SYLLABLES for third in _SYLLABLES)
VOCABULARY = len(WORDS)
_IDS = {word: index for index, word in enumerate(WORDS)}
_MASK = (1 << 64) - 1


def tokenize(text: str) -> list[int]:
    """One id a word, words being what white space separates."""
    return [_IDS[word] if word in _IDS else zlib.crc32(word.encode()) % VOCABULARY for word in text.split()]


def detokenize(token_ids: Sequence[int]) -> str:
    """The words of these ids; IndexError for an id outside the vocabulary."""
    return " ".join([WORDS[token] for token in token_ids])


def answer_key(prompt: Sequence[int], seed: int) -> int:
    """What an answer depends on: the prompt without forced tokens, and the seed; 64 bits."""
    data = array("I", prompt).tobytes()
    return (zlib.crc32(data) | zlib.adler32(data) << 32) ^ (seed * 0x9E3779B97F4A7C15 & _MASK)


def answer_token(key: int, index: int) -> int:
    """Token `index` of the answer with this key."""
    mixed = (key + index * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    return (mixed >> 40) % VOCABULARY


def answer_length(key: int, median_tokens: float, spread: float = 0.8) -> int:
    """Length of the answer with this key, before any limit: log-normal over keys, at least 1 token."""
    return max(1, round(median_tokens * random.Random(key).lognormvariate(0.0, spread)))


def first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Where the first of `stops` begins in `text` and which it is; the longer one where two begin at one place."""
    found = [(at, -len(stop), stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not found:
        return None
    at, _, stop = min(found)
    return at, stop
