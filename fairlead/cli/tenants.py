"""`fairlead tenants`: who may ask, with which keys and limits, what they used, and who changed what."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli import tenants_view as view
from fairlead.cli.admin import operator
from fairlead.cli.options import Asked, asking
from fairlead.cli.problems import fail, wide_console
from fairlead.cli.tenants_fields import (
    BurstTokens,
    CertificateNames,
    Classes,
    CompletionMs,
    DefaultClass,
    MaxInFlight,
    MaxQueuedRequests,
    MaxQueuedTokens,
    Operator,
    TokensPerMinute,
    TpotMs,
    TtftMs,
    Weight,
    cleared,
    given,
    message,
    span,
    when,
)
from fairlead.client import Conflict
from fairlead.v1 import tenants_pb2

tenants_app = typer.Typer(
    help="See and change who may ask, with which keys and limits; needs an operator's key. docs/tenants.md",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="The tenant; `fairlead tenants list` names them.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write everything here as JSON; - is standard output.")]
Etag = Annotated[
    str, typer.Option(help="From `fairlead tenants show`: refuse the change if the tenant has changed since.")
]
KeySha256 = Annotated[
    str | None, typer.Option(help="Hex SHA-256 of a key of your own, instead of one that is made and shown once.")
]


@tenants_app.command("list")
@asking
def list_tenants(
    asked: Asked,
    disabled: Annotated[
        bool | None, typer.Option("--disabled/--enabled", help="Only those that are disabled, or that are not.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Print every tenant: its share, classes, limits, keys and where it comes from."""
    with operator(asked) as admin:
        found = list(admin.tenants(disabled=disabled))
        status = admin.status().tenants
    if view.written(json_file, tenants_pb2.ListTenantsResponse(tenants=found)):
        return
    console = wide_console()
    console.print(view.tenants_table(found))
    for line in view.problems(status):
        console.print(line)


@tenants_app.command("show")
@asking
def show_tenant(
    asked: Asked,
    name: Name,
    json_file: Json = None,
) -> None:
    """Print all that is known of one tenant: settings, limits, keys by their ids, and its etag."""
    with operator(asked) as admin:
        found = admin.tenant(name)
    if not view.written(json_file, found):
        view.print_tenant(wide_console(), found)


@tenants_app.command("create")
@asking
def create_tenant(
    asked: Asked,
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, - and _.")],
    weight: Weight = None,
    classes: Classes = None,
    default_class: DefaultClass = None,
    ttft_ms: TtftMs = None,
    tpot_ms: TpotMs = None,
    completion_ms: CompletionMs = None,
    max_in_flight: MaxInFlight = None,
    max_queued_requests: MaxQueuedRequests = None,
    max_queued_tokens: MaxQueuedTokens = None,
    tokens_per_minute: TokensPerMinute = None,
    burst_tokens: BurstTokens = None,
    certificate_names: CertificateNames = None,
    is_operator: Operator = None,
    key_sha256: KeySha256 = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="It comes by client certificate alone: see --certificate-name.")
    ] = False,
    json_file: Json = None,
) -> None:
    """Make a tenant and print its key, once: the scheduler keeps only a hash of it.

    It may ask at once, and after a restart too. What is left out has its default.

    Example: fairlead tenants create reports --class be --weight 2 --max-in-flight 50 --tokens-per-minute 100000
    """
    values = given(locals())
    with operator(asked) as admin:
        made = admin.create_tenant(message(name, values), key_sha256=key_sha256, without_key=without_key)
    if not view.written(json_file, made):
        view.print_tenant(wide_console(), made.tenant)
        view.print_key(wide_console(), made.key)


@tenants_app.command("update")
@asking
def update_tenant(
    asked: Asked,
    name: Name,
    weight: Weight = None,
    classes: Classes = None,
    default_class: DefaultClass = None,
    ttft_ms: TtftMs = None,
    tpot_ms: TpotMs = None,
    completion_ms: CompletionMs = None,
    max_in_flight: MaxInFlight = None,
    max_queued_requests: MaxQueuedRequests = None,
    max_queued_tokens: MaxQueuedTokens = None,
    tokens_per_minute: TokensPerMinute = None,
    burst_tokens: BurstTokens = None,
    certificate_names: CertificateNames = None,
    is_operator: Operator = None,
    clear: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION", help="Back to its default: `--clear max-in-flight`. May be repeated."),
    ] = None,
    etag: Etag = "",
    json_file: Json = None,
) -> None:
    """Change what is given of a tenant; the rest stays. It holds from the next request on.

    Example: fairlead tenants update reports --weight 3 --clear max-in-flight
    """
    values = given(locals())
    paths = [*values, *cleared(clear or [])]
    if not paths:
        fail("nothing to change; give what is to change, such as --weight 2, or --clear max-in-flight")
    with operator(asked) as admin:
        try:
            changed = admin.update_tenant(message(name, values), paths, etag=etag)
        except Conflict as error:
            fail(f"{error.message}: fairlead tenants show {name}")
    if not view.written(json_file, changed):
        view.print_tenant(wide_console(), changed)


@tenants_app.command("disable")
@asking
def disable_tenant(
    asked: Asked,
    name: Name,
    cancel_live: Annotated[
        bool, typer.Option("--cancel-live", help="End its live requests too, with CANCELLED_BY_OPERATOR.")
    ] = False,
    etag: Etag = "",
    json_file: Json = None,
) -> None:
    """Refuse every call of a tenant from now on. What it had accepted goes on to its end, unless --cancel-live."""
    with operator(asked) as admin:
        answer = admin.disable_tenant(name, cancel_live=cancel_live, etag=etag)
    if not view.written(json_file, answer):
        live = f"{answer.live} live requests, {answer.cancelled} of them cancelled" if answer.live else "none was live"
        print(f"{name}: disabled; {live}")


@tenants_app.command("enable")
@asking
def enable_tenant(
    asked: Asked,
    name: Name,
    etag: Etag = "",
    json_file: Json = None,
) -> None:
    """Let a tenant in again."""
    with operator(asked) as admin:
        found = admin.enable_tenant(name, etag=etag)
    if not view.written(json_file, found):
        print(f"{name}: enabled")


@tenants_app.command("delete")
@asking
def delete_tenant(
    asked: Asked,
    name: Name,
    etag: Etag = "",
) -> None:
    """Forget a disabled tenant that operators made: its keys, its ended jobs and their results. Its usage stays.

    Example: fairlead tenants disable reports, and when nothing of it is live: fairlead tenants delete reports
    """
    with operator(asked) as admin:
        jobs = admin.delete_tenant(name, etag=etag)
    print(f"{name}: deleted, and {jobs} ended jobs")


@tenants_app.command("rotate-key")
@asking
def rotate_key(
    asked: Asked,
    name: Name,
    overlap: Annotated[
        str | None,
        typer.Option(help="How long its keys of now go on: `24h`, `30m`, 0; left out: scheduler.key_overlap_s."),
    ] = None,
    key_sha256: KeySha256 = None,
    etag: Etag = "",
    json_file: Json = None,
) -> None:
    """Make a new key and print it, once; the keys before it go on for the overlap, so that nobody is shut out.

    Example: fairlead tenants rotate-key reports --overlap 48h. A key that leaked: --overlap 0
    """
    overlap_s = None if overlap is None else span(overlap, "--overlap")
    with operator(asked) as admin:
        answer = admin.rotate_key(name, overlap_s=overlap_s, key_sha256=key_sha256, etag=etag)
    if not view.written(json_file, answer):
        console = wide_console()
        view.print_key(console, answer.key)
        console.print(f"the keys before it count until {view.time_text(answer.old_keys_until)}")


@tenants_app.command("usage")
@asking
def usage(
    asked: Asked,
    name: Annotated[str, typer.Argument(help="One tenant; left out: all.")] = "",
    since: Annotated[
        str | None, typer.Option(help="`24h`, `7d`, or a time: 2026-12-01, 2026-12-01T08:00Z. Left out: all there is.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Likewise; left out: now.")] = None,
    json_file: Json = None,
) -> None:
    """Print what each tenant used: requests by class and outcome, tokens in and out, refusals by reason.

    Times are rounded to hours, beyond a week to days. Example: fairlead tenants usage --since 30d --json usage.json
    """
    begin, end = when(since, "--since"), when(until, "--until")
    with operator(asked) as admin:
        found = admin.usage(name, since=begin, until=end)
    if not view.written(json_file, found):
        view.print_usage(wide_console(), found)


@tenants_app.command("audit")
@asking
def audit(
    asked: Asked,
    name: Annotated[str, typer.Argument(help="Only changes to this tenant; left out: all.")] = "",
    actor: Annotated[str, typer.Option(help="Only changes by this operator; `file` is the tenants file.")] = "",
    most: Annotated[int, typer.Option("--last", min=1, help="At most so many, the newest.")] = 50,
    json_file: Json = None,
) -> None:
    """Print who changed what and when, newest first: tenants, the policy, drains. Never a key."""
    with operator(asked) as admin:
        found = list(islice(admin.audit_log(tenant=name, actor=actor), most))
    if not view.written(json_file, tenants_pb2.ListAuditLogResponse(entries=found)):
        wide_console().print(view.audit_table(found))
