"""What a change changed of a tenant, for the audit log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from scheduler_svc.tenants.entries import Entry, settings_of

Differences = dict[str, tuple[Any, Any]]
"""Field by field, (before, after); keys by their ids."""
_UNSAID: tuple[Any, ...] = (None, False, [])


def differences(before: Entry | None, after: Entry | None) -> Differences:
    """What became of a tenant; of one that is new or gone, what was not at its default."""
    old = {} if before is None else _told(before)
    new = {} if after is None else _told(after)
    whole = before is None or after is None
    return {
        field: (old.get(field), new.get(field))
        for field in {**old, **new}
        if old.get(field) != new.get(field) and not (whole and {**old, **new}[field] in _UNSAID)
    }


def _told(entry: Entry) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for field, value in settings_of(entry.tenant).items():
        told |= {f"{field}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {field: value}
    for key in entry.keys:
        ends_s = key.retired_after_s
        told[f"key {key.key_id}"] = "counts" if ends_s is None else f"until {_iso(ends_s)}"
    return told


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
