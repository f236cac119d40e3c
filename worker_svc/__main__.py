"""`fairlead-worker`: one worker process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from fairlead import event_loop
from fairlead.config import Config, ConfigError, WorkerConfig, load_config
from fairlead.process import EXIT_FAILED, EXIT_USAGE, stop_on_signals, with_options
from fairlead.rpc import PortTaken
from fairlead.telemetry import configure_logging
from worker_svc.engines.base import EngineFailed
from worker_svc.host import WorkerHost, make_engine

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def worker(
    config: Annotated[Path | None, typer.Option(help="YAML file; its `worker` section is read here.")] = None,
    listen: Annotated[str | None, typer.Option(help="host:port; port 0 takes a free one.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm, simulated, or any installed engine.")] = None,
    model: Annotated[str | None, typer.Option(help="Hugging Face id, local folder, or `demo`.")] = None,
    drain_timeout_s: Annotated[float, typer.Option(help="Longest wait for running requests after SIGTERM, s.")] = 30.0,
) -> None:
    """Runs one worker: a gRPC server round one engine, led by a fairlead scheduler.

    It prints one line when it serves. SIGTERM or Ctrl-C takes no more requests and finishes those that run; a second
    one stops at once. Without a GPU or a model, try: fairlead-worker --engine simulated
    """
    try:
        whole = load_config(config)
        chosen = with_options(whole.worker, listen=listen, engine=engine, model=model)
        code = event_loop.run(_serve(whole, chosen, drain_timeout_s))
    except (ConfigError, PortTaken) as error:
        typer.echo(f"fairlead-worker: {error}", err=True)
        code = EXIT_USAGE
    except EngineFailed as error:
        typer.echo(f"fairlead-worker: {error}", err=True)
        code = EXIT_FAILED
    raise typer.Exit(code)


async def _serve(whole: Config, config: WorkerConfig, drain_timeout_s: float) -> int:
    configure_logging(whole.log, "worker")
    stop = stop_on_signals()
    host = WorkerHost(config, make_engine(config), whole.telemetry, whole.security)
    try:
        starting = asyncio.create_task(host.start())
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            starting.cancel()
            await asyncio.wait({starting})
            return 0
        starting.result()
        event_loop.settle()
        print(f"worker ready at {host.address} model={host.info.model} engine={host.info.engine}", flush=True)
        return await _until_stopped(host, stop, drain_timeout_s)
    finally:
        await host.stop()


async def _until_stopped(host: WorkerHost, stop: asyncio.Future[None], drain_timeout_s: float) -> int:
    died = asyncio.create_task(host.died())
    await asyncio.wait({died, stop}, return_when=asyncio.FIRST_COMPLETED)
    if stop.done() and not died.done():
        draining = asyncio.create_task(host.drain(drain_timeout_s * 1000))
        await asyncio.wait({died, draining}, return_when=asyncio.FIRST_COMPLETED)
    if died.done():
        typer.echo(f"fairlead-worker: {died.result()}; the worker stops", err=True)
        return EXIT_FAILED
    died.cancel()
    return 0


def main() -> None:
    app()


if __name__ == "__main__":
    main()
