"""`fairlead-scheduler`: one scheduler process."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead import event_loop
from fairlead.config import Config, ConfigError, load_config
from fairlead.config.tenants_file import load_tenants
from fairlead.keys import make_missing_keys
from fairlead.process import EXIT_FAILED, EXIT_USAGE, stop_on_signals, with_options, work_on_signal
from fairlead.rpc import PortTaken
from fairlead.telemetry import configure_logging
from scheduler_svc.host import SchedulerHost

NO_PREDICTOR = "none"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def scheduler(
    config: Annotated[
        Path | None, typer.Option(help="YAML file; `scheduler`, `defaults` and `tenants` are read.")
    ] = None,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 takes a free one.")] = None,
    policy: Annotated[str | None, typer.Option(help="One of docs/policies, or an installed plug-in.")] = None,
    worker: Annotated[
        list[str] | None, typer.Option(help="host:port, or dns:///name:port for several; may be repeated.")
    ] = None,
    predictor: Annotated[str | None, typer.Option(help="host:port of the predictor, or `none`.")] = None,
    make_keys: Annotated[
        bool, typer.Option("--make-keys", help="Make a random key for every tenant whose key_file is missing.")
    ] = False,
    drain_timeout_s: Annotated[
        float, typer.Option(min=0, help="Longest wait for live requests after SIGTERM, s.")
    ] = 30.0,
) -> None:
    """Runs one scheduler: one queue in front of many workers.

    It prints one line when it serves; workers and the predictor may come and go. Tenants and their keys come from the
    configuration, and without one nobody could ask: `tenants: [{name: me, key_env: FAIRLEAD_KEY, operator: true}]`.
    SIGTERM or Ctrl-C takes no more requests and finishes the live ones; a second one stops at once. SIGHUP reads
    scheduler.tenants_file again.

    Everything at once, with tenants and keys made up: fairlead up
    """
    try:
        whole = _with_options(load_config(config), listen=listen, policy=policy, workers=worker, predictor=predictor)
        if make_keys:
            _make_keys(whole)
        code = event_loop.run(_serve(whole, drain_timeout_s))
    except (ConfigError, PortTaken) as error:
        typer.echo(f"fairlead-scheduler: {error}", err=True)
        code = EXIT_USAGE
    raise typer.Exit(code)


def _with_options(config: Config, **values: Any) -> Config:
    given = {name: value for name, value in values.items() if value}
    section = config.scheduler
    if given.get("predictor") == NO_PREDICTOR:
        del given["predictor"]
        section = section.model_copy(update={"predictor": None})
    return config.model_copy(update={"scheduler": with_options(section, **given)})


def _make_keys(config: Config) -> None:
    file = config.scheduler.tenants_file
    made = make_missing_keys(config.tenants if file is None else (*config.tenants, *load_tenants(file)))
    if made:
        typer.echo(f"made keys for the tenants {', '.join(made)}; read them with: fairlead keys", err=True)


async def _serve(config: Config, drain_timeout_s: float) -> int:
    configure_logging(config.log, "scheduler")
    stop = stop_on_signals()
    host = SchedulerHost(config)
    try:
        await host.start()
        work_on_signal(signal.SIGHUP, host.reload)
        event_loop.settle()
        print(f"scheduler ready at {host.address} policy={host.shell.core.policy.name}", flush=True)
        died = host.shell.died
        await asyncio.wait({died, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not died.done():
            await host.drain(drain_timeout_s)
        if died.done():
            typer.echo(f"fairlead-scheduler: {died.result()}", err=True)
            return EXIT_FAILED
        return 0
    finally:
        await host.stop()


def main() -> None:
    app()


if __name__ == "__main__":
    main()
