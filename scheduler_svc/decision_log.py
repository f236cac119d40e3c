"""Records what goes into the core and what comes out of it, for the simulator: JSON lines, bounded, without any text.

One line is the header of its file, every other one an event or a tick (`core/codec.py`). The event loop only appends
to a list; a thread of its own writes, closes a file at its bound, gzips it, and removes the oldest. Where the disk does
not keep up, what is lost is counted and said in the log itself; where it fails, recording ends and serving goes on.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fairlead import __version__
from fairlead.config import ConfigError, SchedulerConfig
from fairlead.telemetry import get_logger
from scheduler_svc.core import codec
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Decision,
    Event,
    PolicyChanged,
    PolicySettings,
    TenantsChanged,
    TenantTerms,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)

MAX_QUEUED = 200_000
"""Events and ticks that wait to be written; more are lost, and the log says how many."""
WRITE_EVERY_S = 0.1
SEGMENT_S = 3600.0
CLOSE_WITHIN_S = 30.0
HASH_CHARS = 12
PREFIX = "decisions-"

_Item = tuple[float, Event | None, Sequence[Decision]]


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where and how much is recorded.

    Attributes:
        folder: of the files; made if it is missing.
        segment_bytes: a file is closed at this size, or after `SEGMENT_S`.
        max_bytes, keep_s: bounds of all files together.
        tenant_names: write names instead of keyed hashes.
    """

    folder: Path
    segment_bytes: int = 64_000_000
    max_bytes: int = 1_024_000_000
    keep_s: float = 7 * 86_400.0
    tenant_names: bool = False

    @classmethod
    def configured(cls, config: SchedulerConfig) -> LogSettings | None:
        """As configured; None: nothing is recorded."""
        if config.decision_log is None:
            return None
        return cls(
            config.decision_log,
            int(config.decision_log_segment_mb * 1e6),
            int(config.decision_log_max_mb * 1e6),
            config.decision_log_keep_days * 86_400.0,
            config.decision_log_tenant_names,
        )


class DecisionLog:
    """Watches a core from its beginning.

    Args:
        settings: where to and how much.
        core: fresh, so that a replay begins where this recording does.
        limits: of the core.
        clock_ms: that of the events.

    Raises:
        ConfigError: the folder can't be written to.
    """

    def __init__(
        self, settings: LogSettings, core: SchedulerCore, limits: Limits, clock_ms: Callable[[], float]
    ) -> None:
        self.recording = secrets.token_hex(6)
        self._settings = settings
        self._clock_ms = clock_ms
        self._limits = limits
        self._key = secrets.token_bytes(16)
        self._hashes: dict[str, str] = {}
        self._items: deque[_Item] = deque()
        self._lost = 0
        self._ended = threading.Event()
        self._log = get_logger("decision_log")
        # What the header of the next file says; the writer follows the events that it writes.
        self._policy: tuple[str, PolicySettings] = (core.policy.name, core.policy.settings)
        self._terms: tuple[TenantTerms, ...] = ()
        self._workers: dict[str, WorkerUp] = {}
        self._segment = 0
        self._file: IO[bytes] | None = None
        self._path = Path()
        self._size = 0
        self._opened_s = 0.0
        try:
            settings.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open(clock_ms())
        except OSError as error:
            raise ConfigError(
                f"scheduler.decision_log: {settings.folder} can't be written to ({error}); name another folder, or null"
            ) from None
        self._thread = threading.Thread(target=self._run, name="decision-log", daemon=True)
        self._thread.start()

    # -- on the event loop

    def saw(self, event: Event, at_ms: float) -> None:
        """An event is about to go into the core."""
        if len(self._items) < MAX_QUEUED:
            self._items.append((at_ms, event, ()))
        else:
            self._lost += 1

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        """The core has decided."""
        if len(self._items) < MAX_QUEUED:
            self._items.append((now_ms, None, decisions))
        else:
            self._lost += 1

    def close(self) -> None:
        """Writes what is left and ends; blocks for as long as that takes, bounded."""
        self._ended.set()
        self._thread.join(CLOSE_WITHIN_S)

    # -- on the writer's thread

    def _run(self) -> None:
        try:
            while not self._ended.wait(WRITE_EVERY_S):
                self._write_all()
            self._write_all()
            self._finish_file(gzip_it=False)
        except Exception as error:  # a full disk, most likely; whatever it is, serving goes on
            self._log.error("the decision log ended: it can't be written", path=str(self._path), error=repr(error))
            while not self._ended.wait(WRITE_EVERY_S):
                self._items.clear()

    def _write_all(self) -> None:
        lost, self._lost = self._lost, 0
        for _ in range(len(self._items)):
            at_ms, event, decisions = self._items.popleft()
            if event is not None:
                self._follow(event)
                self._line(codec.event_value(event, at_ms, self._hide))
            else:
                self._line(codec.tick_value(at_ms, decisions))
            if self._size >= self._settings.segment_bytes or time.monotonic() - self._opened_s >= SEGMENT_S:
                self._finish_file(gzip_it=True)
                self._open(at_ms)
        if lost:
            self._line({"lost": lost})
            self._log.warning("the decision log lost lines: the disk is too slow", lines=lost)
        assert self._file is not None
        self._file.flush()

    def _line(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        assert self._file is not None
        self._file.write(line)
        self._size += len(line)

    def _follow(self, event: Event) -> None:
        """Keeps what a header has to say up to date."""
        if isinstance(event, PolicyChanged):
            self._policy = (event.policy, event.settings)
        elif isinstance(event, TenantsChanged):
            self._terms = event.tenants
        elif isinstance(event, WorkerUp):
            self._workers[event.worker] = event
        elif isinstance(event, WorkerUpdated) and event.cost is not None and event.worker in self._workers:
            self._workers[event.worker] = replace(self._workers[event.worker], cost=event.cost)
        elif isinstance(event, WorkerLost):
            self._workers.pop(event.worker, None)

    def _hide(self, tenant: str) -> str:
        if self._settings.tenant_names:
            return tenant
        found = self._hashes.get(tenant)
        if found is None:
            digest = hmac.new(self._key, tenant.encode(), hashlib.sha256).hexdigest()
            found = self._hashes[tenant] = f"t-{digest[:HASH_CHARS]}"
        return found

    def _open(self, at_ms: float) -> None:
        self._segment += 1
        now = datetime.now(UTC)
        name = f"{PREFIX}{now:%Y%m%dT%H%M%S}-{self.recording}-{self._segment:06d}.jsonl"
        self._path = self._settings.folder / name
        self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._size, self._opened_s = 0, time.monotonic()
        policy, settings = self._policy
        self._line(
            {
                "fairlead_decision_log": codec.VERSION,
                "release": __version__,
                "recording": self.recording,
                "segment": self._segment,
                "started_at": now.isoformat(timespec="milliseconds"),
                "ms": at_ms,
                "tenants": "names" if self._settings.tenant_names else "hashed",
                "policy": policy,
                "settings": codec.settings_value(settings),
                "look_ahead": self._limits.look_ahead,
                "terms": codec.terms_value(self._terms, self._hide),
                "workers": [codec.worker_value(up) for up in self._workers.values()],
            }
        )
        self._file.flush()

    def _finish_file(self, *, gzip_it: bool) -> None:
        assert self._file is not None
        self._file.close()
        if gzip_it:
            _compress(self._path)
        self._prune()

    def _prune(self) -> None:
        """Removes the oldest files beyond the bounds; never the newest."""
        found = [(path.stat(), path) for path in self._settings.folder.glob(f"{PREFIX}*.jsonl*")]
        found.sort(key=lambda each: (each[0].st_mtime, each[1].name))
        total = sum(stat.st_size for stat, _ in found)
        for stat, path in found[:-1]:
            if total <= self._settings.max_bytes and time.time() - stat.st_mtime <= self._settings.keep_s:
                continue
            path.unlink(missing_ok=True)
            total -= stat.st_size


def _compress(path: Path) -> None:
    """Replaces a file by its gzip, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with path.open("rb") as plain, gzip.open(part, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    part.chmod(0o600)
    part.replace(path.with_name(f"{path.name}.gz"))
    path.unlink()
