"""Options of `fairlead tenants` that are fields of a tenant, and what they become in its message."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from fairlead.cli.problems import EXIT_USAGE, fail
from fairlead.v1 import tenants_pb2, types_pb2

Weight = Annotated[float | None, typer.Option(help="Its share of tokens served while others wait too; 1 if not said.")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", metavar="[ls|be]", help="What it may ask for. May be repeated.")
]
DefaultClass = Annotated[Literal["ls", "be"] | None, typer.Option(help="Class of requests that name none.")]
TtftMs = Annotated[float | None, typer.Option(help="Time-to-first-token target of LS requests that state none, ms.")]
TpotMs = Annotated[float | None, typer.Option(help="Time-per-output-token target of such requests, ms.")]
CompletionMs = Annotated[float | None, typer.Option(help="Completion target of BE requests that state none, ms.")]
MaxInFlight = Annotated[int | None, typer.Option(min=1, max=2**32 - 1, help="Most requests accepted and not ended.")]
MaxQueuedRequests = Annotated[int | None, typer.Option(min=1, max=2**32 - 1, help="Most requests that wait.")]
MaxQueuedTokens = Annotated[int | None, typer.Option(min=1, max=2**63 - 1, help="Most tokens of requests that wait.")]
TokensPerMinute = Annotated[float | None, typer.Option(help="Input and output tokens a minute, on average.")]
BurstTokens = Annotated[float | None, typer.Option(help="Tokens that it may be ahead of that average.")]
CertificateNames = Annotated[
    list[str] | None,
    typer.Option("--certificate-name", help="Name in client certificates that stands for it. May be repeated."),
]
Operator = Annotated[bool | None, typer.Option("--operator/--no-operator", help="May use the admin service.")]

PATHS = {
    "weight": "weight",
    "classes": "classes",
    "default_class": "default_class",
    "ttft_ms": "default_slo.ttft_ms",
    "tpot_ms": "default_slo.tpot_ms",
    "completion_ms": "default_slo.completion_ms",
    "max_in_flight": "limits.max_in_flight",
    "max_queued_requests": "limits.max_queued_requests",
    "max_queued_tokens": "limits.max_queued_tokens",
    "tokens_per_minute": "limits.tokens_per_minute",
    "burst_tokens": "limits.burst_tokens",
    "certificate_names": "certificate_names",
    "is_operator": "is_operator",
}
"""Parameter of a command to path in the message."""
_AS_OPTIONS = {"class": "classes", "certificate-name": "certificate_names", "operator": "is_operator"}
_CLASSES = {"ls": types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE, "be": types_pb2.SERVICE_CLASS_BEST_EFFORT}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's parameters, the fields that were given: path to value."""
    return {path: parameters[name] for name, path in PATHS.items() if parameters.get(name) is not None}


def cleared(options: list[str]) -> list[str]:
    """Paths of fields that go back to their defaults; an unknown one ends the command."""
    paths: list[str] = []
    for option in options:
        name = option.removeprefix("--")
        path = PATHS.get(_AS_OPTIONS.get(name, name.replace("-", "_")))
        if path is None:
            known = ", ".join(
                sorted({*_AS_OPTIONS, *(each.replace("_", "-") for each in PATHS)} - {*PATHS, "is-operator"})
            )
            fail(f"--clear {option!r}: clears one of {known}", EXIT_USAGE)
        paths.append(path)
    return paths


def message(name: str, values: Mapping[str, Any]) -> tenants_pb2.Tenant:
    """A tenant with these fields."""
    made = tenants_pb2.Tenant(name=name)
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if rest:
            setattr(getattr(made, head), rest, value)
        elif path == "classes":
            made.classes.extend(_class(each) for each in value)
        elif path == "default_class":
            made.default_class = _class(value)
        elif path == "certificate_names":
            made.certificate_names.extend(value)
        else:
            setattr(made, path, value)
    return made


def _class(name: str) -> types_pb2.ServiceClass:
    if name not in _CLASSES:
        fail(f"--class {name!r}: give ls or be", EXIT_USAGE)
    return _CLASSES[name]


def span(text: str, option: str) -> float:
    """`24h`, `30m`, `7d`, `90` (seconds) in s; anything else ends the command."""
    found = _SPAN.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else math.inf
    if not math.isfinite(seconds):
        fail(f"{option} {text!r}: give a time such as 24h, 30m, 7d or 90s", EXIT_USAGE)
    return seconds


def when(text: str | None, option: str) -> datetime | None:
    """A time, or so long ago; anything else ends the command."""
    if text is None:
        return None
    if _SPAN.fullmatch(text.strip()):
        try:
            return datetime.now(UTC) - timedelta(seconds=span(text, option))
        except OverflowError:
            fail(f"{option} {text!r}: that is too long ago", EXIT_USAGE)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{option} {text!r}: give how long ago (24h, 7d) or a time (2026-12-01T08:00Z)", EXIT_USAGE)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
