"""`fairlead replay`: open-loop load against a live suite, and what came of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.options import Address, ConfigFile, Key, TenantName, access_of
from fairlead.cli.problems import EXIT_USAGE, fail

MAX_REQUESTS = 1_000_000


def replay(
    trace: Annotated[
        Path | None, typer.Option(help="CSV(.gz): arrival_s, input_tokens, output_tokens[, session].")
    ] = None,
    mix: Annotated[bool, typer.Option("--mix", help="The built-in mix of tasks; the default without --trace.")] = False,
    tick_s: Annotated[float | None, typer.Option(help="Spread requests of one stamp over this time, s.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Mean requests per second; a trace keeps its own if not given.")
    ] = None,
    load: Annotated[float | None, typer.Option(help="Rate as a multiple of the FCFS capacity, measured first.")] = None,
    duration_s: Annotated[float, typer.Option(min=0.1, help="Length of the arrivals, s.")] = 60.0,
    requests: Annotated[int | None, typer.Option(min=1, max=MAX_REQUESTS, help="Stop after so many requests.")] = None,
    ls_fraction: Annotated[float, typer.Option(min=0, max=1, help="Share of latency-sensitive requests.")] = 0.5,
    ls_tenant: Annotated[str, typer.Option(help="Tenant that sends the LS requests.")] = "interactive",
    be_tenant: Annotated[str, typer.Option(help="Tenant that sends the BE requests.")] = "batch",
    ttft_ms: Annotated[float | None, typer.Option(help="TTFT target of LS requests, ms.")] = None,
    tpot_ms: Annotated[float | None, typer.Option(help="TPOT target of LS requests, ms.")] = None,
    cv: Annotated[float, typer.Option(min=0, max=50, help="Variation of the gaps: 1 Poisson, above it bursty.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of arrivals, prompts, classes and sampling.")] = 0,
    policy: Annotated[str | None, typer.Option(help="Set this policy first (operator).")] = None,
    calibrate_s: Annotated[float, typer.Option(min=1, help="Length of the capacity measurement for --load, s.")] = 20.0,
    calibrate_in_flight: Annotated[
        int, typer.Option(min=1, max=2000, help="Requests kept going during that measurement.")
    ] = 32,
    finish_s: Annotated[float, typer.Option(min=0, help="Longest wait after the last arrival, s.")] = 600.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Write pictures into this folder.")] = None,
    tenant: TenantName = None,
    key: Key = None,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Send requests at their arrival times, whatever the answers do, and measure TTFT, TPOT, JCT and attainment.

    Examples: fairlead replay --rate 10 --duration-s 20; fairlead replay --trace trace.csv --load 0.95 --json rows.json
    """
    if trace and mix:
        fail("--trace and --mix exclude each other", EXIT_USAGE)
    if rate is not None and load is not None:
        fail("--rate and --load exclude each other", EXIT_USAGE)
    if any(value is not None and not (value > 0 and math.isfinite(value)) for value in (rate, load, tick_s)):
        fail("--rate, --load and --tick-s must be positive", EXIT_USAGE)
    from fairlead.cli.replay_run import Wish, run_replay  # noqa: PLC0415 - NumPy: only when it is called
    from fairlead.load.plan import Mixture  # noqa: PLC0415

    access = access_of(address, key, config)
    wish = Wish(
        trace=trace, tick_s=tick_s, rate=rate, load=load, duration_s=duration_s, requests=requests, cv=cv, seed=seed,
        policy=policy, calibrate_s=calibrate_s, calibrate_in_flight=calibrate_in_flight, finish_s=finish_s,
        mixture=Mixture(ls_fraction, tenant or ls_tenant, tenant or be_tenant, ttft_ms, tpot_ms),
    )  # fmt: skip
    run_replay(access, wish, json_file, plots)
