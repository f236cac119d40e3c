"""`fairlead simulate`: what each policy would do with this traffic, in virtual time."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.problems import EXIT_USAGE, fail

MAX_REQUESTS = 5_000_000


class Mood(StrEnum):
    """How the simulated predictor behaves."""

    GOOD = "good"
    SLOW = "slow"
    LYING = "lying"
    DEAD = "dead"


def simulate(
    traces: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TRACE]...",
            help="CSV or JSONL files (.gz too) with arrival_s, input_tokens, output_tokens[, session], or names of "
            "traces in the folder FAIRLEAD_DATA; without any, a built-in synthetic mix.",
        ),
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Policies, by commas; settings after @: `priority@budget=512,seats=48`.")
    ] = "fcfs,isrtf,slo",
    load: Annotated[str, typer.Option(help="Loads, by commas: multiples of the FCFS capacity.")] = "0.7,0.95,1.1",
    ls_fraction: Annotated[float, typer.Option(min=0, max=1, help="Share of latency-sensitive requests.")] = 0.5,
    requests: Annotated[int, typer.Option(min=20, max=MAX_REQUESTS, help="Taken from each trace.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Workers, all alike.")] = 1,
    profile: Annotated[
        str,
        typer.Option(
            help="The machines: seats, KV tokens, token budget and step times by name (--list-profiles), or a file of "
            "`python -m bench.step_profile`. The options below override it."
        ),
    ] = "design",
    list_profiles: Annotated[
        bool, typer.Option("--list-profiles", help="Say which profiles there are and where their figures are from.")
    ] = False,
    seats: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Sequences in a step, each worker; default: the profile's.")
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, max=65536, help="Resident sequences; default 4 x seats.")] = None,
    kv_tokens: Annotated[
        int | None, typer.Option(min=64, help="KV cache of each worker, tokens; default: the profile's.")
    ] = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Tokens in a step; default: the profile's.")] = None,
    step_ms: Annotated[
        str | None,
        typer.Option(
            help="Step time: ms, ms a prefill token, ms a decode, ms a context token; default: the profile's, "
            "6,0.045,0.05,0.00025 of `design`."
        ),
    ] = None,
    slo_ttft_ms: Annotated[float, typer.Option(min=0.001, help="TTFT target of LS requests, ms.")] = 1000.0,
    slo_tpot_ms: Annotated[float, typer.Option(min=0.001, help="TPOT target of LS requests, ms.")] = 50.0,
    prediction_tau: Annotated[
        str, typer.Option(help="Kendall's tau of predictions: above 0 to 1 (the true length), or none (priors only).")
    ] = "0.5",
    fresh_evidence: Annotated[
        bool, typer.Option("--fresh-evidence", help="Asking again after a window brings new knowledge.")
    ] = False,
    predictor: Annotated[Mood, typer.Option(help="How the predictor behaves.")] = Mood.GOOD,
    lose_worker_s: Annotated[
        float | None, typer.Option(min=0.001, help="Mean virtual time between losses of a worker, s.")
    ] = None,
    worker_back_s: Annotated[float, typer.Option(min=0.0, help="Time until a lost worker is replaced, s.")] = 30.0,
    network_ms: Annotated[
        str, typer.Option(help="Delay of a message between scheduler and worker: least,most ms.")
    ] = "0.5,1.5",
    max_queued: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are refused.")] = 10_000,
    goodput: Annotated[
        bool, typer.Option("--goodput", help="Find the highest load with 99 % LS attainment instead of --load.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    seed: Annotated[int, typer.Option(help="Of classes, predictions, network and faults.")] = 0,
    plots: Annotated[Path | None, typer.Option(help="Write pictures into this folder.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    decisions: Annotated[
        Path | None, typer.Option(help="Write the decision log here; for one trace, policy and load.")
    ] = None,
    from_log: Annotated[
        Path | None,
        typer.Option(
            help="Traffic that a scheduler recorded (scheduler.decision_log): one of its files, or the folder. "
            "Requests, workers and predictions are the recorded ones; of the other options --policy, --token-budget, "
            "--seed and --json count. `--policy recorded` is the policy of the recording as it was set."
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="With --from-log: check that the recorded events lead to the recorded decisions."
        ),
    ] = False,
) -> None:
    """Simulate policies on traces, in virtual time: the scheduler's own code on simulated workers.

    Load 1 is what FCFS can serve of the same trace on the same machines, measured first by simulation with all
    requests waiting. The first and the last 5 % of arrivals are left out of the figures. A load above 1 is a
    transient: say with how many requests. Policies beside the service's own: `ls_alone` (LS requests alone under
    `slo`: the bound for LS); `srpt` is told the true lengths. After @ come budget, seats, slots, tau, any policy
    setting (window_tokens, be_share, ...) or the policy's own options. One seed gives one result, byte for byte.

    Preemptions count pauses (the KV cache is kept) and evictions; only these cost recomputed tokens.

    Example: fairlead simulate azure2023_conv --policy fcfs,slo,priority@budget=512 --load 0.95,1.1 --json rows.json

    What others would have done with recorded traffic: fairlead simulate --from-log FOLDER --policy hybrid_slo,slo
    """
    from fairlead.cli import simulate_profiles as profiles  # noqa: PLC0415 - as below

    if list_profiles:
        profiles.print_profiles()
        return
    machine = profiles.chosen(profile)
    if json_file is not None and not json_file.parent.is_dir():
        fail(f"--json: there is no folder {json_file.parent}", EXIT_USAGE)
    if verify and from_log is None:
        fail("--verify needs --from-log FILE: what is to be checked", EXIT_USAGE)
    if from_log is not None:
        from fairlead.cli import simulate_log as logs  # noqa: PLC0415 - NumPy and the core: only when it is called

        if traces:
            fail("--from-log: a trace cannot be simulated beside it; leave it out", EXIT_USAGE)
        if verify:
            logs.run_verify(from_log, json_file)
        else:
            logs.run_from_log(
                from_log, policy, token_budget=token_budget or machine.token_budget, seed=seed, json_file=json_file
            )
        return
    from fairlead.cli import simulate_run as runs  # noqa: PLC0415 - NumPy and the core: only when it is called

    wish = runs.Wish(
        traces=tuple(traces or ()),
        policies=policy,
        loads=_numbers("--load", load),
        ls_fraction=ls_fraction,
        requests=requests,
        workers=workers,
        seats=seats or machine.seats,
        slots=slots,
        kv_tokens=kv_tokens or machine.kv_tokens,
        block_tokens=machine.block_tokens,
        token_budget=token_budget or machine.token_budget,
        step_ms=profiles.steps_of(machine) if step_ms is None else _numbers("--step-ms", step_ms, count=4, zero=True),
        ttft_ms=slo_ttft_ms,
        tpot_ms=slo_tpot_ms,
        tau=prediction_tau,
        fresh_evidence=fresh_evidence,
        mood=predictor.value,
        lose_worker_s=lose_worker_s,
        worker_back_s=worker_back_s,
        network_ms=_numbers("--network-ms", network_ms, count=2, zero=True),
        max_queued=max_queued,
        seed=seed,
    )
    if goodput and ls_fraction == 0:
        fail("--goodput needs latency-sensitive requests: set --ls-fraction above 0", EXIT_USAGE)
    if slots is not None and slots < wish.seats:
        fail(f"--slots must be at least --seats ({wish.seats}): who has a seat has a slot", EXIT_USAGE)
    outputs = runs.Outputs(json_file, plots, decisions)
    runs.run_simulate(wish, goodput=goodput, jobs=jobs, outputs=outputs)


def _numbers(option: str, text: str, *, count: int | None = None, zero: bool = False) -> tuple[float, ...]:
    """Numbers by commas, positive (or 0 where `zero`), `count` of them if that is stated."""
    try:
        values = tuple(float(piece) for piece in text.split(","))
    except ValueError:
        fail(f"{option}: {text!r} must be numbers, separated by commas", EXIT_USAGE)
    if count is not None and len(values) != count:
        fail(f"{option}: needs {count} numbers, not {len(values)}", EXIT_USAGE)
    if any(not math.isfinite(value) or value < 0 or (value == 0 and not zero) for value in values):
        fail(f"{option}: {text!r}: every number must be {'at least 0' if zero else 'positive'}", EXIT_USAGE)
    return values
