"""`fairlead doctor`: what is wrong with this machine, this configuration or the suite that runs, and what helps.

Reading guide: `doctor_machine.py` looks at the machine, `doctor_suite.py` at configuration and suite;
`doctor_findings.py` is what they tell.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.doctor_findings import Check, Finding, State, report_of, run_checks, table_of
from fairlead.cli.doctor_machine import machine_checks
from fairlead.cli.doctor_suite import local_checks, suite_checks
from fairlead.cli.options import Address, Key
from fairlead.cli.problems import EXIT_FAILED, fail, wide_console
from fairlead.cli.session import Access, find_access
from fairlead.config import Config, ConfigError, load_config


def doctor(
    config: Annotated[Path | None, typer.Option(help="Configuration to examine; FAIRLEAD_CONFIG too.")] = None,
    address: Address = None,
    key: Key = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not import vLLM, which takes some 10 s.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Only the suite at --address: this machine is a client's.")
    ] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings there; `-`: standard output.")
    ] = None,
) -> None:
    """Examine this machine, the configuration and the running suite, and say what to do.

    The exit code is 0 where nothing fails, else 1. Examples: fairlead doctor; fairlead doctor --config suite.yaml
    --quick; fairlead doctor --remote --address scheduler:7600 --key KEY
    """
    checks: list[tuple[str, Check]] = []
    try:
        chosen = load_config(config)
        access = find_access(address, key, config)
        asked = address is not None or remote or access.explicit_key is not None
        checks += checks_for(chosen, access, asked=asked, quick=quick, remote=remote)
    except ConfigError as error:
        problem = Finding("config", State.FAIL, str(error), "correct it; docs name every setting and its default")
        checks += [*machine_checks(engine="vllm", try_import=not quick), ("config", lambda: [problem])]
    findings = run_checks(checks)
    show(findings, as_json)
    raise typer.Exit(0 if report_of(findings)["ok"] else EXIT_FAILED)


def checks_for(config: Config, access: Access, *, asked: bool, quick: bool, remote: bool) -> list[tuple[str, Check]]:
    """The checks to be made, in the order in which a person would set things right."""
    if remote:
        return suite_checks(access, asked=True)
    engine = config.worker.engine
    good = Finding("config", State.OK, f"engine {engine!r}, policy {config.scheduler.policy!r}")
    return [
        *machine_checks(engine=engine, try_import=not quick and engine == "vllm"),
        ("config", lambda: [good]),
        *local_checks(config),
        *suite_checks(access, asked=asked),
    ]


def show(findings: list[Finding], as_json: Path | None) -> None:
    """Prints a table for a person, or writes JSON for a program."""
    text = json.dumps(report_of(findings), indent=2)
    if as_json == Path("-"):
        print(text)
        return
    if as_json is not None:
        try:
            as_json.write_text(text + "\n")
        except OSError as error:
            fail(f"--json: cannot write {as_json} ({error.strerror})")
    console = wide_console()
    console.print(table_of(findings))
    failed = sum(finding.state is State.FAIL for finding in findings)
    print(f"{failed} of {len(findings)} checks fail" if failed else "nothing fails", file=sys.stderr)
