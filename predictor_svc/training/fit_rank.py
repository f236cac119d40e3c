"""Fits `rank` (ListMLE or margin loss) and `retrieval`."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictor_svc.models.levels import Array, given_out
from predictor_svc.models.location import Location
from predictor_svc.models.rank import RankModel, laws_at, network_score, rank_columns
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.models.retrieval import MAX_KEPT, RetrievalModel, neighbour_quantiles, weighted_quantiles
from predictor_svc.training.examples import Examples
from predictor_svc.training.fit_ensemble import jittered
from predictor_svc.training.fit_location import fit_location

Loss: TypeAlias = Literal["listmle", "margin"]

HIDDEN = 32
LIST = 32
"""Answers that are put in order at once."""

LISTS_A_STEP = 4
EPOCHS = 40
PATIENCE = 6
MARGIN = 1.0
NEAR_TIE = 0.1
"""Pairs whose log lengths differ by less say nothing about order (PARS drops them)."""

PLACES = 64


def fit_rank(
    examples: Examples, seed: int, loss: Loss = "listmle", located: tuple[Location, Array] | None = None
) -> RankModel:
    """Fits scores on three quarters of the prompts and the laws of the scores on the others.

    Args:
        examples: recorded answers.
        seed: of every random choice.
        loss: "listmle" or "margin".
        located: what `fit_location` gave for the first questions, if it is there already.

    Raises:
        ValueError: fewer than 20 different prompts.
    """
    first = np.flatnonzero(examples.first)
    opening = examples.take(first)
    groups = np.unique(opening.group)
    if len(groups) < 20:
        raise ValueError("at least 20 different prompts are needed to fit an order; record more answers")
    random = np.random.default_rng(seed)
    held = np.isin(opening.group, random.permutation(groups)[: len(groups) // 4])
    log_length = np.log(opening.left)
    location, unseen = located or fit_location(opening.inputs, log_length, opening.group, seed)
    columns = rank_columns(unseen, opening.inputs.facts)
    network = _fit_network(columns[~held], opening.inputs.prompt[~held], log_length[~held], loss, seed)
    score = network_score(network, columns, opening.inputs.prompt)
    scores, laws = _laws(score[held], jittered(opening.left[held], seed))
    held_later = held[np.cumsum(examples.first) - 1]
    generated = examples.inputs.generated[held_later]
    whole = laws_at(score[np.cumsum(examples.first) - 1][held_later], scores, laws)
    truth = jittered(examples.left[held_later], seed)
    recalibration = Recalibration.fitted(given_out(whole, generated), truth, generated)
    return RankModel(location, network, scores, laws, recalibration)


def fit_retrieval(examples: Examples, seed: int) -> RetrievalModel:
    """Keeps the prompts and calibrates each on the others."""
    first = np.flatnonzero(examples.first)
    kept = first[-MAX_KEPT:]
    vectors, lengths = examples.inputs.prompt[kept], np.log(examples.left[kept])
    judged = np.sort(np.random.default_rng(seed).permutation(len(kept))[:4000])
    near = vectors[judged] @ vectors.T
    near[examples.group[kept[judged]][:, None] == examples.group[kept][None]] = -1
    whole = np.zeros((len(first), 13), np.float32)
    whole[np.searchsorted(first, kept[judged])] = neighbour_quantiles(near, lengths)
    answer = np.cumsum(examples.first) - 1
    rows = np.flatnonzero(np.isin(answer, np.searchsorted(first, kept[judged])))
    generated = examples.inputs.generated[rows]
    law = given_out(whole[answer[rows]], generated)
    recalibration = Recalibration.fitted(law, jittered(examples.left[rows], seed), generated)
    return RetrievalModel(vectors, lengths, recalibration)


def _fit_network(columns: Array, prompt: Array, target: Array, loss: Loss, seed: int) -> dict[str, Array]:
    torch.manual_seed(seed)
    random = np.random.default_rng((seed, 5))
    mean, deviation = columns.mean(axis=0), columns.std(axis=0) + np.float32(1e-2)
    dense = torch.from_numpy(np.clip((columns - mean) / deviation, -5, 5).astype(np.float32))
    vectors, lengths = torch.from_numpy(np.ascontiguousarray(prompt, np.float32)), torch.from_numpy(target)
    width, inputs = prompt.shape[1], columns.shape[1]
    parts = {
        "dense": torch.randn(inputs, HIDDEN) * (2 / inputs) ** 0.5,
        "prompt": torch.randn(width, HIDDEN) * 0.3 * (2 / width) ** 0.5,
        "bias1": torch.zeros(HIDDEN),
        "out": torch.randn(HIDDEN) * 0.1,
        "skip": torch.tensor([0.5, 0.5] + [0.0] * (inputs - 2)),
    }
    for part in parts.values():
        part.requires_grad_()
    optimiser = torch.optim.AdamW(parts.values(), lr=2e-3, weight_decay=3e-2)

    def scored(rows: NDArray[np.int64], *, dropped: float) -> Tensor:
        vector = torch.nn.functional.dropout(vectors[rows], dropped, dropped > 0)
        hidden = torch.relu(dense[rows] @ parts["dense"] + vector @ parts["prompt"] + parts["bias1"])
        hidden = torch.nn.functional.dropout(hidden, dropped, dropped > 0)
        return hidden @ parts["out"] + dense[rows] @ parts["skip"]

    order = random.permutation(len(target))
    judged, learned = order[: max(len(order) // 8, 2)], order[max(len(order) // 8, 2) :]
    best_loss, waited, best = float("inf"), 0, {name: part.detach().numpy().copy() for name, part in parts.items()}
    for _ in range(EPOCHS):
        for lists in _lists(random.permutation(learned)):
            total = torch.stack([_loss(scored(rows, dropped=0.3), lengths[rows], loss) for rows in lists]).mean()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
        with torch.inference_mode():
            lists = _lists(judged)
            judged_losses = [
                float(_loss(scored(rows, dropped=0), lengths[rows], loss)) for step in lists for rows in step
            ]
        held_loss = float(np.mean(judged_losses))
        if held_loss < best_loss:
            best_loss, waited = held_loss, 0
            best = {name: part.detach().numpy().copy() for name, part in parts.items()}
        else:
            waited += 1
            if waited >= PATIENCE:
                break
    return {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32), **best}


def _lists(order: NDArray[np.int64]) -> list[list[NDArray[np.int64]]]:
    lists = [order[start : start + LIST] for start in range(0, max(len(order) - 1, 1), LIST)]
    return [lists[start : start + LISTS_A_STEP] for start in range(0, len(lists), LISTS_A_STEP)]


def _loss(score: Tensor, length: Tensor, loss: Loss) -> Tensor:
    if loss == "listmle":
        # -log P(the true order) of Plackett and Luce, longest first (Xia et al., 2008), a place.
        ordered = score[torch.argsort(length, descending=True)]
        return (torch.logcumsumexp(ordered.flip(0), 0).flip(0) - ordered).mean()
    apart = length[:, None] - length[None]
    wrong = torch.relu(MARGIN - (score[:, None] - score[None]))
    return wrong[apart > NEAR_TIE].mean() if bool((apart > NEAR_TIE).any()) else score.sum() * 0


def _laws(score: Array, log_length: Array) -> tuple[Array, Array]:
    """Places along the scores and the quantiles of the answers nearest to each."""
    places = np.quantile(score, np.linspace(0.01, 0.99, min(PLACES, max(len(score) // 8, 2))))
    order = np.argsort(score)
    score, log_length = score[order], log_length[order]
    window = min(max(60, len(score) // 10), max(len(score) // 2, 8), len(score))
    start = np.clip(np.searchsorted(score, places) - window // 2, 0, len(score) - window)
    rows = start[:, None] + np.arange(window)
    nearness = 1 - np.abs(np.arange(window) - window / 2) / (window / 2 + 1)
    laws = weighted_quantiles(log_length[rows], np.broadcast_to(nearness.astype(np.float32), rows.shape).copy())
    # A higher score never stands for shorter answers: the order is what was learned.
    return np.maximum.accumulate(places).astype(np.float32), np.maximum.accumulate(laws, axis=0)
