"""Tenants, usage and audit entries as messages, and what messages ask for as settings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from fairlead.rpc import invalid
from fairlead.v1 import tenants_pb2, types_pb2
from scheduler_svc.tenants import usage
from scheduler_svc.tenants.audit import AuditEntry
from scheduler_svc.tenants.entries import Entry, Key, Origin
from scheduler_svc.wire import class_to_wire

_ORIGINS = {
    Origin.CONFIG: tenants_pb2.TENANT_ORIGIN_CONFIG,
    Origin.FILE: tenants_pb2.TENANT_ORIGIN_FILE,
    Origin.ADMIN: tenants_pb2.TENANT_ORIGIN_ADMIN,
}
_CLASSES = {
    types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE: "ls",
    types_pb2.SERVICE_CLASS_BEST_EFFORT: "be",
}
_SECTIONS = {"default_slo": "slo", "limits": "limits"}
"""Fields of the message that are sections of the settings."""
_PLAIN = {
    "weight": "weight",
    "classes": "classes",
    "default_class": "default_class",
    "certificate_names": "certificate_names",
    "is_operator": "operator",
}
# What a later release has counted may have a name that this one does not know: it is told as unspecified.
_OUTCOMES = {
    name.removeprefix("OUTCOME_"): name for name in types_pb2.DESCRIPTOR.enum_types_by_name["Outcome"].values_by_name
}
_REASONS = {
    name.removeprefix("REFUSAL_REASON_"): name
    for name in types_pb2.DESCRIPTOR.enum_types_by_name["RefusalReason"].values_by_name
}
SETTABLE = (*_PLAIN, *_SECTIONS)
MAX_TIME_S = 253_402_300_799
"""The last second of the year 9999, as Timestamp has it."""


def stamp(at_s: float | None) -> Timestamp | None:
    """Seconds since 1970 as a message."""
    if at_s is None:
        return None
    made = Timestamp()
    made.FromMicroseconds(round(at_s * 1e6))
    return made


def seconds(time: Timestamp, field: str) -> float:
    """A message as seconds since 1970. Raises Refusal."""
    at_s = time.seconds + time.nanos / 1e9
    if not 0 <= at_s <= MAX_TIME_S:
        raise invalid(field, "must be a time between 1970 and 9999")
    return at_s


def tenant_message(entry: Entry, now_s: float) -> tenants_pb2.Tenant:
    """A tenant as operators see it: never a key."""
    tenant = entry.tenant
    return tenants_pb2.Tenant(
        name=tenant.name,
        weight=tenant.weight,
        classes=[class_to_wire(each == "ls") for each in tenant.classes],
        default_class=class_to_wire(tenant.default_class == "ls"),
        default_slo=types_pb2.Slo(**tenant.slo.model_dump()),
        limits=tenants_pb2.TenantLimits(**tenant.limits.model_dump()),
        certificate_names=tenant.certificate_names,
        is_operator=tenant.operator,
        disabled=tenant.disabled,
        etag=entry.etag,
        origin=_ORIGINS[entry.origin],
        changed_by_admin=entry.changed,
        keys=[_key_message(key, now_s) for key in entry.keys],
        update_time=stamp(entry.updated_s),
    )


def settings_to_create(tenant: tenants_pb2.Tenant) -> dict[str, Any]:
    """What a new tenant's message says, as fields of `Tenant`; what is left out has its default. Raises Refusal."""
    settings = settings_of(tenant, SETTABLE, "tenant.")
    if not tenant.classes:
        settings["classes"] = ["ls", "be"]
    if tenant.default_class == types_pb2.SERVICE_CLASS_UNSPECIFIED:
        settings["default_class"] = "be" if "be" in settings["classes"] else "ls"
    return settings


def settings_to_update(tenant: tenants_pb2.Tenant, paths: Iterable[str]) -> dict[str, Any]:
    """The fields that a mask names, as fields of `Tenant`. Raises Refusal."""
    named = list(dict.fromkeys(paths))
    if not named:
        raise invalid("update_mask", f"must name at least one field: {', '.join(SETTABLE)}")
    return settings_of(tenant, named, "update_mask: ")


def settings_of(tenant: tenants_pb2.Tenant, paths: Iterable[str], prefix: str) -> dict[str, Any]:
    """Those fields of the message, as fields of `Tenant` and JSON values; absent ones at their defaults."""
    settings: dict[str, Any] = {}
    for path in paths:
        head, _, rest = path.partition(".")
        if head in _SECTIONS:
            part: Message = getattr(tenant, head)
            known = [field.name for field in part.DESCRIPTOR.fields]
            if rest and rest not in known:
                raise invalid("update_mask", f"{path[:100]!r}: {head} has {', '.join(known)}")
            chosen = [rest] if rest else known
            values = {name: _value(part, name, f"{prefix}{head}.{name}") for name in chosen}
            settings.setdefault(_SECTIONS[head], {}).update(values)
        elif path in _PLAIN:
            settings[_PLAIN[path]] = _plain(tenant, path, prefix)
        else:
            raise invalid("update_mask", f"{path[:100]!r} can't be changed; these can: {', '.join(SETTABLE)}")
    return settings


def usage_message(found: usage.Usage) -> tenants_pb2.TenantUsage:
    """What a tenant used."""
    told = tenants_pb2.TenantUsage(tenant=found.tenant, clamped=found.sums.get(("", usage.CLAMPED), 0))
    for kind in ("ls", "be"):
        of_class = {what: amount for (each, what), amount in found.sums.items() if each == kind}
        if not of_class:
            continue
        ended = {what: amount for what, amount in of_class.items() if what.startswith(usage.ENDED)}
        told.classes.append(
            tenants_pb2.ClassUsage(
                service_class=class_to_wire(kind == "ls"),
                accepted=of_class.get(usage.ACCEPTED, 0),
                ended=[
                    tenants_pb2.RequestCount(outcome=_OUTCOMES.get(what.removeprefix(usage.ENDED)), requests=amount)
                    for what, amount in sorted(ended.items())
                ],
                input_tokens=of_class.get(usage.INPUT_TOKENS, 0),
                cached_input_tokens=of_class.get(usage.CACHED_TOKENS, 0),
                output_tokens=of_class.get(usage.OUTPUT_TOKENS, 0),
            )
        )
    for (_, what), amount in sorted(found.sums.items()):
        if what.startswith(usage.REFUSED):
            reason = _REASONS.get(what.removeprefix(usage.REFUSED))
            told.refusals.append(tenants_pb2.RefusalCount(reason=reason, requests=amount))
    return told


def audit_message(entry: AuditEntry) -> tenants_pb2.AuditEntry:
    """A line of the audit log."""
    return tenants_pb2.AuditEntry(
        sequence=entry.sequence,
        time=stamp(entry.at_s),
        actor=entry.actor,
        peer=entry.peer,
        action=entry.action,
        tenant=entry.tenant,
        changes=entry.changes,
        problem=entry.problem,
    )


def _key_message(key: Key, now_s: float) -> tenants_pb2.TenantKey:
    return tenants_pb2.TenantKey(
        key_id=key.key_id,
        origin=_ORIGINS[key.origin],
        active=key.counts_at(now_s),
        not_before=stamp(key.not_before_s),
        retired_after=stamp(key.retired_after_s),
    )


def _plain(tenant: tenants_pb2.Tenant, name: str, prefix: str) -> Any:
    match name:
        case "classes":
            return [_class(each, f"{prefix}classes") for each in dict.fromkeys(tenant.classes)] or ["ls", "be"]
        case "default_class":
            unsaid = tenant.default_class == types_pb2.SERVICE_CLASS_UNSPECIFIED
            return "be" if unsaid else _class(tenant.default_class, f"{prefix}default_class")
        case "certificate_names":
            return list(tenant.certificate_names)
        case "weight":
            weight = _value(tenant, name, f"{prefix}weight")
            return 1.0 if weight is None else weight
        case _:
            return getattr(tenant, name)


def _value(message: Message, name: str, path: str) -> Any:
    """A number, or None where it is absent."""
    if not message.HasField(name):
        return None
    value = getattr(message, name)
    if not math.isfinite(value):
        raise invalid(path, "must be a finite number")
    return value


def _class(value: types_pb2.ServiceClass, path: str) -> str:
    if value not in _CLASSES:
        raise invalid(path, f"{value} is no class")
    return _CLASSES[value]
