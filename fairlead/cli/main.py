"""The root of the command line; commands whose libraries are heavy are imported when they are called."""

from __future__ import annotations

import importlib
import os
from typing import Annotated

import typer

from fairlead import __version__
from fairlead.cli.admin import policy_app, status
from fairlead.cli.certs import certs_app
from fairlead.cli.doctor import doctor
from fairlead.cli.generate import generate
from fairlead.cli.jobs import jobs_app
from fairlead.cli.keys import keys
from fairlead.cli.predictor_worth import measure_worth
from fairlead.cli.problems import EXIT_USAGE, fail
from fairlead.cli.replay import replay
from fairlead.cli.simulate import simulate
from fairlead.cli.tenants import tenants_app
from fairlead.cli.top import top
from fairlead.cli.up import up
from fairlead.cli.why import why
from fairlead.client_connection import CA_ENV, CERT_ENV, INSECURE_ENV, KEY_ENV, NAME_ENV

app = typer.Typer(
    name="fairlead",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(up)
app.command()(generate)
app.command()(replay)
app.command()(simulate)
app.add_typer(jobs_app, name="jobs")
app.add_typer(policy_app, name="policy")
app.add_typer(tenants_app, name="tenants")
app.command()(status)
app.command()(top)
app.command()(why)
app.command()(keys)
app.add_typer(certs_app, name="certs")
app.command()(doctor)


@app.callback(invoke_without_command=True)
def root(
    ca: Annotated[
        str | None, typer.Option(help="CA of the scheduler's certificate: a file, or `system`; FAIRLEAD_CA too.")
    ] = None,
    cert: Annotated[str | None, typer.Option(help="Client certificate; FAIRLEAD_CERT too.")] = None,
    cert_key: Annotated[str | None, typer.Option(help="Its key; FAIRLEAD_CERT_KEY too.")] = None,
    server_name: Annotated[
        str | None, typer.Option(help="Name in the scheduler's certificate, if not that of the address.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Plain text to another machine; FAIRLEAD_INSECURE=1 too.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """Predicted-length, SLO-aware scheduling for multi-tenant LLM serving, in front of vLLM.

    To begin: fairlead doctor; fairlead up; then, in another terminal: fairlead generate "Hello."
    """
    given = {
        CA_ENV: ca,
        CERT_ENV: cert,
        KEY_ENV: cert_key,
        NAME_ENV: server_name,
        INSECURE_ENV: "1" if insecure else None,
    }
    os.environ.update({name: value for name, value in given.items() if value})
    if version:
        print(__version__)
        raise typer.Exit


@app.command(
    "predictor",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def predictor(context: typer.Context) -> None:
    """Train and judge length predictors; `fairlead predictor --help` lists how."""
    try:
        module = importlib.import_module("predictor_svc.cli")
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; install the extra: pip install 'fairlead[predictor-train]'", EXIT_USAGE)
    module.app(args=context.args, prog_name="fairlead predictor", obj=measure_worth)


def main() -> None:
    """Entry point of `fairlead`."""
    app()


if __name__ == "__main__":
    main()
