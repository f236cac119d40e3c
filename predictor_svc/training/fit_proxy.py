"""Fine-tunes the upper layers of a small encoder on prompts and lengths; early stopping on prompts held out (SSJF)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from predictor_svc.encoder.weights import find_encoder
from predictor_svc.head import HeadInputs
from predictor_svc.models.levels import LEVELS, Array, given_out
from predictor_svc.models.proxy import ProxyModel, whole_law
from predictor_svc.models.recalibration import Recalibration
from predictor_svc.training.examples import PROMPT_PIECES, Examples
from predictor_svc.training.fit_ensemble import jittered

Target: TypeAlias = Literal["regression", "classes"]
Step: TypeAlias = Callable[[int, int], None]

TUNED_LAYERS = 2
CLASSES = 10
BATCH = 32
PATIENCE = 2
ENCODER_RATE, LAYER_RATE = 5e-5, 5e-3
_OTHER_FILES = ("config.json", "tokenizer.json", "1_Pooling/config.json")


@dataclass
class FittedProxy:
    """The fine-tuned encoder in torch, and the model of its vectors.

    Attributes:
        model: the last layer.
        network: the encoder.
        tokenizer: its word pieces.
        source: folder of the encoder that it was tuned from.
    """

    model: ProxyModel
    network: Any
    tokenizer: Any
    source: Path

    def quantiles(self, inputs: HeadInputs) -> Array:
        """As the served predictor; `inputs.prompts` are read, in float32 instead of int8."""
        different = list(dict.fromkeys(inputs.prompts))
        vectors = _vectors(self.network, self.tokenizer, different)
        place = {prompt: row for row, prompt in enumerate(different)}
        rows = [place[prompt] for prompt in inputs.prompts]
        own = HeadInputs(vectors[rows], inputs.text, inputs.facts, inputs.progress, inputs.generated)
        return self.model.quantiles(own)

    def save_encoder(self, folder: Path) -> str:
        """Writes the fine-tuned encoder as a Hugging Face folder; returns the SHA-256 of its weights."""
        (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
        content = save({name: value.contiguous() for name, value in self.network.state_dict().items()})
        (folder / "model.safetensors").write_bytes(content)
        for name in _OTHER_FILES:
            shutil.copyfile(self.source / name, folder / name)
        return hashlib.sha256(content).hexdigest()


def fit_proxy(
    examples: Examples,
    encoder: str,
    *,
    seed: int,
    epochs: int,
    target: Target = "classes",
    step: Step | None = None,
) -> FittedProxy:
    """Fine-tunes the last two layers with a layer of outputs on top.

    Args:
        examples: recorded answers; first questions are learned from, later ones calibrate.
        encoder: Hugging Face id or folder.
        seed: of the split, the first weights and the order.
        epochs: at most; training stops after two that bring no better held-out loss.
        target: "regression" (smooth L1 of log tokens) or "classes" (ten percentile classes).
        step: told (epochs done, epochs).

    Raises:
        ValueError: fewer than 20 different prompts.
        ConfigError: the encoder is nowhere.
    """
    opening = examples.take(np.flatnonzero(examples.first))
    groups = np.unique(opening.group)
    if len(groups) < 20:
        raise ValueError("at least 20 different prompts are needed to tune an encoder; record more answers")
    source = find_encoder(encoder).folder
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    tokenizer = AutoTokenizer.from_pretrained(source)
    network = AutoModel.from_pretrained(source, add_pooling_layer=False)
    network.requires_grad_(False)
    for layer in network.encoder.layer[-TUNED_LAYERS:]:
        layer.requires_grad_(True)
    log_length = np.log(opening.left).astype(np.float32)
    edges = np.quantile(log_length, np.linspace(0, 1, CLASSES + 1)) + np.arange(CLASSES + 1) * 1e-4
    wanted = _wanted(log_length, edges, target)
    held = np.isin(opening.group, random.permutation(groups)[: max(len(groups) // 6, 2)])
    outputs = CLASSES if target == "classes" else 1
    last = torch.nn.Linear(network.config.hidden_size, outputs)
    with torch.no_grad():
        last.weight *= 3.0
        last.bias.fill_(float(log_length.mean()) if outputs == 1 else 0.0)
    _tune(network, tokenizer, last, opening.inputs.prompts, wanted, held, random, epochs, step)
    weights, bias = last.weight.detach().numpy().T.copy(), last.bias.detach().numpy().copy()
    judged = np.flatnonzero(held)
    out = _vectors(network, tokenizer, _chosen(opening.inputs.prompts, judged)) @ weights + bias
    if target == "regression":
        errors = np.quantile(log_length[judged] - out[:, 0], LEVELS)
        edges = errors + np.arange(len(LEVELS)) * 1e-4
    edges = edges.astype(np.float32)
    later = np.flatnonzero(held[np.cumsum(examples.first) - 1])
    place = np.searchsorted(judged, (np.cumsum(examples.first) - 1)[later])
    generated = examples.inputs.generated[later]
    law = given_out(whole_law(out, edges)[place], generated)
    recalibration = Recalibration.fitted(law, jittered(examples.left[later], seed), generated)
    return FittedProxy(ProxyModel(weights, bias, edges, recalibration), network, tokenizer, source)


def _wanted(log_length: Array, edges: NDArray[np.float64], target: Target) -> Tensor:
    if target == "regression":
        return torch.from_numpy(log_length)
    return torch.from_numpy(np.clip(np.searchsorted(edges, log_length, side="right") - 1, 0, CLASSES - 1))


def _tune(
    network: Any,
    tokenizer: Any,
    last: torch.nn.Linear,
    prompts: Sequence[str],
    wanted: Tensor,
    held: NDArray[np.bool_],
    random: np.random.Generator,
    epochs: int,
    step: Step | None,
) -> None:
    """Trains in place and leaves the best epoch's weights."""
    tuned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": tuned, "lr": ENCODER_RATE}, {"params": last.parameters(), "lr": LAYER_RATE}], weight_decay=0.01
    )
    learned, judged = np.flatnonzero(~held), np.flatnonzero(held)
    kept = [parameter.detach().clone() for parameter in [*tuned, *last.parameters()]]
    best, waited = float("inf"), 0
    for epoch in range(epochs):
        network.train()
        order = random.permutation(learned)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            loss = _loss(last(_pooled(network, tokenizer, _chosen(prompts, rows))), wanted[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            vectors = torch.from_numpy(_vectors(network, tokenizer, _chosen(prompts, judged)))
            held_loss = float(_loss(last(vectors), wanted[judged]))
        if step is not None:
            step(epoch + 1, epochs)
        if held_loss < best:
            best, waited = held_loss, 0
            kept = [parameter.detach().clone() for parameter in [*tuned, *last.parameters()]]
            continue
        waited += 1
        if waited >= PATIENCE:
            break
    with torch.no_grad():
        for parameter, value in zip([*tuned, *last.parameters()], kept, strict=True):
            parameter.copy_(value)


def _loss(out: Tensor, wanted: Tensor) -> Tensor:
    if out.shape[1] == 1:
        return torch.nn.functional.smooth_l1_loss(out[:, 0], wanted)
    return torch.nn.functional.cross_entropy(out, wanted)


def _pooled(network: Any, tokenizer: Any, prompts: Sequence[str]) -> Tensor:
    """Mean-pooled vectors of length 1, as the served graph gives them."""
    pieces = tokenizer(
        [prompt[: PROMPT_PIECES * 24] for prompt in prompts],
        padding=True,
        truncation=True,
        max_length=PROMPT_PIECES + 2,
        return_tensors="pt",
    )
    states = network(**pieces).last_hidden_state
    mask = pieces["attention_mask"][:, :, None].to(states.dtype)
    return torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1)


def _vectors(network: Any, tokenizer: Any, prompts: Sequence[str]) -> Array:
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    vectors = np.empty((len(prompts), network.config.hidden_size), np.float32)
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            vectors[rows] = _pooled(network, tokenizer, _chosen(prompts, rows)).numpy()
    return vectors


def _chosen(prompts: Sequence[str], rows: NDArray[np.int64]) -> list[str]:
    return [prompts[int(row)] for row in rows]
