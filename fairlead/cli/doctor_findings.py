"""What `fairlead doctor` finds: one line a check, with the remedy where something is to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from rich.markup import escape
from rich.table import Table


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    """Not needed by everyone, or not to be told from here."""
    WARN = "warn"
    """It will work, less well."""
    FAIL = "fail"
    """Something that was asked for can't work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        check: what was looked at.
        told: what was found, in one sentence.
        remedy: what to do; "" where nothing is.
    """

    check: str
    state: State
    told: str
    remedy: str = ""


Check = Callable[[], Iterable[Finding]]
_COLOURS = {State.OK: "green", State.NOTE: "dim", State.WARN: "yellow", State.FAIL: "bold red"}


def run_checks(checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """All findings in order; a check that itself goes wrong is a finding too, and keeps no other from being made."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            found.extend(check())
        except Exception as error:  # a broken machine must not break what examines it
            told = f"this check failed: {type(error).__name__}: {error}"
            found.append(Finding(name, State.WARN, told, "please report it"))
    return found


def table_of(findings: Iterable[Finding]) -> Table:
    """For a terminal."""
    table = Table("check", "", "found, and what to do", show_edge=False)
    for finding in findings:
        colour = _COLOURS[finding.state]
        remedy = f"\n-> {finding.remedy}" if finding.remedy else ""
        table.add_row(finding.check, f"[{colour}]{finding.state}[/]", escape(finding.told + remedy))
    return table


def report_of(findings: Iterable[Finding]) -> dict[str, Any]:
    """For a program."""
    rows = [asdict(finding) for finding in findings]
    return {"ok": all(row["state"] != State.FAIL for row in rows), "findings": rows}
