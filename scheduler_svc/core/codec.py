"""Events and decisions as JSON values and back: what the decision log writes and a replay reads. Pure.

An event is `{"e": NAME, "ms": TIME, ...fields}`, a tick `{"t": TIME, "d": [{"d": NAME, ...fields}, ...]}`; fields at
their default are left out. Numbers come back exactly as they were (shortest repr of a double). No text of anybody's
comes in: what a worker, an engine or a plug-in said in words (`detail`) is left out on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Assign,
    AssignRefused,
    CancelOn,
    CancelRequested,
    Decision,
    End,
    Event,
    ExecutionEnded,
    PolicyChanged,
    PolicyFault,
    PolicySettings,
    Predicted,
    Reorder,
    Stepped,
    TenantsChanged,
    TenantTerms,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)

VERSION = 1
"""Of the log's format; a reader refuses others."""

_EVENTS: tuple[type[Any], ...] = (
    Arrived,
    Predicted,
    Stepped,
    ExecutionEnded,
    AssignRefused,
    CancelRequested,
    WorkerUp,
    WorkerUpdated,
    WorkerLost,
    PolicyChanged,
    TenantsChanged,
)
_DECISIONS: tuple[type[Any], ...] = (AskPrediction, Assign, Reorder, CancelOn, End, PolicyFault)
_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind.__name__: TypeAdapter(kind) for kind in (*_EVENTS, *_DECISIONS)}
_EVENT_NAMES = frozenset(kind.__name__ for kind in _EVENTS)
_WITH_WORDS = (ExecutionEnded, AssignRefused, CancelRequested, End, PolicyFault)
_SETTINGS: TypeAdapter[PolicySettings] = TypeAdapter(PolicySettings)
_TERMS: TypeAdapter[tuple[TenantTerms, ...]] = TypeAdapter(tuple[TenantTerms, ...])
_UP = cast("TypeAdapter[WorkerUp]", _ADAPTERS["WorkerUp"])


class CodecError(ValueError):
    """A value that is no event; the message names the field."""


def event_value(event: Event, at_ms: float, hide: Callable[[str], str] | None = None) -> dict[str, Any]:
    """An event as JSON values; `hide` replaces tenants' names."""
    if hide is not None and isinstance(event, Arrived):
        event = replace(event, tenant=hide(event.tenant))
    elif hide is not None and isinstance(event, TenantsChanged):
        event = TenantsChanged(_hidden(event.tenants, hide))
    return {"e": type(event).__name__, "ms": at_ms, **_dump(event)}


def decision_value(decision: Decision) -> dict[str, Any]:
    """A decision as JSON values."""
    return {"d": type(decision).__name__, **_dump(decision)}


def tick_value(now_ms: float, decisions: Sequence[Decision]) -> dict[str, Any]:
    """A tick and what it decided."""
    if not decisions:
        return {"t": now_ms}
    return {"t": now_ms, "d": [decision_value(decision) for decision in decisions]}


def settings_value(settings: PolicySettings) -> dict[str, Any]:
    """Settings of a policy, all of them: a later release may have other defaults."""
    return _SETTINGS.dump_python(settings, mode="json")


def worker_value(up: WorkerUp) -> dict[str, Any]:
    """A worker's description."""
    return _UP.dump_python(up, mode="json")


def terms_value(terms: Iterable[TenantTerms], hide: Callable[[str], str]) -> list[dict[str, Any]]:
    """The terms of tenants, their names replaced by `hide`."""
    return _TERMS.dump_python(_hidden(terms, hide), mode="json")


def _hidden(terms: Iterable[TenantTerms], hide: Callable[[str], str]) -> tuple[TenantTerms, ...]:
    return tuple(replace(each, name=hide(each.name)) for each in terms)


def read_event(value: Mapping[str, Any]) -> tuple[Event, float]:
    """(event, its time in ms). Raises CodecError."""
    name = value.get("e")
    if name not in _EVENT_NAMES:
        raise CodecError(f"e: {name!r} is no event that this release knows")
    fields = {key: each for key, each in value.items() if key not in ("e", "ms")}
    return _load(_ADAPTERS[name], fields, name), read_ms(value, "ms")


def read_settings(value: object) -> PolicySettings:
    """Settings of a policy. Raises CodecError."""
    return _load(_SETTINGS, value, "settings")


def read_terms(value: object) -> tuple[TenantTerms, ...]:
    """The terms of tenants. Raises CodecError."""
    return _load(_TERMS, value, "terms")


def read_worker(value: object) -> WorkerUp:
    """A worker's description. Raises CodecError."""
    return _load(_UP, value, "workers")


def read_ms(value: Mapping[str, Any], name: str) -> float:
    """A time. Raises CodecError."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise CodecError(f"{name}: {found!r} is no time in ms")
    return float(found)


def _dump(item: Any) -> dict[str, Any]:
    if isinstance(item, _WITH_WORDS) and item.detail:
        item = replace(item, detail="")
    kind = type(item).__name__
    # Settings are written whole: a later release may have other defaults.
    value = _ADAPTERS[kind].dump_python(item, mode="json", exclude_defaults=not isinstance(item, PolicyChanged))
    if kind == "PolicyFault":
        value["detail"] = ""
    return value


def _load(adapter: TypeAdapter[Any], value: object, what: str) -> Any:
    if isinstance(value, dict) and what in _NEED_WORDS:
        value = {"detail": "", **cast("dict[str, Any]", value)}
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in (what, *first["loc"]))
        raise CodecError(f"{where}: {first['msg']}") from None


_NEED_WORDS = frozenset(("End", "PolicyFault"))
