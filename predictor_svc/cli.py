"""`fairlead predictor`: train a head from recorded answers, and see how good it is."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fairlead.config import ConfigError, LogConfig, PredictorConfig
from fairlead.telemetry import configure_logging
from predictor_svc.training.dataset import CountTokens, DataError, Recorded, read_recorded

EXIT_USAGE = 2
DEFAULT_ENCODER: str = PredictorConfig.model_fields["encoder"].default
_SHORT = {"generated": "out", "kendall_tau": "tau", "r2_log": "R2 log", "mae_tokens": "MAE"} | {
    f"coverage_{share}": f"in {share} %" for share in (50, 80, 90)
}
TEXT_PIECES = 16
"""On the demo model's answers 48 instead of none gained 0.01 in tau at 50 tokens and cost 3 ms a question: what the
text tells about length is mostly in the progress features."""

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
_screen = Console(stderr=True)

DataFiles = Annotated[
    list[Path],
    typer.Argument(
        help="JSONL files, plain or .gz: one object a line with `prompt`, and `response_tokens`, `response` or both; "
        "`prompt_tokens` if known."
    ),
]
Broken = Annotated[str, typer.Option(help="What to do with a line that is no usable row: skip or refuse.")]
TokenizerFile = Annotated[
    Path | None, typer.Option(help="tokenizer.json by which responses without response_tokens are counted.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Also write the scores there, as JSON.")]
Seed = Annotated[int, typer.Option(help="Of every random choice; the same seed gives the same head.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@app.callback()
def predictor() -> None:
    """Train and judge the head of the `encoder` predictor.

    A head learns how long a model's answers are from answers that were recorded. With the text of the answers it also
    learns to sharpen its guess as an answer grows.
    """


@app.command()
def train(
    data: DataFiles,
    out: Annotated[Path, typer.Option(help="Folder for the head: head.safetensors and card.json.")],
    encoder: Annotated[str, typer.Option(help="Hugging Face id or folder of a BERT encoder.")] = DEFAULT_ENCODER,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most; each network stops when it no longer improves.")] = 60,
    members: Annotated[int, typer.Option(min=1, max=16, help="Networks that are averaged.")] = 3,
    folds: Annotated[int, typer.Option(min=0, help="Folds over prompts for the card's scores; 0: none, quicker.")] = 5,
    text_pieces: Annotated[
        int, typer.Option(min=0, max=256, help="Word pieces of an answer's end that are encoded when asked again.")
    ] = TEXT_PIECES,
    broken: Broken = "refuse",
    tokenizer: TokenizerFile = None,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Fits a head on recorded answers and writes it.

    With folds it first says how good such a head is on prompts that it has not seen, then fits one on everything.
    Serve it with `predictor.head` in the configuration, or: fairlead-predictor --head DIR

    Example: fairlead predictor train answers.jsonl --out my-head
    """
    recorded, rows = _read(data, broken, tokenizer)
    with _usage_errors(), _bars() as bars:
        import torch  # noqa: PLC0415  (slow to import; not needed for --help)

        from predictor_svc.encoder.session import Encoder  # noqa: PLC0415
        from predictor_svc.training.examples import PROMPT_PIECES, make_examples  # noqa: PLC0415
        from predictor_svc.training.fit import Settings, cross_validate, fit_head  # noqa: PLC0415

        torch.set_num_threads(threads)
        opened = Encoder.open(encoder, threads=threads)
        reads_text = any(row.response for row in rows)
        encoding = _bar(bars, "encoding")
        examples = make_examples(
            rows, opened, seed=seed, reads_text=reads_text, text_pieces=text_pieces, progress=encoding
        )
        settings = Settings(seed=seed, epochs=epochs, members=members)
        step = _epoch_bar(bars, settings.members * (folds + 1), epochs)
        scored = cross_validate(examples, settings, folds, step)[0] if folds else []
        head = fit_head(examples, settings, step)
        card: dict[str, Any] = {
            "encoder": encoder,
            "encoder_sha256": opened.sha256,
            "prompt_pieces": PROMPT_PIECES,
            "text_pieces": text_pieces,
            "reads_text": reads_text,
            "seed": seed,
            "data": [one.summary() for one in recorded],
            "examples": len(examples),
            "held_out_folds": folds,
            "held_out_scores": scored,
        }
        saved = type(head)(head.weights, card).saved(out)
    _show(scored, "on prompts it had not seen")
    _write_json(json_file, {"head": str(out), "sha256": saved.sha256, "scores": scored})
    typer.echo(f"head written to {out}  sha256={saved.sha256[:16]}")


@app.command()
def evaluate(
    data: DataFiles,
    head: Annotated[Path | None, typer.Option(help="Folder of a head; the shipped one if not given.")] = None,
    seed: Seed = 0,
    broken: Broken = "refuse",
    tokenizer: TokenizerFile = None,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Says how good a head is on recorded answers, at 0, 50, 100 and 200 tokens generated.

    Give answers that it was not trained on: on its own training data it looks better than it is.

    Example: fairlead predictor evaluate other-answers.jsonl --head my-head --json scores.json
    """
    _, rows = _read(data, broken, tokenizer)
    with _usage_errors(), _bars() as bars:
        from predictor_svc.encoder.session import Encoder  # noqa: PLC0415
        from predictor_svc.head import Head  # noqa: PLC0415
        from predictor_svc.predictors.encoder import SHIPPED_HEAD  # noqa: PLC0415
        from predictor_svc.training import evaluate as judging  # noqa: PLC0415
        from predictor_svc.training.examples import make_examples  # noqa: PLC0415

        loaded = Head.loaded(head or SHIPPED_HEAD)
        opened = Encoder.open(loaded.encoder, expected_sha256=loaded.encoder_sha256, threads=threads)
        examples = make_examples(
            rows,
            opened,
            seed=seed,
            reads_text=loaded.reads_text,
            text_pieces=loaded.text_pieces,
            progress=_bar(bars, "encoding"),
        )
        scored = judging.evaluate(loaded, examples)
    _show(scored, f"{head or 'shipped head'} on {', '.join(path.name for path in data)}")
    _write_json(json_file, {"head": str(head or "shipped"), "sha256": loaded.sha256, "scores": scored})


@contextmanager
def _usage_errors() -> Generator[None]:
    """Turns what a user can mend into one line and exit code 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        typer.echo(
            f"fairlead predictor: {error.name} is not installed; "
            "install the extra: pip install 'fairlead[predictor-train]'",
            err=True,
        )
        raise typer.Exit(EXIT_USAGE) from None
    except (ConfigError, DataError, OSError, ValueError) as error:
        typer.echo(f"fairlead predictor: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None


def _read(data: list[Path], broken: str, tokenizer: Path | None) -> tuple[list[Recorded], list[Any]]:
    configure_logging(LogConfig(level="warning"), "predictor")
    if broken not in ("skip", "refuse"):
        raise typer.BadParameter("skip or refuse", param_hint="--broken")
    with _usage_errors():
        count = _counter(tokenizer)
        recorded = [read_recorded(path, on_broken=broken, count_tokens=count) for path in data]
    for one in recorded:
        typer.echo(f"{one.name}: {len(one.rows)} rows, {one.broken_count} broken lines", err=True)
        for number, why in one.broken:
            typer.echo(f"  line {number}: {why}", err=True)
    return recorded, [row for one in recorded for row in one.rows]


def _counter(tokenizer: Path | None) -> CountTokens | None:
    if tokenizer is None:
        return None
    from tokenizers import Tokenizer  # noqa: PLC0415

    try:
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the tokenizers library raises plain Exception
        raise DataError(f"--tokenizer {tokenizer}: {error}") from None
    return lambda text: len(loaded.encode(text).ids)


def _bars() -> Progress:
    columns = (TextColumn("{task.description:>22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=_screen, transient=True)


def _bar(bars: Progress, name: str) -> Any:
    task = bars.add_task(name, total=None)

    def step(done: int, total: int) -> None:
        bars.update(task, completed=done, total=total)

    return step


def _epoch_bar(bars: Progress, networks: int, epochs: int) -> Any:
    task = bars.add_task("fitting", total=networks * epochs)
    fitted = -1

    def step(_member: int, epoch: int, loss: float) -> None:
        nonlocal fitted
        fitted += epoch == 0
        bars.update(task, completed=fitted * epochs + epoch + 1, description=f"fitting, loss {loss:.4f}")

    return step


def _show(scored: list[dict[str, Any]], title: str) -> None:
    if not scored:
        return
    table = Table(title=title, title_justify="left")
    for name in scored[0]:
        table.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
    for row in scored:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


def _write_json(path: Path | None, value: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    app()
