"""Recorded answers, one JSON object a line: `prompt`, and `response_tokens` or `response` or both."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

MAX_LINE_CHARS = 4_000_000
MAX_TOKENS = 1_000_000
SHOWN_BROKEN = 20

OnBroken: TypeAlias = Literal["skip", "refuse"]
CountTokens: TypeAlias = Callable[[str], int]


class DataError(Exception):
    """Training data that can't be used; the message names file, line and remedy."""


@dataclass(frozen=True)
class Row:
    """One recorded answer.

    Attributes:
        prompt: its text.
        prompt_tokens: of the prompt.
        tokens: of the answer, >= 1.
        response: its text, "" where only its length was recorded.
    """

    prompt: str
    prompt_tokens: int
    tokens: int
    response: str


@dataclass(frozen=True)
class Recorded:
    """What a file held.

    Attributes:
        name: of the file, without its folder.
        sha256: of the file's bytes.
        rows: the usable ones, in order.
        broken: (line number from 1, what is wrong), the first 20.
        broken_count: of all.
    """

    name: str
    sha256: str
    rows: list[Row]
    broken: list[tuple[int, str]]
    broken_count: int

    def summary(self) -> dict[str, Any]:
        """As the head's card says it."""
        return {"file": self.name, "sha256": self.sha256, "rows": len(self.rows), "broken_lines": self.broken_count}


def read_recorded(path: Path, *, on_broken: OnBroken, count_tokens: CountTokens | None = None) -> Recorded:
    """Reads a JSONL file, plain or gzipped.

    Args:
        path: ends in .gz if it is gzipped.
        on_broken: what to do with a line that is not a usable row.
        count_tokens: counts an answer's tokens where `response_tokens` is missing; None: such a row is broken.

    Raises:
        DataError: it can't be read, holds no usable row, or has a broken line and `on_broken` is "refuse".
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a JSONL file of recorded answers") from None
    rows: list[Row] = []
    broken: list[tuple[int, str]] = []
    count = 0
    for number, line in lines_of(path, content):
        row = row_of(line, count_tokens)
        if isinstance(row, Row):
            rows.append(row)
            continue
        if on_broken == "refuse":
            raise DataError(f"{path.name} line {number}: {row}; mend it, or give --broken skip")
        count += 1
        if len(broken) < SHOWN_BROKEN:
            broken.append((number, row))
    if not rows:
        why = f"; line {broken[0][0]}: {broken[0][1]}" if broken else ""
        raise DataError(f"{path.name}: no usable row{why}")
    return Recorded(path.name, hashlib.sha256(content).hexdigest(), rows, broken, count)


def read_with_lengths(prompts: Path, lengths: Path, model: str, *, on_broken: OnBroken) -> Recorded:
    """Reads a prompts file (JSONL: `prompt_id`, `prompt`, `prompt_tokens`) with one model's column of a lengths CSV.

    Args:
        prompts: plain or .gz.
        lengths: CSV, plain or .gz: `prompt_id` and a column of answer tokens for each model; an empty cell is no row.
        model: the column.
        on_broken: what to do with a prompt that is no usable row.

    Raises:
        DataError: a file can't be read, the model has no column, no row is usable, or one is broken and refused.
    """
    tokens = _column(lengths, model)
    content = content_of(prompts)
    rows: list[Row] = []
    broken: list[tuple[int, str]] = []
    count = 0
    for number, line in lines_of(prompts, content):
        row = _row_with(line, tokens)
        if row is None:
            continue
        if isinstance(row, Row):
            rows.append(row)
            continue
        if on_broken == "refuse":
            raise DataError(f"{prompts.name} line {number}: {row}; mend it, or give --broken skip")
        count += 1
        if len(broken) < SHOWN_BROKEN:
            broken.append((number, row))
    if not rows:
        raise DataError(f"{prompts.name}: no prompt has a length of {model!r} in {lengths.name}")
    sha256 = hashlib.sha256(content + lengths.read_bytes()).hexdigest()
    return Recorded(f"{prompts.name}+{model}", sha256, rows, broken, count)


def models_of(lengths: Path) -> list[str]:
    """The models that a lengths CSV has a column of; raises DataError."""
    header = next(_csv_rows(lengths), None)
    if not header or header[0] != "prompt_id" or len(header) < 2:
        raise DataError(f"{lengths.name}: the first line must be prompt_id and a column for each model")
    return header[1:]


def _column(lengths: Path, model: str) -> dict[str, str]:
    models = models_of(lengths)
    if model not in models:
        shown = ", ".join(models[:8])
        raise DataError(f"--model {model}: {lengths.name} has no such column; it has {shown} ({len(models)} in all)")
    column = models.index(model) + 1
    rows = _csv_rows(lengths)
    next(rows)
    return {row[0]: row[column] for row in rows if len(row) > column and row[column].strip()}


def _csv_rows(path: Path) -> Iterator[list[str]]:
    lines = (line.decode("utf-8", "replace") for _, line in lines_of(path, content_of(path)))
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        raise DataError(f"{path.name}: not CSV: {error}") from None


def _row_with(line: bytes, tokens: Mapping[str, str]) -> Row | str | None:
    """The row, what is wrong with it, or None where its prompt has no length."""
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    fields = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    if not isinstance(fields.get("prompt_id"), str):
        return "no prompt_id"
    length = tokens.get(fields["prompt_id"])
    if length is None:
        return None
    try:
        counted = int(float(length))
    except (ValueError, OverflowError):
        return f"length {length[:20]!r} is no number"
    return row_of(json.dumps({**fields, "response_tokens": counted}).encode(), None)


def content_of(path: Path) -> bytes:
    """A file's bytes; raises DataError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give a file that can be read") from None


def lines_of(path: Path, content: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers, of a plain or gzipped file; raises DataError for a damaged one."""
    raw = io.BytesIO(content)
    number = 0
    try:
        with gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name}: damaged after line {number}: {error}") from None


def row_of(line: bytes, count_tokens: CountTokens | None) -> Row | str:
    """The row, or what is wrong with it."""
    if len(line) > MAX_LINE_CHARS:
        return f"{len(line)} bytes, at most {MAX_LINE_CHARS}"
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(value, dict):
        return "not a JSON object"
    fields = cast(dict[str, Any], value)
    prompt, response = fields.get("prompt"), fields.get("response", "")
    if not isinstance(prompt, str) or not isinstance(response, str):
        return "prompt and response must be texts"
    tokens = fields.get("response_tokens")
    if tokens is None and response and count_tokens is not None:
        tokens = count_tokens(response)
    if tokens is None:
        return "no response_tokens (give --tokenizer to have responses counted)"
    prompt_tokens = fields.get("prompt_tokens", max(len(prompt) // 4, 1))
    for name, number in (("response_tokens", tokens), ("prompt_tokens", prompt_tokens)):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= MAX_TOKENS:
            return f"{name} is not a whole number from 0 to {MAX_TOKENS}"
    return Row(prompt, prompt_tokens, max(tokens, 1), response)
