"""Reads what a scheduler recorded (`scheduler.decision_log`): files in order, every line checked, mistakes by name.

A recording is what one scheduler process wrote, in one file or several. A half line at its very end is what a crash
leaves behind: it is left out and said. Anything else that does not fit is an error with file and line.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from scheduler_svc.core import codec
from scheduler_svc.core.types import Event, PolicySettings, TenantTerms, WorkerUp

MAX_LINE_BYTES = 64_000_000
MARK = "fairlead_decision_log"
_PATTERN = "decisions-*.jsonl*"


class LogError(ValueError):
    """A decision log that can't be used; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a file.

    Attributes:
        segment: 1 for the first file of a recording.
        ms: on the clock of the events.
        policy, settings, terms, workers: in force and connected when the file was begun.
    """

    path: Path
    recording: str
    segment: int
    started_at: str
    ms: float
    policy: str
    settings: PolicySettings
    look_ahead: int
    tenants: str
    workers: tuple[WorkerUp, ...]
    terms: tuple[TenantTerms, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One line: an event, or a tick with what it decided (as JSON values).

    Attributes:
        where: file and line, for messages.
        event: None for a tick.
    """

    where: str
    ms: float
    event: Event | None
    decided: Sequence[Mapping[str, Any]] = ()


@dataclass
class Recording:
    """The files of one recording, in order.

    Attributes:
        notes: what a user should know: a half last line, other recordings in the folder.
        lost: lines that the scheduler could not write in time.
    """

    headers: tuple[Header, ...]
    notes: list[str] = field(default_factory=list[str])
    lost: int = 0

    @property
    def whole(self) -> bool:
        """Whether it is there from the scheduler's start on."""
        return self.headers[0].segment == 1

    def items(self) -> Iterator[Item]:
        """Every event and tick. Raises LogError."""
        for header in self.headers:
            last = header is self.headers[-1]
            for number, line in _lines(header.path):
                if number == 1:
                    continue
                value = self._value(header.path, number, line, last)
                if value is not None:
                    yield _item(f"{header.path}: line {number}", value)

    def _value(self, path: Path, number: int, line: bytes, last: bool) -> dict[str, Any] | None:
        where = f"{path}: line {number}"
        if not line.endswith(b"\n") and last:
            self.notes.append(f"{where} is half a line: the scheduler ended there; it is left out")
            return None
        value = _json(where, line)
        if "lost" in value:
            self.lost += int(value["lost"])
            return None
        return value


def open_recording(path: Path) -> Recording:
    """A recording: one of its files, or all those of the newest one in a folder.

    Raises:
        LogError: there is none, a file is missing in the middle, or a header does not fit.
    """
    if path.is_dir():
        return _newest(path)
    if not path.is_file():
        raise LogError(f"{path}: there is no such file or folder; scheduler.decision_log names where one is recorded")
    return Recording((_header(path),))


def _newest(folder: Path) -> Recording:
    paths = [path for path in sorted(folder.glob(_PATTERN)) if path.name.endswith((".jsonl", ".jsonl.gz"))]
    if not paths:
        raise LogError(f"{folder}: holds no decision log (decisions-*.jsonl or .jsonl.gz)")
    headers = [_header(path) for path in paths]
    newest = max(headers, key=lambda header: (header.started_at, header.segment)).recording
    # A file and its gzip lie side by side where a crash came between; one of them is enough.
    by_segment = {header.segment: header for header in headers if header.recording == newest}
    mine = [by_segment[segment] for segment in sorted(by_segment)]
    for before, after in pairwise(mine):
        if after.segment != before.segment + 1:
            raise LogError(
                f"{folder}: {before.path.name} is file {before.segment} of its recording, the next is {after.segment}"
            )
    recording = Recording(tuple(mine))
    others = {header.recording for header in headers} - {newest}
    if others:
        recording.notes.append(
            f"{folder} holds {len(others)} earlier recordings too; this is the newest; name a file for another"
        )
    return recording


def _header(path: Path) -> Header:
    where = f"{path}: line 1"
    first = next(_lines(path), None)
    if first is None:
        raise LogError(f"{path}: is empty; a decision log begins with a header")
    value = _json(where, first[1])
    version = value.get(MARK)
    if version is None:
        raise LogError(f"{where}: is not the header of a decision log (no {MARK!r})")
    if version != codec.VERSION:
        raise LogError(f"{where}: is of version {version!r}; this release reads {codec.VERSION}")
    try:
        return Header(
            path,
            str(value["recording"]),
            int(value["segment"]),
            str(value["started_at"]),
            codec.read_ms(value, "ms"),
            str(value["policy"]),
            codec.read_settings(value["settings"]),
            int(value["look_ahead"]),
            str(value.get("tenants", "")),
            tuple(codec.read_worker(each) for each in value["workers"]),
            codec.read_terms(value.get("terms", [])),
        )
    except KeyError as error:
        raise LogError(f"{where}: {error.args[0]} is missing") from None
    except (TypeError, ValueError) as error:
        raise LogError(f"{where}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise LogError(f"{path}: line {number + 1}: can't be read ({error})") from None


def _json(where: str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise LogError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise LogError(f"{where}: not an object")
    return cast("dict[str, Any]", value)


def _item(where: str, value: dict[str, Any]) -> Item:
    try:
        if "e" in value:
            event, ms = codec.read_event(value)
            return Item(where, ms, event)
        if "t" in value:
            return Item(where, codec.read_ms(value, "t"), None, _decided(value.get("d", [])))
    except ValueError as error:
        raise LogError(f"{where}: {error}") from None
    raise LogError(f"{where}: is neither an event (e) nor a tick (t)")


def _decided(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in cast("list[Any]", value)):
        raise ValueError("d: must be a list of decisions")
    return cast("list[Mapping[str, Any]]", value)
