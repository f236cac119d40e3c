"""Finished runs on disk, by a hash of their settings, their trace and the code that decides."""

from __future__ import annotations

import hashlib
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.report.plan import file_of
from simulator.run import Run, Setup

DECIDING = (
    "simulator",
    "scheduler_svc.core",
    "worker_svc",
    "fairlead.length",
    "fairlead.steps",
    "fairlead.load.traces",
    "bench.report.measure",
)
"""Modules whose code decides what comes out; other changes leave finished runs as they are."""

Entry = dict[str, Any]


class Store:
    """One small file a run; a run whose settings, trace or code changed is another run.

    Args:
        folder: where; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Entry | None:
        """What was kept; None where there is nothing, or nothing that can be read."""
        try:
            return json.loads((self.folder / f"{key}.json").read_text())
        except (OSError, ValueError):
            return None

    def put(self, key: str, entry: Entry) -> None:
        """Keeps it, whole or not at all."""
        beside = self.folder / f"{key}.part"
        beside.write_text(json.dumps(entry))
        beside.replace(self.folder / f"{key}.json")


def capacity_key(source: str, setup: Setup) -> str:
    """Of a measured capacity."""
    return _hash("capacity", trace_hash(source), repr(setup), code_hash())


def run_key(run: Run, setup: Setup) -> str:
    """Of one run."""
    return _hash("run", trace_hash(run.source), repr((run.choice, run.load, run.rate_per_s)), repr(setup), code_hash())


@lru_cache(maxsize=64)
def trace_hash(source: str) -> str:
    """Of a trace's content, or the built-in mix's name (its code is hashed with the rest)."""
    path = file_of(source)
    return source if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=1)
def code_hash() -> str:
    """Of the source of every module that decides, as this process loaded them."""
    files: dict[str, Path] = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is not None and name.startswith(DECIDING):
            files[name] = Path(path)
    found = hashlib.sha256()
    for name in sorted(files):
        found.update(name.encode() + files[name].read_bytes())
    return found.hexdigest()[:16]


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
