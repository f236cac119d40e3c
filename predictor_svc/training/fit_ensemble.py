"""Fits `ensemble` and `forest`: parts grown without a share of the prompts, judged and weighed on that share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.decomposition import TruncatedSVD
from sklearn.model_selection import GroupKFold

from predictor_svc.models.design import PROMPT_AXES, TEXT_AXES, Design, left_of
from predictor_svc.models.ensemble import BLENDED, EnsembleModel, blend_columns, blended
from predictor_svc.models.forest import ForestModel, bin_quantiles
from predictor_svc.models.levels import Array
from predictor_svc.models.location import Location
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.models.trees import Trees
from predictor_svc.training.examples import Examples
from predictor_svc.training.fit_later import fit_later
from predictor_svc.training.fit_location import fit_location
from predictor_svc.training.fit_trees import bin_edges, boost, grow_forest, joined

Step: TypeAlias = Callable[[int, int], None]
"""Called with (done, all)."""


@dataclass(frozen=True)
class TreeSettings:
    """How to grow.

    Attributes:
        seed: of every random choice.
        shares: parts into which the prompts are dealt; each forest and boosting run goes without one.
        trees: of each forest.
        rounds: of each boosting run.
    """

    seed: int = 0
    shares: int = 4
    trees: int = 30
    rounds: int = 100


@dataclass(frozen=True)
class Grown:
    """The parts, and what they said of prompts that they had not seen."""

    location: Location
    design: Design
    edges: Array
    forest: Trees
    boosted: Trees
    start: float
    unseen_location: Array
    unseen_left: Array
    unseen_spread: Array
    unseen_boosted: Array
    target: Array


def fit_ensemble(examples: Examples, settings: TreeSettings, step: Step | None = None) -> EnsembleModel:
    """Fits the default predictor's model; raises ValueError for fewer than 20 different prompts."""
    return ensemble_of(grow(examples, settings, boosting=True, step=step), examples, settings)


def ensemble_of(grown: Grown, examples: Examples, settings: TreeSettings) -> EnsembleModel:
    """Weighs and calibrates grown parts."""
    generated = examples.inputs.generated
    weighed = blend_columns(grown.unseen_left, grown.unseen_boosted, grown.unseen_spread)
    blend = np.stack([_weights(weighed, grown.target, rows) for rows in (generated == 0, generated > 0)])
    law = blended(grown.unseen_left, grown.unseen_boosted, grown.unseen_spread, generated, blend)
    return EnsembleModel(
        grown.location,
        grown.design,
        grown.forest,
        grown.edges,
        grown.boosted,
        settings.rounds,
        grown.start,
        blend,
        Recalibration.fitted(law, grown.target, generated),
    )


def fit_forest(examples: Examples, settings: TreeSettings, step: Step | None = None) -> ForestModel:
    """Fits the forest alone; raises ValueError for fewer than 20 different prompts."""
    return forest_of(grow(examples, settings, boosting=False, step=step), examples)


def forest_of(grown: Grown, examples: Examples) -> ForestModel:
    """The forest alone of grown parts."""
    calibrated = Recalibration.fitted(grown.unseen_spread, grown.target, examples.inputs.generated)
    return ForestModel(grown.location, grown.design, grown.forest, grown.edges, calibrated)


def jittered(left: Array, seed: int) -> Array:
    """log tokens left with whole tokens spread over their unit: laws are continuous, counts are not."""
    random = np.random.default_rng((seed, 77))
    return np.log(np.maximum(left + random.uniform(-0.5, 0.5, len(left)), 0.5)).astype(np.float32)


def grow(examples: Examples, settings: TreeSettings, *, boosting: bool, step: Step | None) -> Grown:
    """Location, forests and boosting runs, and what each said of prompts that it had not seen."""
    if len(np.unique(examples.group)) < 20:
        raise ValueError("at least 20 different prompts are needed to fit trees; record more answers")
    inputs, seed = examples.inputs, settings.seed
    first = np.flatnonzero(examples.first)
    opening = examples.take(first)
    location, unseen = fit_location(opening.inputs, np.log(opening.left), opening.group, seed)
    # Every answer's first question comes just before its later ones.
    columns_of = unseen[np.cumsum(examples.first) - 1]
    written = inputs.text[np.abs(inputs.text).sum(axis=1) > 0]
    target = jittered(examples.left, seed)
    dealt = GroupKFold(settings.shares, shuffle=True, random_state=seed)
    splits = list(dealt.split(target, groups=examples.group))
    left = left_of(columns_of[:, :2], inputs.generated)
    later, unseen_later = fit_later(inputs, left, target, splits)
    unseen_left = np.column_stack((left, unseen_later)).astype(np.float32)
    design = Design(_axes(opening.inputs.prompt, PROMPT_AXES, seed), _axes(written, TEXT_AXES, seed), later)
    columns = design.matrix(inputs, columns_of, unseen_left)
    edges = bin_edges(target)
    forests: list[Trees] = []
    runs: list[Trees] = []
    starts: list[float] = []
    spread = np.empty((len(target), len(edges) - 1), np.float32)
    boosted = np.zeros(len(target), np.float32)
    for share, (inside, outside) in enumerate(splits):
        forests.append(grow_forest(columns[inside], target[inside], edges, settings.trees, seed + share))
        spread[outside] = forests[-1].mean(columns[outside])
        if boosting:
            run, start = boost(columns[inside], target[inside], settings.rounds, seed + share)
            boosted[outside] = start + run.mean(columns[outside])[:, 0] * np.float32(settings.rounds)
            runs.append(run)
            starts.append(start)
        if step is not None:
            step(share + 1, settings.shares)
    return Grown(
        location,
        design,
        edges,
        joined(forests),
        joined(runs) if runs else forests[0],
        float(np.mean(starts)) if starts else 0.0,
        columns_of,
        unseen_left,
        bin_quantiles(spread, edges),
        boosted,
        target,
    )


def _weights(weighed: Array, target: Array, rows: NDArray[np.bool_]) -> Array:
    """Non-negative least squares, drawn a little to equal weights; the constant takes up what is left."""
    equal = np.append(np.full(BLENDED, 1 / BLENDED), 0.0).astype(np.float32)
    if rows.sum() < 20:
        return equal
    columns, wanted = weighed[rows, :BLENDED].astype(np.float64), target[rows].astype(np.float64)
    centred, middle = columns - columns.mean(axis=0), wanted - wanted.mean()
    pull = np.sqrt(0.02 * len(wanted)) * float(middle.std())
    stacked = np.concatenate((centred, pull * np.eye(BLENDED)))
    weights, _ = nnls(stacked, np.concatenate((middle, np.full(BLENDED, pull / BLENDED))))
    return np.append(weights, wanted.mean() - columns.mean(axis=0) @ weights).astype(np.float32)


def _axes(vectors: Array, count: int, seed: int) -> Array:
    width = vectors.shape[1]
    if len(vectors) < 4 * count:
        return np.zeros((width, count), np.float32)
    found = TruncatedSVD(count, random_state=seed).fit(vectors[:: max(len(vectors) // 4000, 1)])
    return np.asarray(found.components_, np.float32).T.copy()
