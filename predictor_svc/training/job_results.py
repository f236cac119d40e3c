"""Recorded answers from a durable job: the file that was submitted, and the results that `fairlead jobs results` wrote.

A line belongs to the result of its `custom_id`, or of its number where it has none. Only answers that ended by
themselves have a length that a predictor can learn; the others are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from predictor_svc.training.dataset import (
    SHOWN_BROKEN,
    DataError,
    OnBroken,
    Recorded,
    Row,
    content_of,
    lines_of,
    row_of,
)

WHOLE = "STOP"


def read_job(submitted: Path, results: Path, *, on_broken: OnBroken) -> Recorded:
    """Reads both files, plain or .gz.

    Raises:
        DataError: one can't be read, no line has a whole answer, or one is broken and refused.
    """
    answers = _answers(results, on_broken)
    content = content_of(submitted)
    rows: list[Row] = []
    broken: list[tuple[int, str]] = []
    count = 0
    for number, line in lines_of(submitted, content):
        row = _row(line, number, answers)
        if row is None:
            continue
        if isinstance(row, Row):
            rows.append(row)
            continue
        if on_broken == "refuse":
            raise DataError(f"{submitted.name} line {number}: {row}; mend it, or give --broken skip")
        count += 1
        if len(broken) < SHOWN_BROKEN:
            broken.append((number, row))
    if not rows:
        raise DataError(f"{submitted.name}: no line of it has a whole answer in {results.name}")
    sha256 = hashlib.sha256(content + content_of(results)).hexdigest()
    return Recorded(f"{submitted.name}+{results.name}", sha256, rows, broken, count)


def _answers(results: Path, on_broken: OnBroken) -> dict[str | int, Mapping[str, Any]]:
    """Whole answers by custom_id, and by line where there is none."""
    found: dict[str | int, Mapping[str, Any]] = {}
    for number, line in lines_of(results, content_of(results)):
        told = _object(line)
        if told is None or not isinstance(told.get("usage"), dict) or not isinstance(told.get("line"), int):
            if on_broken == "refuse":
                raise DataError(f"{results.name} line {number}: no result of a job; mend it, or give --broken skip")
            continue
        if str(told.get("outcome")).upper() == WHOLE:
            found[str(told["custom_id"]) if told.get("custom_id") else int(told["line"])] = told
    return found


def _row(line: bytes, number: int, answers: Mapping[str | int, Mapping[str, Any]]) -> Row | str | None:
    """The row, what is wrong with it, or None where it has no whole answer."""
    told = _object(line)
    if told is None:
        return "not a JSON object"
    custom_id = told.get("custom_id")
    answer = answers.get(custom_id) if isinstance(custom_id, str) and custom_id else answers.get(number)
    if answer is None:
        return None
    body = cast(dict[str, Any], told["body"]) if isinstance(told.get("body"), dict) else told
    prompt = body.get("prompt") if "prompt" in body else _conversation(body.get("messages"))
    usage = answer["usage"]
    fields = {
        "prompt": prompt,
        "response": answer.get("text", ""),
        "response_tokens": usage.get("output_tokens"),
        "prompt_tokens": usage.get("prompt_tokens"),
    }
    return row_of(json.dumps(fields).encode(), None)


def _conversation(messages: object) -> str | None:
    """What the predictor is shown of a conversation: its turns, one after the other."""
    if not isinstance(messages, list):
        return None
    turns = [cast(dict[str, Any], one).get("content") for one in cast(list[object], messages) if isinstance(one, dict)]
    return "\n".join(turn for turn in turns if isinstance(turn, str))


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None
