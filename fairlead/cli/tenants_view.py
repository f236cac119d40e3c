"""Tenants, usage and the audit log for people, and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairlead.v1 import tenants_pb2, types_pb2

_ORIGINS = {
    tenants_pb2.TENANT_ORIGIN_CONFIG: "configuration",
    tenants_pb2.TENANT_ORIGIN_FILE: "tenants file",
    tenants_pb2.TENANT_ORIGIN_ADMIN: "operator",
}
LS = types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE
_LIMITS = {
    "max_in_flight": "{:g} in flight",
    "max_queued_requests": "{:g} queued",
    "max_queued_tokens": "{:,} queued tokens",
    "tokens_per_minute": "{:,.0f} tokens/min",
    "burst_tokens": "burst {:,.0f}",
}
_TARGETS = {"ttft_ms": "TTFT {:g} ms", "tpot_ms": "TPOT {:g} ms", "completion_ms": "done in {:g} ms"}


def written(file: Path | None, message: Message) -> bool:
    """Writes the message as JSON, if that is asked for; whether standard output is taken by it."""
    if file is None:
        return False
    text = json.dumps(MessageToDict(message, preserving_proto_field_name=True), indent=1)
    if str(file) == "-":
        print(text)
        return True
    # It may hold a key.
    file.touch(mode=0o600)
    file.write_text(text + "\n", encoding="utf-8")
    return False


def time_text(time: Timestamp) -> str:
    """To the second, UTC."""
    return time.ToDatetime().isoformat(sep=" ", timespec="seconds") + " UTC"


def tenants_table(found: Iterable[tenants_pb2.Tenant]) -> Table:
    """A line each."""
    table = Table("tenant", "state", "weight", "classes", "targets", "limits", "keys", "from")
    for tenant in found:
        state = "[bold red]disabled[/]" if tenant.disabled else "operator" if tenant.is_operator else "enabled"
        table.add_row(
            tenant.name, state, f"{tenant.weight:g}", _classes(tenant), _said(tenant.default_slo, _TARGETS),
            _said(tenant.limits, _LIMITS), _keys(tenant), _origin(tenant),
        )  # fmt: skip
    return table


def print_tenant(console: Console, tenant: tenants_pb2.Tenant) -> None:
    """All of one."""
    table = Table(title=f"tenant {tenant.name}", show_header=False)
    rows = {
        "state": "[bold red]disabled[/]" if tenant.disabled else "enabled",
        "operator": "yes" if tenant.is_operator else "no",
        "weight": f"{tenant.weight:g}",
        "classes": _classes(tenant),
        "targets of requests that state none": _said(tenant.default_slo, _TARGETS),
        "limits": _said(tenant.limits, _LIMITS),
        "certificate names": escape(", ".join(tenant.certificate_names)) or "-",
        "from": _origin(tenant),
        "etag": tenant.etag,
    }
    if tenant.HasField("update_time"):
        rows["changed by an operator"] = time_text(tenant.update_time)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    keys = Table("key id", "from", "counts now", "not before", "retired after")
    for key in tenant.keys:
        keys.add_row(
            key.key_id, _ORIGINS.get(key.origin, "-"), "yes" if key.active else "no",
            time_text(key.not_before) if key.HasField("not_before") else "-",
            time_text(key.retired_after) if key.HasField("retired_after") else "-",
        )  # fmt: skip
    console.print(keys if tenant.keys else "no keys: it comes by client certificate")


def print_key(console: Console, key: str) -> None:
    """A key that is told this once."""
    if key:
        console.print(f"key: [bold]{escape(key)}[/]\nIt is shown this once; only a hash of it is kept.")


def problems(status: tenants_pb2.TenantsStatus) -> Iterator[str]:
    """What an operator should look at."""
    if status.file_problem:
        yield f"[bold red]tenants file refused[/], what was in force goes on: {escape(status.file_problem)}"
    if status.hidden:
        names = escape(", ".join(status.hidden))
        yield f"[bold]hidden[/] in the file by tenants that operators made under their names: {names}"
    if status.usage_problem:
        yield f"[bold red]usage is not being kept on disk[/]: {escape(status.usage_problem)}"


def print_usage(console: Console, found: tenants_pb2.ExportUsageResponse) -> None:
    """A line for each tenant and class, and refusals below."""
    title = f"usage from {time_text(found.start_time)} to {time_text(found.end_time)}"
    table = Table("tenant", "class", "accepted", "ended", "tokens in", "cached", "tokens out", title=title)
    refusals = Table("tenant", "refused because", "requests")
    for usage in found.usage:
        for each in usage.classes:
            ended = ", ".join(
                f"{types_pb2.Outcome.Name(one.outcome).removeprefix('OUTCOME_').lower()} {one.requests:,}"
                for one in each.ended
            )
            table.add_row(
                usage.tenant, _class(each.service_class), f"{each.accepted:,}", ended, f"{each.input_tokens:,}",
                f"{each.cached_input_tokens:,}", f"{each.output_tokens:,}",
            )  # fmt: skip
        for one in usage.refusals:
            reason = types_pb2.RefusalReason.Name(one.reason).removeprefix("REFUSAL_REASON_")
            refusals.add_row(usage.tenant, reason, f"{one.requests:,}")
        if usage.clamped:
            refusals.add_row(usage.tenant, "(served as its default class: it may not ask for LS)", f"{usage.clamped:,}")
    console.print(table if table.row_count else f"{title}: nothing")
    if refusals.row_count:
        console.print(refusals)


def audit_table(entries: Sequence[tenants_pb2.AuditEntry]) -> Table:
    """A line each."""
    table = Table("when", "who", "what", "tenant", "changes")
    for entry in entries:
        changes = "; ".join(f"{field} {_change(text)}" for field, text in sorted(entry.changes.items()))
        if entry.problem:
            changes = f"NOT MADE: {entry.problem}"
        table.add_row(time_text(entry.time), escape(entry.actor), entry.action, entry.tenant, escape(changes))
    return table


def _change(text: str) -> str:
    try:
        before, after = json.loads(text)
    except ValueError:  # it was cut
        return text
    return f"{json.dumps(before)} -> {json.dumps(after)}"


def _class(value: types_pb2.ServiceClass) -> str:
    return "ls" if value == LS else "be"


def _classes(tenant: tenants_pb2.Tenant) -> str:
    names = [_class(each) for each in tenant.classes]
    default = _class(tenant.default_class)
    return ", ".join(f"{name} (default)" if name == default and len(names) > 1 else name for name in names)


def _said(part: Message, texts: dict[str, str]) -> str:
    return ", ".join(text.format(getattr(part, name)) for name, text in texts.items() if part.HasField(name)) or "-"


def _keys(tenant: tenants_pb2.Tenant) -> str:
    active = sum(key.active for key in tenant.keys)
    return f"{active} of {len(tenant.keys)}" if active < len(tenant.keys) else str(active)


def _origin(tenant: tenants_pb2.Tenant) -> str:
    where = _ORIGINS.get(tenant.origin, "-")
    return f"{where}, changed by an operator" if tenant.changed_by_admin else where
