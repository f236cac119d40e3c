"""The answers that predictors are measured on: every file of recorded answers in a folder, as examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from predictor_svc.training.dataset import Row, models_of, read_recorded, read_with_lengths
from predictor_svc.training.examples import Embeds, Examples, make_examples
from predictor_svc.training.tokens import Tokens

ASKED_AT = (50, 100, 200)
TEXT_PIECES = 16
MAX_ROWS = 6000
"""Of a larger file as many answers are drawn, with the seed: a CPU fits them in minutes, and the table says so."""

MODELS_OF = {"zeroeval": ("Meta-Llama-3.1-8B-Instruct",)}
"""Columns of a lengths file that are measured; of others `SPREAD_MODELS`, evenly spaced."""

SPREAD_MODELS = 2


@dataclass(frozen=True)
class Source:
    """One set of answers.

    Attributes:
        dataset: name of the set.
        model: column of its lengths file, "" where the answers are of one model.
        rows_in_file: usable answers that there were.
        rows: those that are measured.
    """

    dataset: str
    model: str
    rows_in_file: int
    rows: tuple[Row, ...]

    @property
    def key(self) -> str:
        """Name of its files in the output folder."""
        return self.dataset if not self.model else f"{self.dataset}@{self.model}"

    def examples(self, encoder: Embeds, seed: int, tokens: Tokens | None) -> Examples:
        """First questions and those at 50, 100 and 200 tokens out."""
        return make_examples(
            self.rows,
            encoder,
            seed=seed,
            reads_text=any(row.response for row in self.rows),
            text_pieces=TEXT_PIECES,
            at=ASKED_AT,
            tokens=tokens,
        )


def sources(folder: Path, only: tuple[str, ...], seed: int, most: int = MAX_ROWS) -> list[Source]:
    """Every set in `folder`, small ones first; `only` keeps those whose names begin so; at most `most` answers each."""
    found: list[Source] = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        name = path.name.removesuffix(".jsonl.gz")
        lengths = path.with_name(f"{name.removesuffix('_prompts')}_lengths.csv.gz")
        dataset = name.removesuffix("_prompts")
        if only and not dataset.startswith(only):
            continue
        if not name.endswith("_prompts"):
            found.append(_source(dataset, "", read_recorded(path, on_broken="refuse").rows, seed, most))
            continue
        for model in _measured(dataset, models_of(lengths)):
            rows = read_with_lengths(path, lengths, model, on_broken="refuse").rows
            found.append(_source(dataset, model, rows, seed, most))
    return sorted(found, key=lambda one: len(one.rows))


def _measured(dataset: str, models: list[str]) -> tuple[str, ...]:
    chosen = MODELS_OF.get(dataset)
    if chosen:
        return chosen
    places = np.linspace(0, len(models) - 1, SPREAD_MODELS + 2)[1:-1].astype(int)
    return tuple(models[place] for place in places)


def _source(dataset: str, model: str, rows: list[Row], seed: int, most: int) -> Source:
    if len(rows) <= most:
        return Source(dataset, model, len(rows), tuple(rows))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
    return Source(dataset, model, len(rows), tuple(rows[i] for i in drawn.tolist()))
