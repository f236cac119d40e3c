"""What the `fairlead predictor` commands share: reading data, progress bars, tables, errors in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fairlead.config import ConfigError
from predictor_svc.training.dataset import DataError, OnBroken, Recorded, read_recorded, read_with_lengths
from predictor_svc.training.job_results import read_job
from predictor_svc.training.tokens import Tokens

EXIT_USAGE = 2
_SHORT = {"generated": "out", "kendall_tau": "tau", "r2_log": "R2 log", "mae_tokens": "MAE"} | {
    "ms_per_prediction": "ms",
    **{f"coverage_{share}": f"in {share} %" for share in (50, 80, 90, 95)},
}
_SHOWN = (
    "dataset", "predictor", "split", "generated", "n", "kendall_tau", "r2_log", "mae_tokens", "pinball",
    "coverage_50", "coverage_80", "coverage_90", "coverage_95", "ms_per_prediction",
)  # fmt: skip
_screen = Console(stderr=True)

Step: TypeAlias = Callable[[int, int], None]

DataFiles = Annotated[
    list[Path],
    typer.Argument(
        help="JSONL files, plain or .gz: one object a line with `prompt`, and `response_tokens`, `response` or both; "
        "`prompt_tokens` if known. With --lengths: `prompt_id` and `prompt`."
    ),
]
Broken = Annotated[str, typer.Option(help="What to do with a line that is no usable row: skip or refuse.")]
TokenizerFile = Annotated[
    Path | None,
    typer.Option(
        help="The model's tokenizer.json: counts responses without response_tokens, and tells where each token of a "
        "response ends, for what was written after so many; without it tokens share a response's characters evenly."
    ),
]
Lengths = Annotated[
    Path | None, typer.Option(help="CSV, plain or .gz, with `prompt_id` and a column of answer tokens for each model.")
]
Results = Annotated[
    Path | None,
    typer.Option(help="What `fairlead jobs results --out` wrote; DATA is then the file that was submitted."),
]
ModelName = Annotated[str | None, typer.Option("--model", help="The column of --lengths.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the scores there, as JSON.")]
Seed = Annotated[int, typer.Option(help="Of every random choice; the same seed gives the same result.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]
MaxRows = Annotated[
    int | None, typer.Option(min=20, help="Draw so many answers of a larger file, with the seed; else all.")
]


@contextmanager
def usage_errors() -> Generator[None]:
    """Turns what a user can mend into one line and exit code 2."""
    try:
        yield
    except (ConfigError, DataError, OSError, ValueError) as error:
        typer.echo(f"fairlead predictor: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    except KeyboardInterrupt:
        typer.echo("fairlead predictor: stopped; nothing was written", err=True)
        raise typer.Exit(130) from None


def read_data(
    data: Sequence[Path],
    broken: str,
    tokens: Tokens | None,
    lengths: Path | None,
    model: str | None,
    results: Path | None,
) -> list[Recorded]:
    """Reads every file, and says what it held and which lines were broken."""
    if broken not in ("skip", "refuse"):
        raise typer.BadParameter("skip or refuse", param_hint="--broken")
    if (lengths is None) != (model is None):
        raise typer.BadParameter("give both, or none", param_hint="--lengths and --model")
    if results is not None and (lengths is not None or len(data) != 1):
        raise typer.BadParameter("give one file, the one that was submitted, and no --lengths", param_hint="--results")
    on_broken: OnBroken = "skip" if broken == "skip" else "refuse"
    with usage_errors():
        if results is not None:
            return _told([read_job(data[0], results, on_broken=on_broken)])
        count = tokens.count if tokens is not None else None
        recorded = [
            read_recorded(path, on_broken=on_broken, count_tokens=count)
            if lengths is None
            else read_with_lengths(path, lengths, model or "", on_broken=on_broken)
            for path in data
        ]
    return _told(recorded)


def _told(recorded: list[Recorded]) -> list[Recorded]:
    for one in recorded:
        typer.echo(f"{one.name}: {len(one.rows)} rows, {one.broken_count} broken lines", err=True)
        for number, why in one.broken:
            typer.echo(f"  line {number}: {why}", err=True)
    return recorded


def tokens_of(tokenizer: Path | None) -> Tokens | None:
    """What --tokenizer names; ends the command where it can't be read."""
    with usage_errors():
        return None if tokenizer is None else Tokens.loaded(tokenizer)


def progress_bars() -> Progress:
    """Bars on standard error, gone when done."""
    columns = (TextColumn("{task.description:>22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_screen, transient=True)


def bar(bars: Progress, name: str) -> Step:
    """One bar; call what it gives with (done, all)."""
    task = bars.add_task(name, total=None)

    def step(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total)

    return step


def show(rows: Sequence[dict[str, Any]], title: str) -> None:
    """Rows of scores as a table."""
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    several = {name for name in ("dataset", "predictor", "split") if len({row.get(name) for row in rows}) > 1}
    names = [name for name in _SHOWN if name in several or name not in ("dataset", "predictor", "split")]
    for name in names:
        table.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
    for row in rows:
        values = (row.get(name, "") for name in names)
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    plain = Console()
    # Where no terminal says how wide it is, nothing is cut.
    (plain if plain.is_terminal else Console(width=140)).print(table)


def show_gains(gains: Sequence[dict[str, Any]]) -> None:
    """What predictors are worth in a scheduler, as a table."""
    if not gains:
        return
    table = Table(title="worth in a scheduler (simulated; gain: 0 fcfs, 1 every length known)", title_justify="left")
    for name in ("dataset", "split", "load", "predictor", "mean JCT s", "gain", "LS within targets /s", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in gains:
        parts = [row["dataset"], row["split"], f"{row['load']:g}", row["predictor"], f"{row['jct_mean_s']:.3f}"]
        parts += [_share(row["jct_gain"]), f"{row['ls_goodput_per_s']:.2f}", _share(row["ls_gain"])]
        table.add_row(*parts)
    plain = Console()
    (plain if plain.is_terminal else Console(width=140)).print(table)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def write_json(path: Path | None, value: dict[str, Any]) -> None:
    """Writes a file if one is asked for."""
    if path is not None:
        path.write_text(json.dumps(value, indent=2) + "\n")
