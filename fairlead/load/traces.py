"""Production traces as CSV or CSV.gz: when requests came and how long they were."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

MAX_ROWS = 5_000_000
_NEEDED = ("arrival_s", "input_tokens", "output_tokens")


class TraceError(Exception):
    """A trace that can't be read; the message names the file, the row and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace: arrival in s from its start, lengths in tokens, and who sent it, where it says so."""

    arrival_s: float
    input_tokens: int
    output_tokens: int
    session: str = ""


def read_trace(path: Path, limit: int | None = None) -> list[TraceRow]:
    """The first `limit` rows of a trace with columns arrival_s, input_tokens, output_tokens and perhaps session.

    Raises:
        TraceError: no such file, a column is missing, or a row does not fit (rows are counted as lines of the file).
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise TraceError(f"{path}: row 1: column {', '.join(missing)} is missing; needed: {', '.join(_NEEDED)}")
            rows = list(itertools.islice(_rows(path, reader), limit if limit is not None else MAX_ROWS))
    except FileNotFoundError:
        raise TraceError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error, EOFError) as error:
        raise TraceError(f"{path}: cannot be read as CSV ({error})") from None
    if not rows:
        raise TraceError(f"{path}: has no rows")
    return rows


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[TraceRow]:
    before_s = 0.0
    for raw in reader:
        where = f"{path}: row {reader.line_num}"
        try:
            row = TraceRow(
                float(raw["arrival_s"]), int(raw["input_tokens"]), int(raw["output_tokens"]), raw.get("session") or ""
            )
        except (TypeError, ValueError) as error:
            raise TraceError(f"{where}: {error}") from None
        if not math.isfinite(row.arrival_s) or row.arrival_s < before_s:
            raise TraceError(
                f"{where}: arrival_s {row.arrival_s} is not a time at or after the row before ({before_s})"
            )
        if row.input_tokens < 1 or row.output_tokens < 1:
            raise TraceError(f"{where}: input_tokens and output_tokens must be at least 1")
        before_s = row.arrival_s
        yield row


def spread_ticks(rows: list[TraceRow], tick_s: float) -> list[TraceRow]:
    """Spreads requests that share a stamp evenly over the `tick_s` after it, for traces with coarse clocks."""
    spread: list[TraceRow] = []
    for stamp_s, group in itertools.groupby(rows, key=lambda row: row.arrival_s):
        same = list(group)
        spread += [replace(row, arrival_s=stamp_s + tick_s * i / len(same)) for i, row in enumerate(same)]
    return sorted(spread, key=lambda row: row.arrival_s)
