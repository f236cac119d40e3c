"""What a trained model is, and how it lies on disk: a folder with `model.safetensors` and `card.json`.

The card names the kind, the encoder by hash, the data, the scores, and the SHA-256 of the tensors. Nothing is executed:
tensors are checked for names, shapes and finite values before they are used.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fairlead.config import ConfigError
from predictor_svc.features import MODEL_FEATURES_VERSION
from predictor_svc.head import HeadInputs, read_any_card
from predictor_svc.models.levels import Array, Tensors

FORMAT = "fairlead-model-1"
TENSORS_FILE = "model.safetensors"
CARD_FILE = "card.json"
MAX_FILE_BYTES = 256 * 1024 * 1024


class Model(ABC):
    """From vectors and facts to quantiles of the tokens left."""

    kind: ClassVar[str]
    """The predictor's name, as in the entry points."""

    @abstractmethod
    def quantiles(self, inputs: HeadInputs) -> Array:
        """Quantiles of log tokens left at LEVELS, increasing; [n, len(LEVELS)]."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """Everything it knows, as named arrays."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, tensors: Tensors) -> Model:
        """From `tensors`; raises ValueError or KeyError where they are not that."""


@dataclass(frozen=True)
class Saved:
    """A model's folder, read and checked.

    Attributes:
        model: ready to be asked.
        card: what it was trained on and how well it does.
        sha256: of the tensors, hex.
    """

    model: Model
    card: Mapping[str, Any]
    sha256: str


def save_model(model: Model, folder: Path, card: Mapping[str, Any]) -> str:
    """Writes the folder, each file as a whole; returns the SHA-256 of the tensors."""
    content = save({name: np.ascontiguousarray(value) for name, value in model.tensors().items()})
    sha256 = hashlib.sha256(content).hexdigest()
    whole = {
        "format": FORMAT,
        "kind": model.kind,
        "features_version": MODEL_FEATURES_VERSION,
        "sha256": sha256,
        **card,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((TENSORS_FILE, content), (CARD_FILE, (json.dumps(whole, indent=2) + "\n").encode())):
        beside = folder / f".{name}.new"
        beside.write_bytes(data)
        beside.replace(folder / name)
    return sha256


def load_model(folder: Path, kinds: Sequence[type[Model]]) -> Saved:
    """Reads a model's folder.

    Args:
        folder: as `save_model` wrote it.
        kinds: the models that may lie there.

    Raises:
        ConfigError: a file is missing, too large, damaged or not what its card says, or the kind is another one.
    """
    where = f"predictor.head: {folder}"
    card = read_card(folder)
    by_kind = {kind.kind: kind for kind in kinds}
    chosen = by_kind.get(str(card.get("kind")))
    if chosen is None:
        raise ConfigError(f"{where}: holds a {card.get('kind')!r} model, expected {' or '.join(by_kind)}")
    content = _read(folder / TENSORS_FILE, where)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != card.get("sha256"):
        raise ConfigError(f"{where}: {TENSORS_FILE} has SHA-256 {sha256[:16]}…, its card says otherwise")
    try:
        tensors = load(content)
        _check_finite(tensors)
        model = chosen.from_tensors(tensors)
    except (SafetensorError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigError(f"{where}: {TENSORS_FILE} is damaged: {error!s}; train it again") from None
    return Saved(model, card, sha256)


def read_card(folder: Path) -> dict[str, Any]:
    """A model's card; raises ConfigError where it is missing, no JSON, or of another format."""
    where = f"predictor.head: {folder}"
    card = read_any_card(folder)
    if card.get("format") != FORMAT or card.get("features_version") != MODEL_FEATURES_VERSION:
        raise ConfigError(
            f"{where}: {CARD_FILE} is of format {card.get('format')!r}, features {card.get('features_version')!r}; "
            f"this version reads {FORMAT!r}, {MODEL_FEATURES_VERSION}: train it again"
        )
    sound = all(isinstance(card.get(name), str) for name in ("encoder", "encoder_sha256"))
    sound = sound and isinstance(card.get("reads_text"), bool)
    pieces = [card.get(name) for name in ("prompt_pieces", "text_pieces")]
    if not sound or not all(isinstance(count, int) and 0 <= count <= 510 for count in pieces):
        raise ConfigError(f"{where}: {CARD_FILE} does not name its encoder, its hash and what it reads")
    return card


def _read(path: Path, where: str) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{where}: {path.name} is larger than {MAX_FILE_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{where}: {path.name} can't be read: {error.strerror}; make one with `train`") from None


def _check_finite(tensors: Tensors) -> None:
    for name, value in tensors.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"{name} holds values that are not finite")


def prefixed(prefix: str, tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Names with a prefix and a dot before them."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def below(prefix: str, tensors: Tensors) -> dict[str, NDArray[Any]]:
    """Those whose names begin with the prefix and a dot, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
