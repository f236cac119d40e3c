"""Finds a trace by file or by name, and reads it: CSV or JSONL, gzipped or not."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fairlead.load.traces import MAX_ROWS, TraceError, TraceRow, read_trace

DATA_VARIABLE = "FAIRLEAD_DATA"
COARSE_CLOCKS = {"mooncake_conversation": 3.0}
"""Known traces whose arrivals are stamped in ticks of so many seconds: spread over them."""
_SUFFIXES = (".csv.gz", ".csv", ".jsonl.gz", ".jsonl")


@dataclass(frozen=True, slots=True)
class TraceSource:
    """Where a trace lies, what it is called, and its clock's tick where it is coarse (s; None: fine)."""

    name: str
    path: Path
    tick_s: float | None


def find_trace(source: str) -> TraceSource:
    """A file, or a trace of the data folder (`FAIRLEAD_DATA`, or its subfolder `traces`) by name.

    Raises:
        TraceError: neither; the message lists the names that are known.
    """
    path = Path(source)
    if path.is_file():
        return _source(path)
    known = known_traces()
    if source in known:
        return _source(known[source])
    names = ", ".join(sorted(known)) or f"none (set {DATA_VARIABLE} to the folder that has them)"
    raise TraceError(f"{source}: there is no such file, and no trace of this name; known traces: {names}")


def known_traces() -> dict[str, Path]:
    """Traces of the data folder by name."""
    folder = os.environ.get(DATA_VARIABLE)
    found: dict[str, Path] = {}
    for place in (Path(folder) / "traces", Path(folder)) if folder else ():
        for path in sorted(place.glob("*")) if place.is_dir() else ():
            if path.name.endswith(_SUFFIXES):
                found.setdefault(_name(path), path)
    return found


def read_any(path: Path, limit: int | None) -> list[TraceRow]:
    """The first `limit` rows of a CSV or JSONL file, gzipped or not.

    Raises:
        TraceError: it can't be read, or a row does not fit; the message names file, row and field.
    """
    if ".jsonl" not in path.suffixes[-2:]:
        return read_trace(path, limit)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            rows = list(itertools.islice(_json_rows(path, file), limit if limit is not None else MAX_ROWS))
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise TraceError(f"{path}: cannot be read as JSONL ({error})") from None
    if not rows:
        raise TraceError(f"{path}: has no rows")
    return rows


def _source(path: Path) -> TraceSource:
    name = _name(path)
    return TraceSource(name, path, COARSE_CLOCKS.get(name))


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0] or path.name


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[TraceRow]:
    before_s = 0.0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}: row {number}"
        try:
            value = json.loads(line)
        except ValueError as error:
            raise TraceError(f"{where}: not JSON ({error})") from None
        if not isinstance(value, dict):
            raise TraceError(f"{where}: not an object")
        row = _json_row(where, cast(dict[str, Any], value))
        if row.arrival_s < before_s:
            raise TraceError(f"{where}: arrival_s {row.arrival_s} is before that of the row before ({before_s})")
        before_s = row.arrival_s
        yield row


def _json_row(where: str, value: dict[str, Any]) -> TraceRow:
    numbers: list[float] = []
    for name, least in (("arrival_s", 0), ("input_tokens", 1), ("output_tokens", 1)):
        given = value.get(name)
        if name not in value:
            raise TraceError(f"{where}: {name} is missing")
        if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given) or given < least:
            raise TraceError(f"{where}: {name} is {given!r}; it must be a number and at least {least}")
        numbers.append(given)
    return TraceRow(float(numbers[0]), int(numbers[1]), int(numbers[2]), str(value.get("session") or ""))
