"""Tells right answers from wrong ones, for the kinds of task where that can be told."""

from __future__ import annotations

import re

from fairlead.workload.tasks import Task
from fairlead.workload.words import CATEGORIES, NUMBER_WORDS

_ONE_ANSWER = frozenset(
    {"sum_short", "sum_steps", "rewrite", "pick", "count", "times_table", "squares_table", "repeat"}
)
_NUMBERED = re.compile(r"(\d+)\. (.+)")
_ASKED = re.compile(r"\b(?:in|with) (\w+) (sentences|lines|steps)\b")


def is_right(task: Task, response: str) -> bool | None:
    """Whether the response is right; None for tasks with no right and wrong.

    Sums, counting and rewriting have one answer. Lists and tables must hold exactly as many entries as asked for,
    lists of words also only members of the category and none twice. Prose with a number of sentences, lines or steps
    may miss it by a tenth.
    """
    response = response.strip()
    if task.kind in _ONE_ANSWER:
        return response == task.answer
    if task.kind == "list_exact":
        return _is_list(response, len(task.answer.splitlines()))
    if task.kind in {"list_notes", "shopping_table"}:
        return len(response.splitlines()) == len(task.answer.splitlines())
    asked = _ASKED.search(task.prompt)
    if asked is None:
        return None
    wanted = _value(asked[1])
    return wanted is not None and abs(_units(response, asked[2]) - wanted) <= wanted * 0.1


def _is_list(response: str, wanted: int) -> bool:
    entries = [_NUMBERED.fullmatch(line) for line in response.splitlines()]
    if [entry and int(entry[1]) for entry in entries] != list(range(1, wanted + 1)):
        return False
    words = [entry[2] for entry in entries if entry]
    return len(set(words)) == wanted and any(set(words) <= set(bank) for bank in CATEGORIES.values())


def _value(word: str) -> int | None:
    if word.isdecimal():
        return int(word)
    return NUMBER_WORDS.index(word) if word in NUMBER_WORDS else None


def _units(response: str, unit: str) -> int:
    if unit == "sentences":
        return len(re.findall(r"[.!?](?:\s|$)", response))
    return sum(1 for line in response.splitlines() if line)
