"""What asking again is worth on a live suite: `python -m bench.predict_narrowing` (about 2 minutes, real vLLM).

The demo model is served under `isrtf`, which asks again every window, and everything is recorded. Of each answer that
ended by itself: how wide the 90 % interval of its length was when it was asked about anew after so many tokens, beside
the first prediction's own interval given that these tokens were out, and how often each held the length it came to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bench.fidelity.live import Live, run_live
from fairlead.lengths import LengthDistribution
from scheduler_svc.core.types import Outcome
from simulator.decision_log import LogError, open_recording
from simulator.recorded import Traffic, read_traffic

LOW, HIGH = 0.05, 0.95
WINDOW = 50
"""Tokens between two questions about one answer, as the scheduler asks."""
LEAST_ANSWERS = 10
FIRST = "first prediction, given these tokens"


@dataclass(frozen=True)
class Window:
    """Answers that were asked about again in a window of tokens out; widths are medians over them, in tokens.

    Attributes:
        generated: tokens out at which the window begins.
        answers: how many.
        width, width_first: of the 90 % interval as told then, and of the first prediction given these tokens out.
        narrower: share of the answers whose newer interval is the narrower one.
        holds, holds_first: share of the answers whose length the interval held.
    """

    generated: int
    answers: int
    width: float
    width_first: float
    narrower: float
    holds: float
    holds_first: float


@dataclass(frozen=True)
class _Asked:
    generated: int
    first: LengthDistribution
    law: LengthDistribution
    length: int


def windows_of(traffic: Traffic) -> list[Window]:
    """One entry for each window of tokens out in which at least ten answers were asked about."""
    seen: dict[int, list[_Asked]] = {}
    for job_id, said in traffic.answers.items():
        request = traffic.served[job_id]
        laws = {generated: law for generated, _, law in said if law is not None}
        if request.outcome is not Outcome.STOP or 0 not in laws:
            continue
        windows: dict[int, _Asked] = {}
        for generated, law in sorted(laws.items()):
            asked = _Asked(generated, laws[0], law, request.answer_tokens)
            windows.setdefault(generated // WINDOW * WINDOW, asked)
        for window, asked in windows.items():
            seen.setdefault(window, []).append(asked)
    return [_window(window, asked) for window, asked in sorted(seen.items()) if len(asked) >= LEAST_ANSWERS]


def _window(window: int, asked: Sequence[_Asked]) -> Window:
    first = np.array([_interval(one.first, one.generated) for one in asked])
    again = np.array([_interval(one.law, one.generated) for one in asked])
    length = np.array([one.length for one in asked])
    widths, widths_first = again[:, 1] - again[:, 0], first[:, 1] - first[:, 0]
    return Window(
        window,
        len(asked),
        float(np.median(widths)),
        float(np.median(widths_first)),
        float((widths < widths_first).mean()),
        float(((again[:, 0] <= length) & (length <= again[:, 1])).mean()),
        float(((first[:, 0] <= length) & (length <= first[:, 1])).mean()),
    )


def _interval(law: LengthDistribution, generated: int) -> tuple[float, float]:
    return law.quantile(LOW, generated), law.quantile(HIGH, generated)


def plot(windows: Sequence[Window], path: Path) -> None:
    """Median widths and shares held by tokens out."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (an extra of its own)

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    widths, held = figure.subplots(1, 2)
    at = [each.generated for each in windows]
    widths.plot(
        at, [each.width_first for each in windows], marker="o", color="0.6", label="first prediction, given these"
    )
    for panel, before, now in ((widths, "width_first", "width"), (held, "holds_first", "holds")):
        panel.plot(at, [getattr(each, before) for each in windows], marker="o", color="0.6", label=FIRST)
        panel.plot(at, [getattr(each, now) for each in windows], marker="o", label="asked again")
    widths.set(xlabel="tokens out", ylabel="90 % interval, tokens (median)", ylim=(0, None))
    held.axhline(0.9, color="0.8", linewidth=1)
    held.set(xlabel="tokens out", ylabel="share of answers inside", ylim=(0, 1.02))
    widths.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=120)


def narrowing(
    log: Annotated[
        Path | None, typer.Option(help="A recording (scheduler.decision_log) instead of a live run.")
    ] = None,
    engine: Annotated[str, typer.Option(help="vllm or simulated.")] = "vllm",
    predictor: Annotated[str | None, typer.Option(help="A predictor by name; default: the one that serves.")] = None,
    arrivals_s: Annotated[float, typer.Option(min=1, help="Length of the arrivals, s.")] = 60.0,
    load: Annotated[float, typer.Option(min=0.05, help="Multiple of the capacity that is measured first.")] = 0.7,
    out: Annotated[Path, typer.Option(help="Folder for recording, plot and figures.")] = Path("build/narrowing"),
) -> None:
    """Records a live run, and shows what asking again at every window does to the interval."""
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    if log is None:
        for path in (out / "decisions").glob("decisions-*"):
            path.unlink()  # of an earlier call: a folder holds one recording
        asyncio.run(run_live(Live(engine, ("isrtf",), load, out, arrivals_s=arrivals_s, predictor=predictor), console))
    try:
        windows = windows_of(read_traffic(open_recording(log or out / "decisions")))
    except LogError as error:
        raise typer.BadParameter(str(error)) from None
    table = Table(title="90 % interval of the length, tokens (median)", title_justify="left")
    for name in ("tokens out", "answers", "first, given these", "asked again", "narrower", "first held", "again held"):
        table.add_column(name, justify="right")
    for each in windows:
        table.add_row(
            str(each.generated), str(each.answers), f"{each.width_first:.0f}", f"{each.width:.0f}",
            f"{each.narrower:.0%}", f"{each.holds_first:.0%}", f"{each.holds:.0%}",
        )  # fmt: skip
    console.print(table)
    plot(windows, out / "narrowing.png")
    (out / "narrowing.json").write_text(json.dumps([asdict(each) for each in windows], indent=1) + "\n")
    console.print(f"plot: {out / 'narrowing.png'}")


if __name__ == "__main__":
    typer.run(narrowing)
