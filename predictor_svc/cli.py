"""`fairlead predictor`: train a predictor from recorded answers, and see how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.config import LogConfig, PredictorConfig
from fairlead.telemetry import configure_logging
from predictor_svc.cli_support import (
    Broken,
    DataFiles,
    JsonFile,
    Lengths,
    MaxRows,
    ModelName,
    Results,
    Seed,
    Step,
    Threads,
    TokenizerFile,
    bar,
    progress_bars,
    read_data,
    show,
    show_gains,
    tokens_of,
    usage_errors,
    write_json,
)

if TYPE_CHECKING:
    from predictor_svc.training.worth import Worth

DEFAULT_ENCODER: str = PredictorConfig.model_fields["encoder"].default
TEXT_PIECES = 16
"""On the demo model's answers 48 instead of none gained 0.01 in tau at 50 tokens and cost 3 ms a question: what the
text tells about length is mostly in the progress features."""

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

Splits = Annotated[str, typer.Option(help="random, grouped (clusters of similar prompts held out) or both.")]
Folds = Annotated[int, typer.Option(min=0, help="Folds over prompts.")]
Loss = Annotated[str, typer.Option(help="Of rank: listmle or margin; of proxy: classes or regression.")]


@app.callback()
def predictor() -> None:
    """Train and judge predictors of answer lengths.

    A predictor learns how long a model's answers are from answers that were recorded. With the text of the answers it
    also learns to sharpen its guess as an answer grows.
    """


@app.command()
def train(
    data: DataFiles,
    out: Annotated[Path, typer.Option(help="Folder for what is trained: tensors and card.json.")],
    predictor: Annotated[str, typer.Option(help="ensemble, forest, rank, retrieval, proxy or encoder.")] = "ensemble",
    encoder: Annotated[str, typer.Option(help="Hugging Face id or folder of a BERT encoder.")] = DEFAULT_ENCODER,
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most; each network stops when it no longer improves.")] = 60,
    members: Annotated[int, typer.Option(min=1, max=16, help="Networks of an encoder head that are averaged.")] = 3,
    loss: Loss = "",
    folds: Annotated[int, typer.Option(min=0, help="Folds over prompts for the card's scores; 0: none, quicker.")] = 5,
    text_pieces: Annotated[
        int, typer.Option(min=0, max=256, help="Word pieces of an answer's end that are encoded when asked again.")
    ] = TEXT_PIECES,
    broken: Broken = "refuse",
    tokenizer: TokenizerFile = None,
    lengths: Lengths = None,
    model: ModelName = None,
    results: Results = None,
    max_rows: MaxRows = None,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Fits a predictor on recorded answers and writes it.

    With folds it first says how good such a predictor is on prompts that it has not seen, then fits one on everything.
    Serve it with `predictor.predictor` and `predictor.head` in the configuration, or:
    fairlead-predictor --predictor NAME --head DIR

    Example: fairlead predictor train answers.jsonl --predictor ensemble --out my-predictor
    """
    configure_logging(LogConfig(level="warning"), "predictor")
    read_by = tokens_of(tokenizer)
    recorded = read_data(data, broken, read_by, lengths, model, results)
    with usage_errors(), progress_bars() as bars:
        from predictor_svc.training.registry import FitSettings  # noqa: PLC0415  (slow to import; not for --help)
        from predictor_svc.training.run import Job, train_and_save  # noqa: PLC0415

        settings = FitSettings(seed=seed, epochs=epochs, members=members, loss=loss, encoder=encoder)
        job = Job(predictor, encoder, settings, text_pieces, folds, threads, max_rows, read_by)
        rows, sha256 = train_and_save(recorded, job, out, lambda name: bar(bars, name))
    show(rows, "on prompts it had not seen")
    write_json(json_file, {"head": str(out), "sha256": sha256, "rows": rows})
    typer.echo(f"{predictor} head written to {out}  sha256={sha256[:16]}")


@app.command()
def evaluate(
    context: typer.Context,
    data: DataFiles,
    predictor: Annotated[
        str | None, typer.Option(help="Names with commas between, or all: fitted and judged on folds of the data.")
    ] = None,
    head: Annotated[Path | None, typer.Option(help="Folder of a trained predictor, judged as it is.")] = None,
    encoder: Annotated[str, typer.Option(help="Hugging Face id or folder, for --predictor.")] = DEFAULT_ENCODER,
    folds: Folds = 5,
    split: Splits = "both",
    seed: Seed = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Of what is fitted in epochs, at most.")] = 30,
    members: Annotated[int, typer.Option(min=1, max=16, help="Networks of an encoder head.")] = 1,
    loss: Loss = "",
    broken: Broken = "refuse",
    tokenizer: TokenizerFile = None,
    lengths: Lengths = None,
    model: ModelName = None,
    results: Results = None,
    max_rows: MaxRows = None,
    threads: Threads = 1,
    reliability: Annotated[Path | None, typer.Option(help="Folder for reliability plots (PNG).")] = None,
    worth: Annotated[
        bool, typer.Option(help="Also simulate what the predictions are worth in mean JCT and LS goodput.")
    ] = True,
    json_file: JsonFile = None,
) -> None:
    """Says how good a predictor is on recorded answers, at 0, 50, 100 and 200 tokens generated.

    With --predictor it is fitted on all folds but one and judged on that one, in random folds over prompts and in folds
    that hold out whole clusters of similar prompts. With --head a trained folder is judged as it is: give answers that
    it was not trained on, or it looks better than it is. With neither, the shipped one is judged.

    The last table says what the predictions are worth: the answers arrive at 0.95 and 1.1 of what fcfs can serve, and
    mean JCT under gittins is told as a share of the way from fcfs (0) to a predictor that knows each length (1), the
    rate of LS requests within their targets under slo likewise.

    Example: fairlead predictor evaluate answers.jsonl --predictor ensemble,history --json scores.json
    """
    configure_logging(LogConfig(level="warning"), "predictor")
    if predictor is not None and head is not None:
        raise typer.BadParameter("give --predictor or --head, not both")
    read_by = tokens_of(tokenizer)
    recorded = read_data(data, broken, read_by, lengths, model, results)
    with usage_errors(), progress_bars() as bars:
        from predictor_svc.training.registry import FITS, FitSettings  # noqa: PLC0415
        from predictor_svc.training.run import Job, judge_folder, judge_folds  # noqa: PLC0415

        # The simulator is the command line's to hand over: this service does not know it.
        measured: Worth | None = context.obj if worth else None

        def told(name: str) -> Step:
            return bar(bars, name)

        if predictor is None:
            found = judge_folder(recorded, head, seed, threads, max_rows, reliability, told, measured, read_by)
        else:
            names = tuple(FITS) if predictor == "all" else tuple(name.strip() for name in predictor.split(","))
            settings = FitSettings(seed=seed, epochs=epochs, members=members, loss=loss, encoder=encoder)
            job = Job(",".join(names), encoder, settings, TEXT_PIECES, folds, threads, max_rows, read_by)
            found = judge_folds(recorded, job, split, reliability, told, measured)
    show(found.rows, f"{predictor or head or 'shipped model'} on {_names(data)}")
    show_gains(found.gains)
    about = {"seed": seed, "head": str(head) if head else None}
    write_json(json_file, {"rows": found.rows, "by_fold": found.by_fold, "worth": found.gains, **about})


def _names(data: Sequence[Path]) -> str:
    return ", ".join(path.name for path in data)


if __name__ == "__main__":
    app()
