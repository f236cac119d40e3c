"""The trained part of the encoder predictor: from vectors and features to quantiles of the tokens left.

Two stages. A ridge regression over hashed words, the prompt's vector and its numbers gives the location of log length:
linear, so that it holds on few examples. Small networks then take that location, the vectors of prompt and answer so
far, the progress features and the tokens out, and give increasing quantiles of log tokens left; several of them,
trained from different seeds, are averaged.

On disk a head is a folder: `head.safetensors` (float16) and `card.json`, which names the encoder by hash, the data and
the scores, and carries the SHA-256 of the weights. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fairlead.config import ConfigError
from predictor_svc.features import (
    COUNTED,
    FEATURES_VERSION,
    PROMPT_NUMERIC,
    WORD_BUCKETS,
    PromptFacts,
)
from predictor_svc.models.levels import LEVELS, MIDDLE
from predictor_svc.models.recalibration import BUCKETS, Recalibration

FORMAT = "fairlead-head-1"
WEIGHTS_FILE = "head.safetensors"
CARD_FILE = "card.json"
MAX_FILE_BYTES = 64 * 1024 * 1024
DENSE = PROMPT_NUMERIC + COUNTED + 3
"""Features beside the vectors: location, location of what is left, tokens out, then prompt and progress numbers."""

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class HeadInputs:
    """A batch of n questions.

    Attributes:
        prompt: vectors of the prompts, [n, width].
        text: vectors of the answers so far, [n, width]; zeros where there is none.
        facts: what was read from each prompt.
        progress: [n, PROGRESS_NUMERIC]; a head reads the first COUNTED.
        generated: tokens out, [n].
        prompts: their texts, n, where there is a model that reads them itself; else none.
    """

    prompt: Array
    text: Array
    facts: Sequence[PromptFacts]
    progress: Array
    generated: Array
    prompts: Sequence[str] = ()

    def take(self, index: NDArray[np.intp]) -> HeadInputs:
        """The questions at `index`."""
        rows = index.tolist()
        return HeadInputs(
            self.prompt[index],
            self.text[index],
            [self.facts[row] for row in rows],
            self.progress[index],
            self.generated[index],
            tuple(self.prompts[int(row)] for row in rows) if self.prompts else (),
        )


@dataclass(frozen=True)
class Head:
    """A trained head.

    Attributes:
        weights: tensors by name, float32; see `_shapes`.
        card: what it was trained on and how well it does; plain JSON.
        sha256: of the weights file, hex; "" before it is saved.
    """

    weights: Mapping[str, Array]
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])
    sha256: str = ""

    @property
    def encoder(self) -> str:
        """Name of the encoder that it was trained on."""
        return str(self.card["encoder"])

    @property
    def encoder_sha256(self) -> str:
        """Hash of that encoder's weights."""
        return str(self.card["encoder_sha256"])

    @property
    def prompt_pieces(self) -> int:
        """Word pieces of the prompt that are read."""
        return int(self.card["prompt_pieces"])

    @property
    def text_pieces(self) -> int:
        """Word pieces of the answer's end that are encoded; 0: none, its progress is told by the features alone."""
        return int(self.card["text_pieces"])

    @property
    def reads_text(self) -> bool:
        """Whether it was trained on answers' text; a head that was not must not be shown any."""
        return bool(self.card["reads_text"])

    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left at LEVELS, increasing along the second axis; [n, len(LEVELS)]."""
        raw = self.raw_quantiles(self.dense(inputs), inputs.prompt, inputs.text)
        z = self.weights.get("recalibration.z")
        return raw if z is None else Recalibration(z).applied(raw, inputs.generated)

    def raw_quantiles(self, dense: Array, prompt: Array, text: Array) -> Array:
        """The networks' own quantiles; `dense` as the method of that name gives it."""
        total = np.zeros((len(dense), len(LEVELS)), np.float32)
        weights = self.weights
        members = len(weights["net.bias1"])
        for i in range(members):
            hidden = dense @ weights["net.dense"][i] + prompt @ weights["net.prompt"][i] + weights["net.bias1"][i]
            hidden = np.maximum(hidden + text @ weights["net.text"][i], 0)
            hidden = np.maximum(hidden @ weights["net.hidden"][i] + weights["net.bias2"][i], 0)
            out = hidden @ weights["net.out"][i] + weights["net.bias3"][i]
            total += _increasing(out, dense @ weights["net.skip"][i])
        mean, deviation = weights["target"]
        return np.asarray(total / members * deviation + mean, np.float32)

    def dense(self, inputs: HeadInputs) -> Array:
        """The features beside the vectors, standardised; [n, DENSE]."""
        location = self.location(inputs.prompt, inputs.facts)
        return standardised(raw_dense(location, inputs), self.weights["dense.mean"], self.weights["dense.deviation"])

    def location(self, prompt: Array, facts: Sequence[PromptFacts]) -> Array:
        """The ridge regression's log length of the whole answer; [n]."""
        weights = self.weights
        numeric = standardised(
            np.stack([one.numeric for one in facts]), weights["ridge.mean"], weights["ridge.deviation"]
        )
        words = np.array([_word_score(one, weights["ridge.idf"], weights["ridge.words"]) for one in facts], np.float32)
        value = prompt @ weights["ridge.prompt"] + numeric @ weights["ridge.numeric"] + words + weights["ridge.bias"][0]
        return np.asarray(value, np.float32)

    def saved(self, folder: Path) -> Head:
        """Writes the folder and returns the head as it will be loaded; raises OSError."""
        content = save({name: np.ascontiguousarray(value, np.float16) for name, value in self.weights.items()})
        sha256 = hashlib.sha256(content).hexdigest()
        card = {"format": FORMAT, "features_version": FEATURES_VERSION, "sha256": sha256, **self.card}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS_FILE).write_bytes(content)
        (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n")
        return Head.loaded(folder)

    @classmethod
    def loaded(cls, folder: Path) -> Head:
        """Reads a head's folder.

        Raises:
            ConfigError: a file is missing, larger than 64 MiB or not what it says, the hash or a shape is wrong, or it
                was trained on other features.
        """
        where = f"predictor.head: {folder}"
        card = _read_card(folder, where)
        content = _read(folder / WEIGHTS_FILE, where)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != card.get("sha256"):
            raise ConfigError(f"{where}: {WEIGHTS_FILE} has SHA-256 {sha256[:16]}…, its card says otherwise")
        try:
            weights = {name: np.asarray(value, np.float32) for name, value in load(content).items()}
        except (SafetensorError, ValueError, TypeError) as error:
            raise ConfigError(f"{where}: {WEIGHTS_FILE} is damaged: {error}") from None
        _check_shapes(weights, where)
        return cls(weights, card, sha256)


def raw_dense(location: Array, inputs: HeadInputs) -> Array:
    """The features beside the vectors, before standardising; [n, DENSE]."""
    left = np.log(np.maximum(np.exp(np.clip(location, 0, 14)) - inputs.generated, 1.0))
    numeric = np.stack([one.numeric for one in inputs.facts])
    counted = inputs.progress[:, :COUNTED]
    return np.column_stack((location, left, np.log1p(inputs.generated), numeric, counted)).astype(np.float32)


def standardised(values: Array, mean: Array, deviation: Array) -> Array:
    """(values - mean) / deviation, held within ±5: what was never seen in training must not run away."""
    return np.asarray(np.clip((values - mean) / deviation, -5, 5), np.float32)


def _increasing(out: Array, middle: Array) -> Array:
    """Median plus a skip term, and positive steps from it to both sides."""
    steps = np.logaddexp(0, out)
    above = np.cumsum(steps[:, MIDDLE + 1 :], axis=1)
    below = np.cumsum(steps[:, MIDDLE - 1 :: -1], axis=1)[:, ::-1]
    median = (out[:, MIDDLE] + middle)[:, None]
    return np.concatenate((median - below, median, median + above), axis=1)


def _word_score(facts: PromptFacts, idf: Array, words: Array) -> float:
    scaled = facts.weights * idf[facts.buckets]
    norm = float(np.linalg.norm(scaled))
    return float(scaled @ words[facts.buckets]) / norm if norm > 0 else 0.0


def _shapes(width: int, members: int, hidden: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {
        "ridge.idf": (WORD_BUCKETS,),
        "ridge.words": (WORD_BUCKETS,),
        "ridge.prompt": (width,),
        "ridge.numeric": (PROMPT_NUMERIC,),
        "ridge.mean": (PROMPT_NUMERIC,),
        "ridge.deviation": (PROMPT_NUMERIC,),
        "ridge.bias": (1,),
        "dense.mean": (DENSE,),
        "dense.deviation": (DENSE,),
        "target": (2,),
        "net.dense": (members, DENSE, hidden),
        "net.prompt": (members, width, hidden),
        "net.text": (members, width, hidden),
        "net.bias1": (members, hidden),
        "net.hidden": (members, hidden, inner),
        "net.bias2": (members, inner),
        "net.out": (members, inner, len(LEVELS)),
        "net.bias3": (members, len(LEVELS)),
        "net.skip": (members, DENSE),
    }


def _check_shapes(weights: Mapping[str, Array], where: str) -> None:
    prompt, hidden = weights.get("net.prompt"), weights.get("net.hidden")
    if prompt is None or hidden is None or prompt.ndim != 3 or hidden.ndim != 3 or not len(prompt):
        raise ConfigError(f"{where}: {WEIGHTS_FILE} has no usable net.prompt and net.hidden")
    expected = _shapes(prompt.shape[1], prompt.shape[0], prompt.shape[2], hidden.shape[2])
    if "recalibration.z" in weights:
        expected["recalibration.z"] = (len(BUCKETS), len(LEVELS))
    if expected.keys() != weights.keys():
        raise ConfigError(f"{where}: {WEIGHTS_FILE} lacks or adds {sorted(expected.keys() ^ weights.keys())}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ConfigError(f"{where}: {name} has shape {weights[name].shape}, expected {shape}")
        if not np.isfinite(weights[name]).all():
            raise ConfigError(f"{where}: {name} holds values that are not finite")
    if weights["dense.deviation"].min() <= 0 or weights["ridge.deviation"].min() <= 0:
        raise ConfigError(f"{where}: a deviation is not positive")


def _read(path: Path, where: str) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{where}: {path.name} is larger than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{where}: {path.name} can't be read: {error.strerror}; make one with `train`") from None


def read_any_card(folder: Path) -> dict[str, Any]:
    """A card of whatever format, {} where it is no object; raises ConfigError where it is missing or not JSON."""
    where = f"predictor.head: {folder}"
    try:
        value: object = json.loads(_read(folder / CARD_FILE, where))
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: {CARD_FILE} is not JSON") from None
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _read_card(folder: Path, where: str) -> dict[str, Any]:
    card = read_any_card(folder)
    if card.get("format") != FORMAT or card.get("features_version") != FEATURES_VERSION:
        raise ConfigError(
            f"{where}: {CARD_FILE} is of format {card.get('format')!r}, features {card.get('features_version')!r}; "
            f"this version reads {FORMAT!r}, {FEATURES_VERSION}: train it again"
        )
    sound = all(isinstance(card.get(name), str) for name in ("encoder", "encoder_sha256"))
    sound = sound and isinstance(card.get("reads_text"), bool)
    pieces = [card.get(name) for name in ("prompt_pieces", "text_pieces")]
    if not sound or not all(isinstance(count, int) and 0 <= count <= 510 for count in pieces):
        raise ConfigError(f"{where}: {CARD_FILE} does not name its encoder, its hash and what it reads")
    return card
