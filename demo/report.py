"""The demo's figures: per policy, per seed, against `fcfs`, and the honest verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.plan import BASELINE, TARGETS, Settings
from fairlead.client import ServiceClass
from fairlead.load.measure import Capacity, Idle
from fairlead.load.metrics import figures
from fairlead.load.run import Record

QUIET_CPUS = 0.15
Figure = float | int | None
PerSeed = Mapping[str, Sequence[Mapping[str, Figure]]]
"""Label of the run to its figures, one entry a seed."""


def policy_figures(records: Sequence[Record]) -> dict[str, Figure]:
    """The figures of one run. Times are the client's, from the due time of a request, except where named otherwise."""
    found = figures(records)
    latency, effort = found.of_class(ServiceClass.LATENCY_SENSITIVE), found.of_class(ServiceClass.BEST_EFFORT)
    return {
        "ls_ttft_p50_ms": latency.ttft_ms.p50,
        "ls_ttft_p99_ms": latency.ttft_ms.p99,
        "ls_attainment": latency.attainment,
        "be_jct_mean_ms": effort.jct_ms.mean,
        "all_jct_mean_ms": found.all.jct_ms.mean,
        "tokens_per_s": found.tokens_per_s,
        "requests": found.all.offered,
        "finished": found.all.finished,
        "preemptions": found.pauses + found.evictions,
        "pauses": found.pauses,
        "evictions": found.evictions,
        "ls_jct_mean_ms": latency.jct_ms.mean,
        "ls_tpot_p50_ms": latency.tpot_ms.p50,
        "ls_tpot_p99_ms": latency.tpot_ms.p99,
        "ls_ttft_p50_ms_at_scheduler": latency.scheduler_ttft_ms.p50,
        "ls_ttft_p99_ms_at_scheduler": latency.scheduler_ttft_ms.p99,
        "ls_attainment_at_scheduler": latency.attainment_at_scheduler,
        "output_tokens": found.all.output_tokens,
        "duration_s": found.duration_s,
        "send_lag_p99_ms": found.send_lag_p99_ms,
    }


def mean_over_seeds(per_seed: PerSeed) -> dict[str, dict[str, Figure]]:
    """The mean of every figure; None where no seed has it."""

    def mean(values: Sequence[Figure]) -> Figure:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    return {
        label: {name: mean([each[name] for each in runs]) for name in runs[0]}
        for label, runs in per_seed.items()
        if runs
    }


def ratio(policies: Mapping[str, Mapping[str, Figure]], policy: str, figure: str) -> float | None:
    """A figure of a policy over the same figure of `fcfs`; None where either is missing or zero."""
    value, base = policies.get(policy, {}).get(figure), policies.get(BASELINE, {}).get(figure)
    return value / base if value is not None and base else None


def verdicts(policies: Mapping[str, Mapping[str, Figure]]) -> list[dict[str, Any]]:
    """Each target with the ratio reached and whether it is met."""
    told: list[dict[str, Any]] = []
    for target in TARGETS:
        reached = ratio(policies, target.policy, target.figure)
        told.append(
            {
                "policy": target.policy,
                "figure": target.figure,
                "words": target.words,
                "ratio": reached,
                "bound": target.ratio,
                "at_most": target.at_most,
                "met": reached is not None and target.met(reached),
            }
        )
    return told


def summary(
    settings: Settings, idle: Idle, capacity: Capacity, per_seed: PerSeed, about: dict[str, Any]
) -> dict[str, Any]:
    """What `summary.json` holds."""
    policies = mean_over_seeds(per_seed)
    return {
        "engine": settings.engine,
        "model": settings.model,
        "seeds": settings.seeds,
        "seats": settings.seats,
        "default_seats": settings.default_seats,
        "slo": {
            "ttft_ms": settings.ttft_multiple * idle.ttft_ms,
            "tpot_ms": settings.tpot_multiple * idle.step_ms,
            "ttft_multiple_of_idle": settings.ttft_multiple,
            "tpot_multiple_of_idle_step": settings.tpot_multiple,
            "idle_ttft_ms": idle.ttft_ms,
            "idle_step_ms": idle.step_ms,
        },
        "load": {
            "multiple_of_fcfs_capacity": settings.load,
            "fcfs_capacity_requests_per_s": capacity.requests_per_s,
            "fcfs_capacity_tokens_per_s": capacity.tokens_per_s,
            "mean_answer_tokens": capacity.mean_answer_tokens,
            "arrivals_s": settings.arrivals_s,
        },
        **about,
        "policies": policies,
        "per_seed": {label: list(runs) for label, runs in per_seed.items()},
        "ratios_to_fcfs": {
            label: {
                name: ratio(policies, label, name) for name in ("ls_ttft_p99_ms", "all_jct_mean_ms", "tokens_per_s")
            }
            for label in policies
        },
        "targets": verdicts(policies),
        "measured_at": "client, from the due time of each request; *_at_scheduler from its arrival at the scheduler",
    }


def comparison_table(policies: Mapping[str, Mapping[str, Figure]]) -> Table:
    """Policies side by side, with their ratios to `fcfs`."""
    table = Table(title="the same requests at the same times, one policy after the other (times at the client)")
    table.add_column("figure")
    for label in policies:
        table.add_column(label, justify="right")
    rows: tuple[tuple[str, str, float, str], ...] = (
        ("LS TTFT p50, ms", "ls_ttft_p50_ms", 1, ".0f"),
        ("LS TTFT p99, ms", "ls_ttft_p99_ms", 1, ".0f"),
        ("LS TTFT p99 at the scheduler, ms", "ls_ttft_p99_ms_at_scheduler", 1, ".0f"),
        ("LS TPOT p50, ms", "ls_tpot_p50_ms", 1, ".1f"),
        ("LS attainment", "ls_attainment", 1, ".1%"),
        ("BE JCT mean, s", "be_jct_mean_ms", 1000, ".2f"),
        ("all JCT mean, s", "all_jct_mean_ms", 1000, ".2f"),
        ("tokens/s", "tokens_per_s", 1, ".0f"),
        ("requests", "requests", 1, ".0f"),
        ("finished", "finished", 1, ".0f"),
        ("pauses (KV kept)", "pauses", 1, ".0f"),
        ("evictions (KV dropped)", "evictions", 1, ".0f"),
        ("CPUs used by other programs", "other_programs_cpus", 1, ".2f"),
    )
    compared = {"ls_ttft_p99_ms", "be_jct_mean_ms", "all_jct_mean_ms", "tokens_per_s"}
    for words, name, scale, shape in rows:
        cells: list[str] = []
        for label, found in policies.items():
            value, against = found.get(name), ratio(policies, label, name)
            beside = f" ({against:.2f}x)" if name in compared and label != BASELINE and against is not None else ""
            cells.append("-" if value is None else f"{value / scale:{shape}}{beside}")
        table.add_row(words, *cells)
    return table


def print_verdict(console: Console, policies: Mapping[str, Mapping[str, Figure]]) -> None:
    """One line a target, then PASS or what falls short."""
    told = verdicts(policies)
    for each in told:
        sign = "at most" if each["at_most"] else "at least"
        reached = "not measured" if each["ratio"] is None else f"{each['ratio']:.3f}x"
        mark = "[green]met  [/]" if each["met"] else "[red]short[/]"
        console.print(f"  {mark} {each['policy']}: {each['words']} {reached} of fcfs (target {sign} {each['bound']}x)")
    lost = {label: found for label, found in policies.items() if found["finished"] != found["requests"]}
    for label, found in lost.items():
        console.print(f"  [red]short[/] {label}: {found['finished']:.0f} of {found['requests']:.0f} requests finished")
    shared = max((found.get("other_programs_cpus") or 0.0 for found in policies.values()), default=0.0)
    if shared > QUIET_CPUS:
        console.print(
            f"  [yellow]note [/] other programs used up to {shared:.2f} CPUs meanwhile: the runs are not alike, "
            "and the ratios above say less"
        )
    passed = all(each["met"] for each in told) and not lost
    console.print("[bold green]PASS[/]" if passed else "[bold red]SHORT of the targets above[/]")


def write_summary(settings: Settings, told: dict[str, Any]) -> None:
    """Writes `summary.json` into the demo's folder."""
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / "summary.json").write_text(json.dumps(told, indent=2) + "\n")
