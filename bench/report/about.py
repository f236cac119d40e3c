"""How a report was made: settings, seeds, versions, command."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.report.plan import Plan, name_of
from bench.report.store import code_hash
from bench.report.table import Table
from bench.report.work import describe


@dataclass(frozen=True, slots=True)
class About:
    """What a report says of itself.

    Attributes:
        capacity: FCFS capacity in requests/s, by trace and seed.
        cpu_s: processor time of all its runs, those kept from before included.
        runs: how many.
    """

    plan: Plan
    command: str
    capacity: dict[tuple[str, int], float]
    cpu_s: float
    runs: int

    @property
    def one_line(self) -> str:
        """For the top of the page."""
        plan = self.plan
        return (
            f"Simulated by `{self.command}`: {len(plan.choices)} policies and bounds, "
            f"{_count(len(plan.sources), 'trace')}, loads {plan.loads[0]:g} to {plan.loads[-1]:g} of FCFS capacity, "
            f"the first {plan.setup.requests:,} requests of each trace, {_count(len(plan.seeds), 'seed')}. "
            "Nothing here was measured on a GPU."
        )

    def details(self, table: Table) -> str:
        """Settings for whoever wants to repeat it."""
        plan, setup = self.plan, self.plan.setup
        per_trace = []
        for source in plan.sources:
            name = name_of(source)
            rates = [self.capacity[source, seed] for seed in plan.seeds]
            per_trace.append(f"{name} {sum(rates) / len(rates):.2f}/s")
        lines = [
            f"- Command: `{self.command}`; {self.runs:,} runs, {self.cpu_s / 60:.0f} minutes of one core.",
            f"- Machines: {describe(setup)}. These constants are the design's, of an A100- or H100-like GPU; not "
            "measured.",
            f"- Requests: {100 * setup.ls_fraction:.0f} % LS at random, targets TTFT {setup.targets.ttft_ms:g} ms and "
            f"TPOT {setup.targets.tpot_ms:g} ms. Load 1, the measured FCFS capacity: {', '.join(per_trace)}.",
            f"- Predictions: Kendall's tau {setup.tau:g} with the true order, after {setup.prediction_ms:g} ms."
            if setup.tau
            else "- Predictions: none.",
            f"- Seeds {', '.join(map(str, plan.seeds))} (classes, predictions, network"
            + "; and the built-in mix itself). "
            + _spreads(table),
            "- The first and the last 5 % of arrivals are left out of the figures, tokens/s apart. Loads above 1 are "
            f"transients: their figures hold for {setup.requests:,} requests, more would wait longer.",
            "- ITL as a distribution and QoE are not among the figures: the simulator keeps the longest gap, not each.",
            *(f"- Not a trace, left out: {reason}." for reason in plan.left_out),
            f"- Versions: fairlead {_version('fairlead')} at {_commit()}, deciding code {code_hash()}; Python "
            f"{platform.python_version()}, NumPy {_version('numpy')}.",
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "command": self.command,
            "policies": [choice.text for choice in self.plan.choices],
            "traces": [name_of(source) for source in self.plan.sources],
            "loads": self.plan.loads,
            "seeds": self.plan.seeds,
            "requests": self.plan.setup.requests,
            "machines": describe(self.plan.setup),
            "capacity_requests_per_s": [
                {"trace": name_of(source), "seed": seed, "value": value}
                for (source, seed), value in self.capacity.items()
            ],
            "runs": self.runs,
            "cpu_s": round(self.cpu_s, 1),
            "deciding_code": code_hash(),
        }


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _spreads(table: Table) -> str:
    jct, kept = table.spread("all", "jct_mean_s"), table.spread("ls", "attainment")
    if jct is None or kept is None:
        return "One seed says little about small differences."
    return (
        f"Between seeds, (largest - least) / mean is {100 * jct:.1f} % of mean JCT and {100 * kept:.1f} % of "
        "attainment in the median run: differences below that are noise."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _commit() -> str:
    """Short name of the commit, with + where files that count are changed; unknown outside a checkout."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "an unknown commit"
    return f"commit {said.stdout.strip()}"
