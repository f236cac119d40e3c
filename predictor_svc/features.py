"""What a prompt and an answer so far say about length without being understood: words, numbers, progress.

Sentence vectors see the topic well and the numbers badly, and in "12 fruits", "5 sentences" or "from 3 to 40" the
numbers decide. So the numbers are read out, and from the text so far how many of what was asked for are there already.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictor_svc.written import WRITTEN_NUMERIC, written_facts

FEATURES_VERSION = 1
"""Of what an `encoder` head reads; raised with every change of it: a head works only with what it was trained on."""

MODEL_FEATURES_VERSION = 2
"""Of everything here and in `written`, which the other models read."""

WORD_BUCKETS = 4096
WIDE_BUCKETS = 65_536
"""Of the same hash; `WORD_BUCKETS` divides it."""

MAX_CHARS = 8000
"""Of a prompt or an answer; of a longer one the start and the end, half each."""

Array: TypeAlias = NDArray[np.float32]

_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_NUMBER = re.compile(r"\d{1,7}(?:\.\d+)?|[a-z]+")
_DIGITS = re.compile(r"\d{1,7}")
_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f]+(?=\s|$)")
# "one" is mostly an article, so it counts for nothing.
_WORD_NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18,
    "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90, "hundred": 100, "thousand": 1000, "dozen": 12, "couple": 2, "pair": 2, "twice": 2,
}  # fmt: skip


@dataclass(frozen=True)
class PromptFacts:
    """What is read from a prompt once and kept for each re-prediction.

    Attributes:
        numeric: float32 [PROMPT_NUMERIC].
        buckets: hashed words and word pairs, int32 [n], without repeats.
        weights: float32 [n], of length 1 in all.
        wide: the same words among `WIDE_BUCKETS`, int32 [m], without repeats.
        wide_weights: float32 [m], of length 1 in all.
        numbers: numbers in the prompt, in order, at most 8.
    """

    numeric: Array
    buckets: NDArray[np.int32]
    weights: Array
    wide: NDArray[np.int32]
    wide_weights: Array
    numbers: tuple[float, ...]


def prompt_facts(prompt: str, prompt_tokens: int) -> PromptFacts:
    """Reads a prompt of any size and script."""
    text = _shortened(prompt)
    lower = text.lower()
    words = _TOKEN.findall(lower)
    numbers = _numbers(lower)
    counted = _counted(words)
    buckets, weights = _hashed(counted, WORD_BUCKETS)
    wide, wide_weights = _hashed(counted, WIDE_BUCKETS)
    logs = [math.log1p(number) for number in numbers]
    spread = max(numbers) - min(numbers) if len(numbers) > 1 else 0.0
    step = abs(numbers[-1] - numbers[0]) if len(numbers) > 1 else 0.0
    numeric = [
        math.log1p(prompt_tokens),
        math.log1p(len(prompt)),
        math.log1p(len(words)),
        float(len(numbers)),
        *(logs[:4] + [0.0] * 4)[:4],
        logs[-1] if logs else 0.0,
        max(logs, default=0.0),
        min(logs, default=0.0),
        math.log1p(spread),
        math.log1p(step),
        math.log1p(numbers[0] * numbers[1]) if len(numbers) > 1 else 0.0,
        math.log1p(text.count("\n")),
        math.log1p(len(_SENTENCE.findall(text))),
        float("?" in text),
        math.log1p(text.count(",")),
        math.log1p(text.count('"') + text.count("'")),
        math.log1p(sum(not character.isascii() for character in text)),
    ]
    return PromptFacts(np.array(numeric, np.float32), buckets, weights, wide, wide_weights, numbers)


def progress_facts(facts: PromptFacts, text: str, generated_tokens: int) -> Array:
    """What the answer so far says about what is left; float32 [PROGRESS_NUMERIC], zeros before the first token.

    For each count of "how many are there" (list numbers, sentences, lines, commas, words) against each number that may
    be "how many were asked for", the tokens left if it goes on like this, in log; 0 where the two say nothing. After
    these COUNTED numbers comes what `written_facts` reads from the text.
    """
    if generated_tokens <= 0:
        return np.zeros(PROGRESS_NUMERIC, np.float32)
    text = _shortened(text)
    found = [float(number) for number in _DIGITS.findall(text)]
    last_number = found[-1] if found else 0.0
    counts = (
        last_number,
        float(len(_SENTENCE.findall(text))),
        float(text.count("\n")),
        float(text.count(",")),
        float(len(text.split())),
    )
    asked = (
        facts.numbers[0] if facts.numbers else 0.0,
        facts.numbers[-1] if facts.numbers else 0.0,
        max(facts.numbers, default=0.0),
    )
    left = [_left(count, goal, generated_tokens) for count in counts for goal in asked]
    low, high = (min(facts.numbers), max(facts.numbers)) if len(facts.numbers) > 1 else (0.0, 0.0)
    stripped = text.rstrip()
    numeric = [
        1.0,
        float(bool(text)),
        math.log1p(generated_tokens),
        *(math.log1p(count) for count in counts),
        *left,
        _left(last_number - low, high - low, generated_tokens),
        _left(high - last_number, high - low, generated_tokens) if found else 0.0,
        float(stripped[-1:] in ".!?"),
        float(stripped[-1:] in ",:;"),
        float(text[-1:] == "\n"),
        len(text) / generated_tokens / 8,
        *written_facts(frozenset(facts.wide.tolist()), WIDE_BUCKETS, text, generated_tokens),
    ]
    return np.array(numeric, np.float32)


PROMPT_NUMERIC = 20
COUNTED = 29
"""Numbers of progress that an `encoder` head reads."""
PROGRESS_NUMERIC = COUNTED + WRITTEN_NUMERIC


def _left(count: float, goal: float, tokens: int) -> float:
    """log(1 + tokens left) if `count` of `goal` took `tokens`; 0 where goal or count says nothing."""
    if goal <= 0 or count <= 0:
        return 0.0
    return math.log1p(min(tokens * max(goal - count, 0.0) / count, 1e5))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS // 2] + text[-MAX_CHARS // 2 :]


def _numbers(lower: str) -> tuple[float, ...]:
    found: list[float] = []
    for word in _NUMBER.findall(lower):
        value = float(word) if word[0].isdigit() else _WORD_NUMBERS.get(word)
        if value is not None:
            found.append(value)
    return tuple(found[:8])


def _counted(words: list[str]) -> Counter[int]:
    """Words and neighbouring pairs, numbers as such, by CRC-32 (the same on every machine)."""
    plain = ["0" * len(word) if word.isdigit() else word for word in words]
    counted = Counter(words) + Counter(f"{first} {second}" for first, second in pairwise(plain))
    return Counter({zlib.crc32(word.encode()): count for word, count in counted.items()})


def _hashed(counted: Counter[int], buckets: int) -> tuple[NDArray[np.int32], Array]:
    merged: Counter[int] = Counter()
    for code, count in counted.items():
        merged[code % buckets] += count
    if not merged:
        return np.zeros(0, np.int32), np.zeros(0, np.float32)
    weights = np.sqrt(np.fromiter(merged.values(), np.float32, len(merged)))
    weights = np.asarray(weights / np.linalg.norm(weights), np.float32)
    return np.fromiter(merged.keys(), np.int32, len(merged)), weights
