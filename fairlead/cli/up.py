"""`fairlead up`: predictor, workers and scheduler on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.problems import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, SuiteError, fail
from fairlead.cli.session import Session, drop_session, save_session
from fairlead.cli.suite import Suite, SuiteOptions, change, with_demo_tenants
from fairlead.client import ModelInfo, Tls
from fairlead.config import Config, ConfigError, load_config


def up(
    config: Annotated[Path | None, typer.Option(help="YAML configuration; FAIRLEAD_CONFIG too.")] = None,
    engine: Annotated[str | None, typer.Option(help="`vllm`, or `simulated` (no model is loaded).")] = None,
    model: Annotated[str | None, typer.Option(help="Hugging Face id, local folder, or `demo`.")] = None,
    policy: Annotated[
        str | None, typer.Option(help="Policy at start: a name of docs/policies, or a plug-in's.")
    ] = None,
    predictor: Annotated[
        str | None, typer.Option(help="encoder, history, ensemble, forest, ..., a plug-in's name, or `none`.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes, all alike.")] = 1,
    seats: Annotated[int | None, typer.Option(min=1, help="Places in a step on each worker.")] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Sequences resident in each engine, paused ones included.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the scheduler.")] = None,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Every service takes a free port.")] = False,
    logs: Annotated[
        Path | None, typer.Option(help="Folder for one log file a service; else prefixed lines on stderr.")
    ] = None,
    start_s: Annotated[float, typer.Option(min=1, help="Longest wait for a service to be ready, s.")] = 300.0,
    drain_s: Annotated[
        float, typer.Option(min=0, help="Longest that accepted requests may finish at the end, s.")
    ] = 30,
) -> None:
    """Start the whole suite on this machine; Ctrl-C drains it, a second Ctrl-C stops it at once.

    What an option does not say comes from the configuration. Examples: fairlead up; fairlead up --engine simulated;
    fairlead up --model ./my-model --workers 2 --policy slo
    """
    try:
        chosen = choose(load_config(config), engine=engine, model=model, policy=policy, predictor=predictor,
                        seats=seats, slots=slots, port=port)  # fmt: skip
    except ConfigError as error:
        fail(str(error), EXIT_USAGE)
    if not chosen.tenants:
        chosen = with_demo_tenants(chosen)
        print("the configuration names no tenants: made `interactive`, `batch` and `operator` with keys of their own",
              file=sys.stderr)  # fmt: skip
    options = SuiteOptions(workers=workers, free_ports=free_ports, logs=logs, start_s=start_s, drain_s=drain_s)
    raise typer.Exit(asyncio.run(run_suite(chosen, options)))


def choose(
    config: Config,
    *,
    engine: str | None = None,
    model: str | None = None,
    policy: str | None = None,
    predictor: str | None = None,
    seats: int | None = None,
    slots: int | None = None,
    port: int | None = None,
) -> Config:
    """The configuration with what the command line says put over it.

    Raises:
        ConfigError: the values do not fit together.
    """
    if seats is not None and slots is None:
        slots = max(config.worker.slots, seats)
    host = config.scheduler.listen.rpartition(":")[0]
    try:
        config = change(config, "worker", engine=engine, model=model, step_seats=seats, slots=slots)
        config = change(config, "scheduler", policy=policy, listen=None if port is None else f"{host}:{port}")
        if predictor == "none":
            scheduler = config.scheduler.model_copy(update={"predictor": None})
            config = config.model_copy(update={"scheduler": scheduler})
        elif predictor is not None:
            config = change(config, "predictor", predictor=predictor)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return config


async def run_suite(config: Config, options: SuiteOptions) -> int:
    """Runs a suite until a signal or a death that it can't go on after; returns the exit code."""
    suite = Suite(config, options)
    interrupted, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if interrupted.is_set():
            print("stopping at once", file=sys.stderr, flush=True)
            at_once.set()
            suite.kill()
        interrupted.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    waiting = asyncio.create_task(interrupted.wait())
    code = 0
    try:
        starting = asyncio.create_task(suite.start())
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            print("stopped before it was ready", file=sys.stderr, flush=True)
            starting.cancel()
            code = EXIT_INTERRUPTED
            suite.kill()
        else:
            announce(suite, starting.result())
            code = await _watch(suite, waiting)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = EXIT_FAILED
        suite.kill()
    finally:
        waiting.cancel()
        if not await suite.stop() and code == 0 and not at_once.is_set():
            print("the suite did not drain in time; what was left has been stopped", file=sys.stderr, flush=True)
            code = EXIT_FAILED
        drop_session(os.getpid())
    return EXIT_INTERRUPTED if at_once.is_set() else code


async def _watch(suite: Suite, waiting: asyncio.Task[bool]) -> int:
    """Waits for the signal; names each child that dies. The exit code: 0 only if none did."""
    code = 0
    while True:
        death = asyncio.create_task(suite.first_death())
        await asyncio.wait((death, waiting), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            death.cancel()
            print("draining: accepted requests finish, Ctrl-C again stops at once", file=sys.stderr, flush=True)
            return code
        code = EXIT_FAILED
        print(f"error: {death.result().obituary()}", file=sys.stderr, flush=True)
        if not suite.serves:
            print("error: the suite cannot go on without it", file=sys.stderr, flush=True)
            return code
        print("the suite goes on without it", file=sys.stderr, flush=True)


def announce(suite: Suite, models: list[ModelInfo]) -> None:
    """Prints the ready line, with an example, and writes the session down for the other commands."""
    save_session(Session(suite.address, os.getpid(), suite.keys, _absolute(suite.tls)))
    config = suite.config
    tenant = next((name for name in suite.keys if name != "operator"), None)
    workers = f"{config.worker.engine} workers " + ", ".join(worker.address for worker in suite.workers)
    predictor = f"{config.predictor.predictor} {suite.predictor.address}" if suite.predictor else "none"
    example = 'fairlead generate "Write a short story about a lighthouse."' + (f" --tenant {tenant}" if tenant else "")
    print(
        f"fairlead ready at {suite.address} (policy {config.scheduler.policy}; model "
        f"{', '.join(model.model for model in models)}; {workers}; predictor {predictor}); "
        f"try: {example}",
        flush=True,
    )


def _absolute(tls: Tls | None) -> str:
    return str(Path(tls.ca).absolute()) if tls is not None and tls.ca is not None else ""
