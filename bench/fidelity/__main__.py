from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from bench.fidelity.again import simulate_again, whole
from bench.fidelity.errors import AIM_MEDIAN, AIM_P99, Compared, compare
from bench.fidelity.live import Live, NotIdle, run_live
from bench.fidelity.plots import Sides, write_plot
from bench.fidelity.recorded import RecordedRun, RecordingError, idle_delay_ms, read_runs
from bench.overhead.report import machine
from fairlead.cli.problems import EXIT_INTERRUPTED, EXIT_USAGE, SuiteError, explain, fail, wide_console
from fairlead.client import FairleadError
from fairlead.load.measure import NotMeasured
from fairlead.steps import StepModel
from simulator.decision_log import LogError
from simulator.worker import Network

WARM_MS = 8000.0
"""Of the end of the warm-up from which the step times are learned: the worker forgets within a few seconds."""


def fidelity(
    policy: Annotated[str, typer.Option(help="Policies, by commas.")] = "fcfs,isrtf,slo",
    load: Annotated[float, typer.Option(min=0.05, help="Offered, multiple of the FCFS capacity measured first.")] = 0.9,
    arrivals_s: Annotated[float, typer.Option(min=1, help="Length of the arrivals under each policy, s.")] = 30.0,
    engine: Annotated[str, typer.Option(help="`vllm`, or `simulated` (in real time).")] = "vllm",
    seats: Annotated[int, typer.Option(min=1, help="Sequences in a step.")] = 12,
    predictor: Annotated[
        str | None, typer.Option(help="Predictor of the live run; default: the configured one.")
    ] = None,
    network_ms: Annotated[
        str | None,
        typer.Option(
            help="Simulated delay of a message between scheduler and worker: least,most. Default: as the idle requests "
            "of the warm-up had it."
        ),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(help="Folder with the decision log of an earlier live part: only simulate it.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the recording, logs and the plot.")] = Path("build/fidelity"),
    seed: Annotated[int, typer.Option(help="Of the load.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds: a check that it works, no figures.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
) -> None:
    """Hold the simulator against a real engine: the same requests, lengths and predictions, live and in virtual time.

    The simulator's step times are those that the worker learned in the warm-up. What is compared is what the scheduler
    saw: arrival there to first and last token there.
    """
    console = wide_console()
    policies = tuple(each.strip() for each in policy.split(","))
    live = Live(engine, policies, load, out, seats=seats, arrivals_s=arrivals_s, predictor=predictor, seed=seed)
    if quick:
        live = Live(engine, policies, load, out, seats=seats, arrivals_s=min(arrivals_s, 3.0), warm_s=2.5, burst_s=1.5,
                    idle_requests=5, predictor=predictor, seed=seed)  # fmt: skip
    network = _network(network_ms)
    about: dict[str, Any] = {
        "engine": engine,
        "load": load,
        "arrivals_s": live.arrivals_s,
        "seats": seats,
        "seed": seed,
    }
    try:
        if log is None:
            about |= asyncio.run(_interruptible(live, console))
        runs = read_runs(log or _own_recording(out))
        found, sides, learned = held_together(runs, len(policies), live.token_budget, network)
    except (SuiteError, NotMeasured, NotIdle, RecordingError, LogError) as error:
        fail(str(error))
    except FairleadError as error:
        fail(explain(error, "the suite's scheduler"))
    except asyncio.CancelledError:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    console.print(learned.words())
    print_table(console, found)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"plot: {write_plot(sides, out / 'fidelity.png')}")
    if json_file is not None:
        told = {"about": about | machine() | {"learned": asdict(learned)}, "rows": [each.to_json() for each in found]}
        json_file.write_text(json.dumps(told, indent=1) + "\n")


async def _interruptible(live: Live, console: Console) -> dict[str, Any]:
    """The live part; Ctrl-C ends it and the suite with it."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    for path in _own_recording(live.out).glob("decisions-*"):
        path.unlink()  # of an earlier call: a folder holds one recording
    told = await run_live(live, console)
    if told.other_programs_cpus is not None:
        console.print(f"other programs used {told.other_programs_cpus:.2f} CPUs meanwhile")
    return asdict(told)


def _own_recording(out: Path) -> Path:
    return out / "decisions"


@dataclass(frozen=True, slots=True)
class Learned:
    """What the simulation was told of the machine, from the warm-up."""

    step_model: StepModel
    network: Network

    def words(self) -> str:
        """In a line."""
        model = self.step_model
        return (
            f"from the warm-up: step {model.c0_ms:.3f} ms + {model.c1_ms_per_prefill_token:.5f} ms a prefill token + "
            f"{model.c2_ms_per_decode:.4f} ms a decode + {model.c3_ms_per_context_token:.6f} ms a context token; "
            f"messages {self.network.least_ms:.2f} to {self.network.most_ms:.2f} ms"
        )


def _network(text: str | None) -> Network | None:
    if text is None:
        return None
    try:
        least, most = (float(piece) for piece in text.split(","))
    except ValueError:
        fail(f"--network-ms: {text!r} must be two numbers, least,most", EXIT_USAGE)
    return Network(least, most)


def held_together(
    runs: Sequence[RecordedRun], policies: int, token_budget: int, network: Network | None
) -> tuple[list[Compared], Sides, Learned]:
    """The last `policies` runs of a recording, each simulated with the step times of the run before them all.

    Raises:
        RecordingError: there are fewer runs, or one in which nothing finished.
    """
    if len(runs) < policies + 1:
        raise RecordingError(f"the recording has {len(runs)} runs; a warm-up and {policies} policies were expected")
    warm = runs[-policies - 1].mean_model(WARM_MS)
    link = network or Network(*idle_delay_ms(runs[:-policies], warm))
    found: list[Compared] = []
    sides: dict[str, Any] = {}
    for run in runs[-policies:]:
        if not whole(run):
            raise RecordingError(f"{run.policy}: nothing finished")
        live = sorted(whole(run), key=lambda each: each.arrival_ms)
        simulated, own = (
            simulate_again(run, model, token_budget=token_budget, network=link, seed=0)
            for model in (warm, run.mean_model())
        )
        found += compare(run.policy, live, simulated, own)
        sides[run.policy] = (live, simulated)
    return found, sides, Learned(warm, link)


def print_table(console: Console, found: Sequence[Compared]) -> None:
    """A line a figure, with its error and the aim."""
    table = Table(title="simulated against live, at the scheduler", title_justify="left")
    for name in ("policy", "class", "figure", "live", "simulated", "error", "aim", "", "error at its own pace"):
        table.add_column(name, justify="left" if name in ("policy", "class", "figure", "") else "right")
    for each in found:
        mark = "" if each.within is None else "met" if each.within else "[red]missed[/]"
        table.add_row(
            each.policy, each.class_, each.figure, f"{each.live:.1f}", f"{each.simulated:.1f}", f"{each.error:+.1%}",
            "" if each.aim is None else f"{each.aim:.0%}", mark, f"{each.own_pace_error:+.1%}",
        )  # fmt: skip
    console.print(table)
    judged = [each for each in found if each.within is not None]
    met = sum(bool(each.within) for each in judged)
    console.print(
        f"{met} of {len(judged)} figures within the aim ({AIM_MEDIAN:.0%} at the median, {AIM_P99:.0%} at p99)"
    )


if __name__ == "__main__":
    typer.run(fidelity)
