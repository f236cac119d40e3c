"""What commands say: tables that fit, and failures in one sentence with its remedy."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from fairlead.client import FairleadError, PermissionDenied, StreamLost, Tls, Unauthenticated, Unavailable
from fairlead.tls_diagnosis import diagnose

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
PLAIN_WIDTH = 120


class SuiteError(Exception):
    """The suite on this machine can't start or go on; the message says why and what helps."""


def wide_console() -> Console:
    """Standard output; where it is no terminal, wide enough for our tables."""
    found = Console(soft_wrap=True, highlight=False)
    return found if found.is_terminal else Console(soft_wrap=True, highlight=False, width=PLAIN_WIDTH)


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """Prints the sentence on standard error and ends the command."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(message)}")
    raise typer.Exit(code)


def explain(error: FairleadError, address: str, tls: Tls | None = None) -> str:
    """What went wrong and what to do about it, in one sentence; `tls` is how it was tried."""
    text = error.message.rstrip(".")
    if isinstance(error, StreamLost):
        return text
    if isinstance(error, Unavailable):
        if not error.reason and (told := diagnose(address, tls)):
            return told
        # With a reason it is the scheduler that speaks, for instance of workers that are not connected.
        if not error.reason and ("connect" in text.lower() or "dns" in text.lower()):
            return f"no scheduler answers at {address}; start one with `fairlead up` or give its address with --address"
        return f"the scheduler at {address} cannot serve now: {text}; see `fairlead status`"
    if isinstance(error, Unauthenticated):
        return f"{text}; give a key that the scheduler knows with --key or FAIRLEAD_KEY, or a tenant with --tenant"
    if isinstance(error, PermissionDenied):
        return f"{text}; give an operator's key with --key or --tenant operator"
    if error.retry_after_ms is not None:
        return f"{text}; try again in {error.retry_after_ms / 1000:.1f} s"
    return text
