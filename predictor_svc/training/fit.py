"""Fits a head: ridge location first, then small networks on quantiles, with early stopping on held-out prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from torch import Tensor

from predictor_svc.head import DENSE, LEVELS, MIDDLE, Array, Head, raw_dense, standardised
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.training.evaluate import scores_by_generated
from predictor_svc.training.examples import Examples
from predictor_svc.training.ridge import fit_ridge

BATCH = 128
PATIENCE = 8
"""Epochs without a better held-out loss before a network stops."""

OnEpoch: TypeAlias = Callable[[int, int, float], None]
"""Called with (member, epoch, held-out pinball loss)."""


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes:
        seed: of the split, the initial weights and the order of examples.
        epochs: at most.
        members: networks that are averaged.
        hidden, inner: widths of a network's two layers.
        learning_rate, weight_decay: of AdamW.
        dropout: of vectors and hidden units.
    """

    seed: int = 0
    epochs: int = 60
    members: int = 3
    hidden: int = 64
    inner: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    dropout: float = 0.3


class _Network(torch.nn.Module):
    """The torch twin of one member of `Head.quantiles`; parameters bear its names."""

    def __init__(self, width: int, settings: Settings) -> None:
        super().__init__()
        self._dropout = settings.dropout
        hidden, inner = settings.hidden, settings.inner
        self.dense = _parameter(DENSE, hidden)
        self.prompt = _parameter(width, hidden, scale=0.3)
        self.text = _parameter(width, hidden, scale=0.3)
        self.bias1 = torch.nn.Parameter(torch.zeros(hidden))
        self.hidden = _parameter(hidden, inner)
        self.bias2 = torch.nn.Parameter(torch.zeros(inner))
        self.out = _parameter(inner, len(LEVELS), scale=0.1)
        # Steps between neighbouring quantiles of a normal law of half the target's deviation.
        z = torch.distributions.Normal(0.0, 0.5).icdf(torch.tensor(LEVELS))
        steps = torch.cat((z[1 : MIDDLE + 1] - z[:MIDDLE], torch.zeros(1), z[MIDDLE + 1 :] - z[MIDDLE:-1]))
        bias = torch.log(torch.expm1(steps.clamp(min=1e-3)))
        bias[MIDDLE] = 0.0
        self.bias3 = torch.nn.Parameter(bias)
        self.skip = torch.nn.Parameter(torch.zeros(DENSE))

    def forward(self, dense: Tensor, prompt: Tensor, text: Tensor) -> Tensor:
        def drop(values: Tensor) -> Tensor:
            return torch.nn.functional.dropout(values, self._dropout, self.training)

        hidden = torch.relu(dense @ self.dense + drop(prompt) @ self.prompt + drop(text) @ self.text + self.bias1)
        hidden = torch.relu(drop(hidden) @ self.hidden + self.bias2)
        out = hidden @ self.out + self.bias3
        median = (out[:, MIDDLE] + dense @ self.skip)[:, None]
        steps = torch.nn.functional.softplus(out)
        above = torch.cumsum(steps[:, MIDDLE + 1 :], dim=1)
        below = torch.cumsum(steps[:, :MIDDLE].flip(1), dim=1).flip(1)
        return torch.cat((median - below, median, median + above), dim=1)


def fit_head(examples: Examples, settings: Settings, on_epoch: OnEpoch | None = None) -> Head:
    """Fits a head on all examples; a seventh of the prompts only decides when to stop and calibrates the intervals.

    Raises:
        ValueError: fewer than two different prompts.
    """
    if len(np.unique(examples.group)) < 2:
        raise ValueError("at least two different prompts are needed to fit a head")
    first = np.flatnonzero(examples.first)
    opening = examples.take(first)
    ridge, unseen = fit_ridge(opening.inputs.prompt, opening.inputs.facts, np.log(opening.left), opening.group)
    # Every answer's first question comes just before its later ones.
    location = unseen[np.cumsum(examples.first) - 1]
    raw = raw_dense(location, examples.inputs)
    mean, deviation = raw.mean(axis=0), raw.std(axis=0) + np.float32(1e-2)
    target = np.log(examples.left)
    centre = np.array([target.mean(), target.std() + 1e-3], np.float32)
    tensors = [
        torch.from_numpy(np.ascontiguousarray(values, np.float32))
        for values in (
            standardised(raw, mean, deviation),
            examples.inputs.prompt,
            examples.inputs.text,
            (target - centre[0]) / centre[1],
        )
    ]
    prompts = np.unique(examples.group)
    chosen = np.random.default_rng((settings.seed, 9)).choice(prompts, max(len(prompts) // 7, 1), replace=False)
    held_out = np.isin(examples.group, chosen)
    networks = [_fit_network(tensors, held_out, settings, member, on_epoch) for member in range(settings.members)]
    stacked = {f"net.{name}": np.stack([network[name] for network in networks]) for name in networks[0]}
    weights = {**ridge, "dense.mean": mean, "dense.deviation": deviation, "target": centre, **stacked}
    judged = examples.take(np.flatnonzero(held_out))
    # The location used here is that of a ridge that had not seen the prompt, as it will be when serving.
    dense = standardised(raw[held_out], mean, deviation)
    law = Head(weights).raw_quantiles(dense, judged.inputs.prompt, judged.inputs.text)
    fitted = Recalibration.fitted(law, np.log(judged.left), judged.inputs.generated)
    return Head({**weights, "recalibration.z": fitted.z})


def cross_validate(
    examples: Examples, settings: Settings, folds: int, on_epoch: OnEpoch | None = None
) -> tuple[list[dict[str, Any]], Array]:
    """Scores on prompts that each fit had not seen, and those predictions, [n, len(LEVELS)]."""
    quantiles = np.empty((len(examples), len(LEVELS)), np.float32)
    splits = GroupKFold(folds, shuffle=True, random_state=settings.seed)
    for train, test in splits.split(examples.left, groups=examples.group):
        head = fit_head(examples.take(train), settings, on_epoch)
        quantiles[test] = head.quantiles(examples.take(test).inputs)
    return scores_by_generated(quantiles, examples), quantiles


def _parameter(inputs: int, outputs: int, scale: float = 1.0) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(inputs, outputs) * scale * (2 / inputs) ** 0.5)


def _fit_network(
    tensors: list[Tensor], held_out: NDArray[np.bool_], settings: Settings, member: int, on_epoch: OnEpoch | None
) -> Mapping[str, Array]:
    random = np.random.default_rng((settings.seed, member))
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    torch.manual_seed(settings.seed * 1000 + member)
    network = _Network(tensors[1].shape[1], settings)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs)
    best_loss, best_epoch = float("inf"), 0
    best = {name: value.detach().numpy().copy() for name, value in network.named_parameters()}
    for epoch in range(settings.epochs):
        network.train()
        shuffled = random.permutation(train)
        for start in range(0, len(shuffled), BATCH):
            chosen = [tensor[shuffled[start : start + BATCH]] for tensor in tensors]
            loss = _pinball(network(*chosen[:3]), chosen[3])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        network.eval()
        with torch.inference_mode():
            held_loss = float(_pinball(network(*(tensor[test] for tensor in tensors[:3])), tensors[3][test]))
        if on_epoch is not None:
            on_epoch(member, epoch, held_loss)
        if held_loss < best_loss:
            best_loss, best_epoch = held_loss, epoch
            best = {name: value.detach().numpy().copy() for name, value in network.named_parameters()}
        elif epoch - best_epoch >= PATIENCE:
            break
    return best


def _pinball(quantiles: Tensor, target: Tensor) -> Tensor:
    levels = torch.tensor(LEVELS)
    wrong = target[:, None] - quantiles
    return torch.maximum(levels * wrong, (levels - 1) * wrong).mean()
