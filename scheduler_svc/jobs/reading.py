"""Takes a job's file as it comes, in pieces cut anywhere, and checks it line by line."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import grpc

from fairlead.config import JobsConfig
from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2, jobs_pb2
from scheduler_svc.jobs.line_format import BadLine, parse_line
from scheduler_svc.journal.records import Line

MAX_BAD_LINES = 20
"""Bad lines that a refusal names; reading ends there."""
LINES_AT_ONCE = 16
"""Lines that are read before others have the event loop."""
MB = 1_000_000

Check = Callable[[inference_pb2.GenerateRequest], None]


class JobFile:
    """A file that is being submitted.

    Args:
        options: of the job.
        limits: of its size.
        check: raises Refusal where a request can't be served as it is.

    Attributes:
        lines: as they go into the journal.
        size_bytes: of what came so far.
    """

    def __init__(self, options: jobs_pb2.JobOptions, limits: JobsConfig, check: Check) -> None:
        self.lines: list[Line] = []
        self.size_bytes = 0
        self._limits = limits
        self._check = check
        self._defaults = options.sampling
        self._stops = list(options.sampling.stop), list(options.sampling.stop_token_ids)
        self._model = options.model
        self._left = bytearray()
        self._number = 0
        self._bad: list[tuple[str, str]] = []
        self._ids: dict[str, int] = {}
        described = jobs_pb2.JobOptions()
        described.CopyFrom(options)
        described.ClearField("idempotency_key")
        self._digest = hashlib.sha256(described.SerializeToString(deterministic=True))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the options and the file so far."""
        return self._digest.digest()

    async def take(self, piece: bytes) -> None:
        """The next bytes. Raises Refusal: too large, or enough bad lines to say so."""
        self.size_bytes += len(piece)
        if self.size_bytes > self._limits.max_job_mb * MB:
            raise _too_large(f"has more than {self._limits.max_job_mb:g} MB", "scheduler.jobs.max_job_mb")
        self._digest.update(piece)
        self._left += piece
        whole: list[bytes] = []
        if b"\n" in piece:
            *whole, rest = bytes(self._left).split(b"\n")
            self._left = bytearray(rest)
        for index, line in enumerate(whole):
            self._line(line)
            if index % LINES_AT_ONCE == LINES_AT_ONCE - 1:
                await asyncio.sleep(0)
        if len(self._left) > self._limits.max_line_bytes:
            self._number += 1
            self._note("", self._too_long())
            raise self._refusal()

    def end(self) -> None:
        """No more follows. Raises Refusal where a line is bad, or there is none."""
        if self._left:
            self._line(bytes(self._left))
            self._left.clear()
        if self._bad:
            raise self._refusal()
        if not self.lines:
            what = "the file holds no request; give one JSON object a line"
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT, f"jsonl: {what}", fields=[("jsonl", what)], reason="INVALID_FIELD"
            )

    def _line(self, line: bytes) -> None:
        self._number += 1
        if self._number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            return
        if len(line) > self._limits.max_line_bytes:
            self._note("", self._too_long())
        elif len(self.lines) >= self._limits.max_lines:
            raise _too_large(f"has more than {self._limits.max_lines} lines", "scheduler.jobs.max_lines")
        else:
            self._request(line)
        if len(self._bad) >= MAX_BAD_LINES:
            raise self._refusal()

    def _request(self, line: bytes) -> None:
        try:
            custom_id, request = parse_line(line)
            self._fill_in(request)
            self._check(request)
        except BadLine as error:
            self._note(error.path, error.what)
            return
        except Refusal as refusal:
            path, what = next(iter(refusal.fields), ("", refusal.message))
            self._note(path.removeprefix("sampling."), what)
            return
        if custom_id:
            first = self._ids.setdefault(custom_id, self._number)
            if first != self._number:
                self._note("custom_id", f"{custom_id!r} is that of line {first} already")
                return
        self.lines.append(Line(self._number, custom_id, request.SerializeToString()))

    def _fill_in(self, request: inference_pb2.GenerateRequest) -> None:
        """What the line leaves open, from the job."""
        for field, value in self._defaults.ListFields():
            if field.name in ("stop", "stop_token_ids"):
                continue
            if not request.sampling.HasField(field.name):
                setattr(request.sampling, field.name, value)
        if not request.sampling.stop and not request.sampling.stop_token_ids:
            request.sampling.stop.extend(self._stops[0])
            request.sampling.stop_token_ids.extend(self._stops[1])
        if self._model and not request.HasField("model"):
            request.model = self._model

    def _too_long(self) -> str:
        return f"has more than {self._limits.max_line_bytes} bytes (scheduler.jobs.max_line_bytes)"

    def _note(self, path: str, what: str) -> None:
        self._bad.append((f"line {self._number}" + (f": {path}" if path else ""), what))

    def _refusal(self) -> Refusal:
        (first, what), more = self._bad[0], len(self._bad) - 1
        rest = ""
        if more:
            rest = f" (and {more} more bad line{'s' if more > 1 else ''}" + (
                ", reading ended there)" if len(self._bad) >= MAX_BAD_LINES else ")"
            )
        return Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"{first}: {what}{rest}; nothing was accepted",
            fields=list(self._bad),
            reason="INVALID_FIELD",
        )


def _too_large(what: str, setting: str) -> Refusal:
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"jsonl: the file {what} ({setting}); submit it as several jobs",
        fields=[("jsonl", f"{what} ({setting})")],
        reason="JOB_TOO_LARGE",
    )
