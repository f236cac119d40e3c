"""`fairlead-predictor`: one predictor process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from fairlead import event_loop
from fairlead.config import Config, ConfigError, PredictorConfig, load_config
from fairlead.process import EXIT_USAGE, stop_on_signals, with_options, work_on_signal
from fairlead.rpc import PortTaken
from fairlead.telemetry import configure_logging
from predictor_svc.predictors.base import open_predictor
from predictor_svc.service import PredictorHost
from predictor_svc.swapping import ModelWatch

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def predictor(
    config: Annotated[Path | None, typer.Option(help="YAML file; its `predictor` section is read here.")] = None,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 takes a free one.")] = None,
    predictor: Annotated[str | None, typer.Option(help="encoder, history, ensemble, ..., or a plug-in's name.")] = None,
    head: Annotated[Path | None, typer.Option(help="Folder made by `fairlead predictor train`.")] = None,
    drain_timeout_s: Annotated[float, typer.Option(help="Longest wait for open questions after SIGTERM, s.")] = 5.0,
) -> None:
    """Says how long answers will be, as distributions, to one or more fairlead schedulers.

    It prints one line when it serves. `history` needs nothing and learns as it goes; `encoder` reads the prompt and the
    answer so far, and makes its quantised encoder once, at the first start; `oracle` repeats operators' length hints.
    A model that takes the old one's place in its folder serves a few seconds later, or at SIGUSR1, without a pause.
    SIGTERM or Ctrl-C answers what was asked and stops; a second one stops at once.

    Try: fairlead-predictor --predictor history --listen 127.0.0.1:0
    """
    try:
        whole = load_config(config)
        chosen = with_options(whole.predictor, listen=listen, predictor=predictor, head=head)
        event_loop.run(_serve(whole, chosen, drain_timeout_s))
    except (ConfigError, PortTaken) as error:
        typer.echo(f"fairlead-predictor: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None


async def _serve(whole: Config, config: PredictorConfig, drain_timeout_s: float) -> None:
    configure_logging(whole.log, "predictor")
    stop = stop_on_signals()
    opening = asyncio.ensure_future(asyncio.to_thread(open_predictor, config))
    await asyncio.wait({opening, stop}, return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        # A thread that loads weights cannot be stopped, and has nothing that needs an orderly end.
        os._exit(0)
    opened = opening.result()
    host = PredictorHost(config, opened, whole.telemetry, whole.security)
    await host.start()
    event_loop.settle()
    print(f"predictor ready at {host.address} predictor={opened.name}", flush=True)
    watch = ModelWatch(config, host)
    work_on_signal(signal.SIGUSR1, watch.load)
    await stop
    await watch.stop()
    await host.drain(drain_timeout_s)


def main() -> None:
    app()


if __name__ == "__main__":
    sys.exit(main())
