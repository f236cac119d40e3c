"""What the report runs: traces, policies, loads and seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fairlead.load.traces import TraceError
from simulator.policies import LS_ALONE, Choice, parse_choice
from simulator.run import Setup
from simulator.trace_files import find_trace, known_traces, read_any
from simulator.workload import SYNTHETIC

BASELINE = "fcfs"
BOUNDS = (LS_ALONE, "srpt")
"""No policies to choose: LS on the machine alone, and an order that knows the true lengths."""
POLICIES = (
    "fcfs", "priority", "edf", "ssjf", "isrtf", "srpt_limited", "rank", "mlfq", "hrrn", "tail_penalty",
    "interval_min", "hybrid_slo", "goodput", "qoe", "memory_time", "sorted_f", "doubling_budget", "anneal", "gittins",
    "slo",
)  # fmt: skip
TUNED = ("priority@budget=512", "priority@budget=512,seats=48")
"""Baselines with settings of their own (design: scheduling, "Comparing"; 48 of 64 seats)."""
WITHOUT_PREDICTOR = ("fcfs", "priority", "edf", "mlfq", "qoe", *TUNED)
"""Need no length predictions."""
LOADS = (0.5, 0.7, 0.85, 0.95, 1.1, 1.3, 1.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one report is made of.

    Attributes:
        sources: traces, by file or name.
        choices: policies and bounds.
        loads: multiples of each trace's FCFS capacity.
        seeds: figures are means over them.
        setup: of every run; its seed is replaced.
        left_out: files of the data folder that are no traces, each with the reason.
    """

    sources: tuple[str, ...]
    choices: tuple[Choice, ...]
    loads: tuple[float, ...]
    seeds: tuple[int, ...]
    setup: Setup
    left_out: tuple[str, ...] = ()

    def setup_of(self, seed: int) -> Setup:
        """The setup under one seed."""
        return replace(self.setup, seed=seed)


def default_policies() -> tuple[str, ...]:
    """Every policy, the tuned baselines, the bounds."""
    return (*POLICIES, *TUNED, *BOUNDS)


def make_plan(
    traces: tuple[str, ...], policies: tuple[str, ...], loads: tuple[float, ...], seeds: int, setup: Setup
) -> Plan:
    """Checks what is asked for; without traces, the built-in mix and every trace of the data folder.

    Raises:
        TraceError: no such trace; the message lists those known.
        PolicyError: no such policy or setting.
        ValueError: the baseline is missing.
    """
    sources, left_out = (traces, ()) if traces else _known()
    for source in sources:
        if source != SYNTHETIC:
            find_trace(source)
    choices = tuple(parse_choice(text) for text in dict.fromkeys(policies))
    if not any(choice.text == BASELINE for choice in choices):
        raise ValueError(f"--policy: {BASELINE} must be among the policies: it is what the others are held against")
    return Plan(sources, choices, tuple(sorted(set(loads))), tuple(range(seeds)), setup, left_out)


def _known() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The built-in mix and the traces of the data folder; what lies beside them and is none (lengths alone, say)."""
    sources, left_out = [SYNTHETIC], list[str]()
    for name, path in sorted(known_traces().items()):
        try:
            read_any(path, 1)
        except TraceError as error:
            left_out.append(str(error).replace(f"{path}: ", f"{name}: ", 1))
        else:
            sources.append(name)
    return tuple(sources), tuple(left_out)


def name_of(source: str) -> str:
    """What a trace is called."""
    return SYNTHETIC if source == SYNTHETIC else find_trace(source).name


def file_of(source: str) -> Path | None:
    """Where a trace lies; None for the built-in mix."""
    return None if source == SYNTHETIC else find_trace(source).path
