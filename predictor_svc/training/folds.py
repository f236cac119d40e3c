"""Splits over prompts: random folds, and grouped ones that hold out whole clusters of similar prompts."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.model_selection import GroupKFold

from predictor_svc.training.examples import Examples

Split: TypeAlias = Literal["random", "grouped"]
SPLITS: tuple[Split, ...] = ("random", "grouped")
PROMPTS_A_CLUSTER = 30


def fold_of(examples: Examples, folds: int, split: Split, seed: int) -> NDArray[np.int64]:
    """The fold that each example is held out in, [n]; equal prompts share one, and "grouped" similar ones as well.

    Template-made prompts flatter random folds: near copies of a held-out prompt are learned from. Clusters are found by
    k-means on the prompts' vectors, about 30 prompts each.

    Raises:
        ValueError: fewer different prompts than folds.
    """
    group = examples.group
    different, first = np.unique(group, return_index=True)
    if len(different) < max(folds, 2):
        raise ValueError(f"{len(different)} different prompts are too few for {folds} folds")
    if split == "grouped":
        clusters = max(len(different) // PROMPTS_A_CLUSTER, folds)
        vectors = examples.inputs.prompt[first]
        found = KMeans(clusters, n_init="auto", max_iter=30, random_state=seed).fit_predict(vectors)
        group = np.asarray(found, np.int64)[np.searchsorted(different, group)]
    fold = np.empty(len(group), np.int64)
    splits = GroupKFold(folds, shuffle=True, random_state=seed).split(group, groups=group)
    for number, (_, held_out) in enumerate(splits):
        fold[held_out] = number
    return fold
