"""The work of `fairlead predictor train` and `evaluate`: from recorded answers to a folder, or to rows of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from threadpoolctl import threadpool_limits

from predictor_svc.encoder.session import Encoder
from predictor_svc.head import FORMAT as HEAD_FORMAT
from predictor_svc.head import Head, read_any_card
from predictor_svc.models.base import Model, load_model, save_model
from predictor_svc.models.proxy import ProxyModel
from predictor_svc.predictors.encoder import SHIPPED_HEAD
from predictor_svc.predictors.proxy import ENCODER_FOLDER
from predictor_svc.predictors.trained import KINDS
from predictor_svc.training.dataset import Recorded, Row
from predictor_svc.training.evaluate import scores_by_generated
from predictor_svc.training.examples import PROMPT_PIECES, Examples, make_examples
from predictor_svc.training.folds import SPLITS, Split
from predictor_svc.training.judge import Judged, cross_validated, fold_rows, mean_rows, predicted
from predictor_svc.training.registry import FITS, FitSettings, Fitted, fit
from predictor_svc.training.reliability import plot
from predictor_svc.training.tokens import Tokens
from predictor_svc.training.worth import Worth, worth_rows

ASKED_AT = (50, 100, 200)
Step: TypeAlias = Callable[[int, int], None]
Bar: TypeAlias = Callable[[str], Step]
"""Makes a progress bar of that name."""


@dataclass(frozen=True)
class Job:
    """What to fit and how.

    Attributes:
        predictors: names with commas between; one for training.
        encoder: Hugging Face id or folder.
        settings: of the fits.
        text_pieces: word pieces of an answer's end that are encoded.
        folds: over prompts; 0: none.
        threads: CPU threads.
        max_rows: answers drawn of a larger file; None: all.
        tokens: tells where an answer's tokens end; None: they share its characters evenly.
    """

    predictors: str
    encoder: str
    settings: FitSettings
    text_pieces: int
    folds: int
    threads: int
    max_rows: int | None
    tokens: Tokens | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The predictors; raises ValueError for one that can't be fitted."""
        names = tuple(self.predictors.split(","))
        unknown = [name for name in names if name not in FITS]
        if unknown:
            raise ValueError(f"--predictor: {', '.join(unknown)} can't be fitted; these can: {', '.join(FITS)}")
        return names


@dataclass(frozen=True)
class Scores:
    """What was found.

    Attributes:
        rows: scores by file, predictor, split and number of tokens out.
        by_fold: the same for each fold.
        gains: what each predictor is worth in a scheduler, where that was asked.
    """

    rows: list[dict[str, Any]]
    by_fold: list[dict[str, Any]]
    gains: list[dict[str, Any]]


def train_and_save(recorded: Sequence[Recorded], job: Job, out: Path, bar: Bar) -> tuple[list[dict[str, Any]], str]:
    """Judges on folds, fits on everything, writes the folder; returns rows of scores and the tensors' SHA-256.

    Raises:
        ValueError: the predictor learns only while serving, or the answers are too few.
    """
    (name,) = job.names
    if name == "history":
        raise ValueError("--predictor history: it learns while it serves; there is nothing to train")
    with threadpool_limits(job.threads):
        encoder = Encoder.open(job.encoder, threads=job.threads)
        rows = [row for one in recorded for row in _drawn(one.rows, job.max_rows, job.settings.seed)]
        examples = _examples(rows, encoder, job, None, bar("encoding"))
        scores: list[dict[str, Any]] = []
        if job.folds:
            judged = cross_validated(examples, [name], job.folds, "random", job.settings, _counted(job, bar, "folds"))
            scores = mean_rows(fold_rows(examples, judged, "+".join(one.name for one in recorded), "random"))
        fitted = fit(name, examples, job.settings, bar("fitting"))
    card: dict[str, Any] = {
        "encoder": job.encoder,
        "encoder_sha256": encoder.sha256,
        "prompt_pieces": PROMPT_PIECES,
        "text_pieces": job.text_pieces,
        "reads_text": any(row.response for row in rows),
        "seed": job.settings.seed,
        "data": [one.summary() for one in recorded],
        "examples": len(examples),
        "held_out_folds": job.folds,
        "held_out_scores": scores,
    }
    if name == "proxy":
        return scores, _save_proxy(fitted, out, card)
    if isinstance(fitted, Head):
        return scores, Head(fitted.weights, card).saved(out).sha256
    return scores, save_model(cast(Model, fitted), out, card)


def _save_proxy(fitted: Fitted, out: Path, card: dict[str, Any]) -> str:
    from predictor_svc.training.fit_proxy import FittedProxy  # noqa: PLC0415  (torch is slow to import)

    proxy = cast(FittedProxy, fitted)
    return save_model(proxy.model, out, {**card, "proxy_sha256": proxy.save_encoder(out / ENCODER_FOLDER)})


def judge_folds(
    recorded: Sequence[Recorded], job: Job, split: str, reliability: Path | None, bar: Bar, worth: Worth | None = None
) -> Scores:
    """Cross-validates on each file by itself.

    Raises:
        ValueError: an unknown split or predictor, or too few prompts.
    """
    splits: tuple[Split, ...] = SPLITS if split == "both" else tuple(one for one in SPLITS if one == split)
    if not splits or job.folds < 2:
        raise ValueError("--split: random, grouped or both, with at least 2 --folds")
    names = job.names
    by_fold: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    with threadpool_limits(job.threads):
        encoder = Encoder.open(job.encoder, threads=job.threads)
        for one in recorded:
            rows = _drawn(one.rows, job.max_rows, job.settings.seed)
            examples = _examples(rows, encoder, job, ASKED_AT, bar("encoding"))
            for chosen in splits:
                told = _counted(job, bar, f"{chosen} folds")
                judged = cross_validated(examples, names, job.folds, chosen, job.settings, told)
                by_fold += fold_rows(examples, judged, one.name, chosen)
                _plots(reliability, judged, examples, f"{one.name}, {chosen} folds")
                gains += _gains(worth, judged, examples, {"dataset": one.name, "split": chosen}, bar)
    return Scores(mean_rows(by_fold), by_fold, gains)


def judge_folder(
    recorded: Sequence[Recorded],
    head: Path | None,
    seed: int,
    threads: int,
    max_rows: int | None,
    reliability: Path | None,
    bar: Bar,
    worth: Worth | None = None,
    tokens: Tokens | None = None,
) -> Scores:
    """Scores of a trained folder as it is.

    Raises:
        ConfigError: the folder is not one that was trained, or its encoder is nowhere.
    """
    folder = head or SHIPPED_HEAD
    card = read_any_card(folder)
    gains: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    is_head = card.get("format") == HEAD_FORMAT
    model: Fitted
    if is_head:
        loaded = Head.loaded(folder)
        model, name, card = loaded, "encoder", dict(loaded.card)
    else:
        saved = load_model(folder, (*KINDS, ProxyModel))
        model, name, card = saved.model, saved.model.kind, dict(saved.card)
    with threadpool_limits(threads):
        # A proxy brings its own encoder; the others name the one that they were trained on.
        own = "proxy_sha256" in card
        where, sha256 = (folder / ENCODER_FOLDER, "proxy_sha256") if own else (card["encoder"], "encoder_sha256")
        encoder = Encoder.open(str(where), expected_sha256=str(card[sha256]), threads=threads)
        for one in recorded:
            examples = make_examples(
                _drawn(one.rows, max_rows, seed),
                encoder,
                seed=seed,
                reads_text=bool(card["reads_text"]),
                text_pieces=int(card["text_pieces"]),
                at=ASKED_AT,
                tokens=tokens,
                progress=bar("encoding"),
            )
            law, ms = predicted(model, examples)
            head_row = {"dataset": one.name, "predictor": name, "folds": 0, "split": "none"}
            scored = scores_by_generated(law, examples)
            rows += [{**head_row, **score, "ms_per_prediction": round(ms, 4)} for score in scored]
            judged = Judged(np.zeros(len(examples), np.int64), {name: law})
            _plots(reliability, judged, examples, one.name)
            gains += _gains(worth, judged, examples, {"dataset": one.name, "split": "none"}, bar)
    return Scores(rows, [], gains)


def _gains(
    worth: Worth | None, judged: Judged, examples: Examples, head: Mapping[str, str], bar: Bar
) -> list[dict[str, Any]]:
    if worth is None:
        return []
    return [{**head, **row} for row in worth_rows(worth, judged.laws, examples, bar("simulating"))]


def _examples(rows: Sequence[Row], encoder: Encoder, job: Job, at: Sequence[int] | None, progress: Step) -> Examples:
    reads_text = any(row.response for row in rows)
    return make_examples(
        rows,
        encoder,
        seed=job.settings.seed,
        reads_text=reads_text,
        text_pieces=job.text_pieces,
        at=at,
        tokens=job.tokens,
        progress=progress,
    )


def _drawn(rows: Sequence[Row], most: int | None, seed: int) -> list[Row]:
    if most is None or len(rows) <= most:
        return list(rows)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
    return [rows[i] for i in chosen.tolist()]


def _counted(job: Job, bar: Bar, name: str) -> Callable[..., None]:
    step = bar(name)
    step(0, job.folds)

    def each(number: int, *_: object) -> None:
        step(number + 1, job.folds)

    return each


def _plots(folder: Path | None, judged: Judged, examples: Examples, title: str) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(character if character.isalnum() else "-" for character in title)
        plot(judged.laws, examples, title, folder / f"reliability-{name}.png")
