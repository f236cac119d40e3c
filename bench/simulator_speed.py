"""How fast the simulator is, in CPU time of one process: `python -m bench.simulator_speed`.

Each case is one run at a stated load; reading the trace, measuring the capacity and finding the predictor's noise are
not timed. Simulated output tokens a
second are answer tokens made / CPU seconds. `--fleet` is the run of many workers.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fairlead.cli.problems import wide_console
from simulator.policies import parse_choice, split_choices
from simulator.run import Run, Setup, measure_capacity, sigma_of, simulate, workload_of
from simulator.workload import SYNTHETIC

PROFILE_ROWS = 30
FLEET_WORKERS, FLEET_REQUESTS = 100, 200_000


@dataclass(frozen=True, slots=True)
class Speed:
    """One timed run: requests and tokens simulated, engine steps, and the CPU seconds that it took."""

    trace: str
    policy: str
    load: float
    workers: int
    requests: int
    tokens: int
    steps: int
    cpu_s: float

    @property
    def tokens_per_s(self) -> float:
        """Simulated output tokens a second of one core."""
        return self.tokens / self.cpu_s


def timed(run: Run, setup: Setup) -> Speed:
    """Does a run and times it; what it reads is read before."""
    name = workload_of(run.source, setup.requests, setup.seed).name
    sigma_of(run.source, setup.requests, setup.seed, setup.tau)
    began_s = time.process_time()
    result = simulate(run, setup)
    cpu_s = time.process_time() - began_s
    tokens = sum(request.received for request in result.requests)
    return Speed(name, run.choice.text, run.load, setup.workers, len(result.requests), tokens, result.steps, cpu_s)


def main(
    traces: Annotated[list[str] | None, typer.Argument(help="Traces; default: the built-in mix.")] = None,
    policy: Annotated[str, typer.Option(help="Policies, by commas.")] = "fcfs,slo",
    load: Annotated[float, typer.Option(min=0.01, help="Multiple of FCFS capacity.")] = 0.9,
    requests: Annotated[int, typer.Option(min=20, help="Requests of each trace.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, help="Workers.")] = 1,
    fleet: Annotated[bool, typer.Option("--fleet", help="100 workers and 200,000 requests.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Say where the time goes (and takes longer).")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Simulated output tokens a second of one core, at 64 seats a worker."""
    setup = Setup(requests=FLEET_REQUESTS if fleet else requests, workers=FLEET_WORKERS if fleet else workers)
    setup = replace(setup, max_queued=setup.requests)
    table = Table(
        "trace", "policy", "load", "workers", "requests", "tokens", "steps", "CPU s", "tokens/s", "us/request"
    )
    console, found = wide_console(), list[Speed]()
    for source in traces or [SYNTHETIC]:
        one = replace(setup, workers=1, requests=min(setup.requests, 2000))
        capacity = measure_capacity(source, one) * setup.workers
        for text in split_choices(policy):
            run = Run(source, parse_choice(text), load, load * capacity)
            if profile:
                profiler = cProfile.Profile()
                profiler.runcall(timed, run, setup)
                pstats.Stats(profiler).sort_stats("tottime").print_stats(PROFILE_ROWS)
            speed = timed(run, setup)
            found.append(speed)
            table.add_row(
                speed.trace, speed.policy, f"{load:g}", str(speed.workers), str(speed.requests), str(speed.tokens),
                str(speed.steps), f"{speed.cpu_s:.2f}", f"{speed.tokens_per_s:,.0f}",
                f"{speed.cpu_s / speed.requests * 1e6:.0f}",
            )  # fmt: skip
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
