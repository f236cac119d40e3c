"""What the text of an answer so far says beside counts: whether it goes in circles, comes to its end, has parts.

Everything is read from the answer as it stands, and from the prompt; nothing of what is still to come. Work is bounded:
of a long answer its end is read.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection

TAIL_CHARS = 3000
"""Of an answer's end that is read."""

RECENT_WORDS = 24
GRAM = 4
WRITTEN_NUMERIC = 26

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_END = re.compile(r"[.!?\u3002\uff01\uff1f]+(?=\s|$)")
_CLOSING = re.compile(
    r"\b(?:answer is|in conclusion|in summary|to summari[sz]e|finally|overall|therefore|thus|hope this|let me know|"
    r"good luck|the end|ultimately|best regards|sincerely)\b|\\boxed|####"
)
_ITEM = re.compile(r"^\s*(?:\d{1,3}[.):]|[-*\u2022]|(?:step|part)\s+\d+)", re.MULTILINE)
_CHOICE = re.compile(r"\([A-Z]\)")


def written_facts(prompt_words: Collection[int], buckets: int, text: str, generated_tokens: int) -> list[float]:
    """WRITTEN_NUMERIC numbers; zeros where there is no text.

    Args:
        prompt_words: words of the prompt by CRC-32 modulo `buckets`.
        buckets: of that hash.
        text: the answer so far.
        generated_tokens: tokens of it.
    """
    tail = text[-TAIL_CHARS:]
    lower = tail.lower()
    words = _WORD.findall(lower)
    if not words or generated_tokens <= 0:
        return [0.0] * WRITTEN_NUMERIC
    return [*_circles(words, tail), *_ending(lower, words), *_parts(tail), *_vocabulary(words, prompt_words, buckets)]


def _circles(words: list[str], tail: str) -> list[float]:
    """Repeated groups of words: in all, in what came last, and how long ago the last words were written before."""
    grams = list(zip(*(words[at:] for at in range(GRAM)), strict=False))
    last_at: dict[tuple[str, ...], int] = {}
    again: list[bool] = []
    distance = 0
    for place, gram in enumerate(grams):
        before = last_at.get(gram)
        again.append(before is not None)
        distance = place - before if before is not None else 0
        last_at[gram] = place
    recent = again[-RECENT_WORDS:]
    packed = tail[-1000:].encode("utf-8", "replace")
    half = len(words) // 2
    fresh = set(words[half:]) - set(words[:half])
    return [
        sum(again) / max(len(again), 1),
        sum(recent) / max(len(recent), 1),
        float(len(recent) == RECENT_WORDS and all(recent)),
        math.log1p(distance),
        len(zlib.compress(packed, 1)) / max(len(packed), 1),
        len(set(words[-64:])) / len(words[-64:]),
        len(fresh) / max(len(words) - half, 1),
    ]


def _ending(lower: str, words: list[str]) -> list[float]:
    """Words that answers close with, and how far the last sentence has come."""
    found = list(_CLOSING.finditer(lower))
    since = len(lower) - found[-1].end() if found else 0
    ends = [match.end() for match in _END.finditer(lower)]
    open_chars = len(lower) - ends[-1] if ends else len(lower)
    sentence = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else 0.0
    return [
        float(bool(found)),
        math.log1p(len(found)),
        math.log1p(since),
        float(bool(found) and since < 60),
        math.log1p(open_chars),
        math.log1p(sentence),
        len(words) / max(len(lower), 1) * 5,
    ]


def _parts(tail: str) -> list[float]:
    """Lists, paragraphs, code, formulas, and what is open."""
    size = max(len(tail), 1)
    return [
        math.log1p(len(_ITEM.findall(tail))),
        math.log1p(tail.count("\n\n")),
        float(tail.count("```") % 2),
        math.log1p(max(sum(tail.count(one) for one in "([{") - sum(tail.count(one) for one in ")]}"), 0)),
        math.log1p(len(_CHOICE.findall(tail))),
        sum(character.isdigit() for character in tail) / size,
        sum(tail.count(one) for one in "=+\\^$") / size,
        sum(character.isupper() for character in tail) / size,
    ]


def _vocabulary(words: list[str], prompt_words: Collection[int], buckets: int) -> list[float]:
    """How much of what was written last stands in the prompt, and how much of the prompt was written."""
    codes = [zlib.crc32(word.encode("utf-8", "surrogatepass")) % buckets for word in words]
    recent = codes[-RECENT_WORDS:]
    said = len(set(codes) & set(prompt_words))
    return [
        sum(code in prompt_words for code in recent) / len(recent),
        sum(code in prompt_words for code in codes) / len(codes),
        math.log1p(said),
        said / max(len(set(prompt_words)), 1),
    ]
