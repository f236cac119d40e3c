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
from bench.predict_measure import compared, measure, rows_of
from bench.predict_report import written
from predictor_svc.cli import DEFAULT_ENCODER
from predictor_svc.encoder.session import Encoder
from predictor_svc.training.folds import SPLITS, Split
from predictor_svc.training.kept_vectors import KeptVectors
from predictor_svc.training.registry import FITS, FitSettings

DEFAULT = "ensemble"
MEASURED = ",".join(name for name in FITS if name != "proxy")

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
    again: Annotated[bool, typer.Option("--again", help="Measure also what is there already.")] = False,
) -> None:
    """Measures the predictors and writes results.json and table.md.

    Files of more than 6,000 answers are drawn from. About an hour on one core for everything; try
    `--only gpteacher_roleplay --splits random` first.
    """
    folder = _folder(data)
    names = tuple(name.strip() for name in predictors.split(",") if name.strip())
    unknown = sorted(set(names) - set(FITS))
    chosen: tuple[Split, ...] = tuple(split for split in SPLITS if split in splits.split(","))
    if unknown or not chosen:
        raise typer.BadParameter(f"unknown: {', '.join(unknown) or splits}; predictors: {', '.join(FITS)}")
    threadpool_limits(1)
    vectors = KeptVectors(Encoder.open(DEFAULT_ENCODER), out)
    settings = FitSettings(seed=seed, epochs=epochs, members=members)
    for source in sources(folder, tuple(only or ()), seed):
        missing: list[Split] = [split for split in chosen if again or not _file(out, source, split).is_file()]
        if not missing:
            continue
        _tell(f"{source.key}: {len(source.rows)} of {source.rows_in_file} answers (at most {MAX_ROWS})")
        examples = source.examples(vectors, seed)
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
                "fit_s_a_fold": round(measured.fit_s, 1),
                "measured_s": round(time.monotonic() - started, 1),
            }
            _file(out, source, split).parent.mkdir(parents=True, exist_ok=True)
            _file(out, source, split).write_text(json.dumps(result, indent=1) + "\n")
    typer.echo(written(out, DEFAULT))


def _folder(given: Path | None) -> Path:
    folder = given or Path(os.environ.get("FAIRLEAD_DATA", ""))
    folder = folder / "responses" if (folder / "responses").is_dir() else folder
    if not list(folder.glob("*.jsonl.gz")):
        raise typer.BadParameter("no *.jsonl.gz there; give --data FOLDER or set FAIRLEAD_DATA")
    return folder


def _file(out: Path, source: Source, split: str) -> Path:
    return out / "sets" / f"{source.key.replace('/', '_')}-{split}.json"


def _tell(text: str) -> None:
    typer.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)


if __name__ == "__main__":
    app()
