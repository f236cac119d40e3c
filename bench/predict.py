"""`python -m bench.predict`: every predictor beside the simple baselines, on every file of recorded answers.

For each set: five random folds over prompts, and five that hold out whole clusters of similar prompts. Vectors are kept
on disk, results are written set by set, and a set that is there already is not measured again.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from threadpoolctl import threadpool_limits

from bench.predict_data import MAX_ROWS, Source, sources
from bench.predict_measure import Measured, compared, measure, r2_if_later_known, rows_of
from bench.predict_report import put_into, written
from predictor_svc.cli import DEFAULT_ENCODER
from predictor_svc.encoder.session import Encoder
from predictor_svc.training.examples import Examples
from predictor_svc.training.folds import SPLITS, Split
from predictor_svc.training.kept_vectors import KeptVectors
from predictor_svc.training.registry import FITS, FitSettings
from predictor_svc.training.tokens import Tokens
from predictor_svc.training.worth import answers_of, said_of
from simulator.worth import Answer, worth

DEFAULT = "ensemble"
app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[
        Path | None, typer.Option(help="Folder with the files; else FAIRLEAD_DATA, its `responses` if it has one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results and kept vectors.")] = Path("build/predict"),
    only: Annotated[list[str] | None, typer.Option(help="Only sets whose names begin so; may be repeated.")] = None,
    predictors: Annotated[str, typer.Option(help="Names, with commas between; proxy takes minutes a fold.")] = ",".join(
        name for name in FITS if name != "proxy"
    ),
    splits: Annotated[str, typer.Option(help="random, grouped or both, with a comma between.")] = ",".join(SPLITS),
    folds: Annotated[int, typer.Option(min=2, help="Folds over prompts.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Of what is fitted in epochs, at most.")] = 15,
    members: Annotated[int, typer.Option(min=1, help="Networks of the encoder head.")] = 1,
    seed: Annotated[int, typer.Option(help="Of folds, fits and draws.")] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json of the answers' tokens; else one that lies beside the folder.")
    ] = None,
    worth_seeds: Annotated[
        int, typer.Option(min=0, help="Arrivals on which sets with text are simulated; 0: their worth is left out.")
    ] = 3,
    max_rows: Annotated[int, typer.Option(min=100, help="Answers that are drawn of a larger file.")] = MAX_ROWS,
    page: Annotated[
        Path | None, typer.Option(help="A page with the marks `<!-- table -->` and `<!-- end of table -->`, to fill.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure also what is there already.")] = False,
) -> None:
    """Measures the predictors and writes results.json and table.md.

    About an hour on one core for everything; try `--only gpteacher_roleplay --splits random` first, or
    `--max-rows 2000 --predictors history,forest,ensemble --splits random`.
    """
    folder = _folder(data)
    names = tuple(name.strip() for name in predictors.split(",") if name.strip())
    unknown = sorted(set(names) - set(FITS))
    chosen: tuple[Split, ...] = tuple(split for split in SPLITS if split in splits.split(","))
    if unknown or not chosen:
        raise typer.BadParameter(f"unknown: {', '.join(unknown) or splits}; predictors: {', '.join(FITS)}")
    threadpool_limits(1)
    tokens = Tokens.loaded(tokenizer) if tokenizer is not None else _tokens_in(folder)
    vectors = KeptVectors(Encoder.open(DEFAULT_ENCODER), out)
    settings = FitSettings(seed=seed, epochs=epochs, members=members)
    for source in sources(folder, tuple(only or ()), seed, max_rows):
        missing: list[Split] = [split for split in chosen if again or not _file(out, source, split).is_file()]
        if not missing:
            continue
        _tell(f"{source.key}: {len(source.rows)} of {source.rows_in_file} answers (at most {max_rows})")
        examples = source.examples(vectors, seed, tokens)
        vectors.save()
        for split in missing:
            started = time.monotonic()
            measured = measure(examples, names, folds, split, settings, _tell)
            result: dict[str, Any] = {
                "dataset": source.dataset,
                "model": source.model,
                "split": split,
                "answers": len(source.rows),
                "answers_in_file": source.rows_in_file,
                "seed": seed,
                "rows": rows_of(source, examples, measured, split),
                "compared": [compared(examples, measured, name, seed) for name in names],
                "r2_if_later_known": {name: r2_if_later_known(examples, measured, name) for name in names},
                "worth": _worth(source, examples, measured, worth_seeds),
                "fit_s_a_fold": round(measured.judged.fit_s, 1),
                "measured_s": round(time.monotonic() - started, 1),
            }
            _file(out, source, split).parent.mkdir(parents=True, exist_ok=True)
            _file(out, source, split).write_text(json.dumps(result, indent=1) + "\n")
    table = written(out, DEFAULT)
    if page is not None:
        put_into(page, table)
    typer.echo(table)


def _folder(given: Path | None) -> Path:
    folder = given or Path(os.environ.get("FAIRLEAD_DATA", ""))
    folder = folder / "responses" if (folder / "responses").is_dir() else folder
    if not list(folder.glob("*.jsonl.gz")):
        raise typer.BadParameter("no *.jsonl.gz there; give --data FOLDER or set FAIRLEAD_DATA")
    return folder


def _tokens_in(folder: Path) -> Tokens | None:
    found = sorted(folder.parent.glob("tokenizer*.json"))
    return Tokens.loaded(found[0]) if found else None


def _worth(source: Source, examples: Examples, measured: Measured, seeds: int) -> list[dict[str, Any]]:
    """What each predictor is worth in a scheduler, on answers that have text."""
    if not seeds or not any(row.response for row in source.rows):
        return []
    _tell("  simulating")
    said = {name: said_of(laws, examples, name) for name, laws in measured.judged.laws.items()}
    return worth([Answer(*one) for one in answers_of(examples)], said, seeds=seeds)


def _file(out: Path, source: Source, split: str) -> Path:
    return out / "sets" / f"{source.key.replace('/', '_')}-{split}.json"


def _tell(text: str) -> None:
    typer.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)


if __name__ == "__main__":
    app()
