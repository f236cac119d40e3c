"""Vectors kept on disk by the hash of their text, so that a text is encoded once for all folds, runs and predictors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from predictor_svc.encoder.session import Side, Vectors
from predictor_svc.training.examples import Embeds

KEY_BYTES = 16


class KeptVectors:
    """An encoder that remembers, in half precision; `save` writes what is new.

    Args:
        encoder: asked for what is not there yet.
        folder: holds one file for each encoder; made if missing.
    """

    def __init__(self, encoder: Embeds, folder: Path) -> None:
        self._encoder = encoder
        self._file = folder / f"vectors-{encoder.sha256[:16]}.npz"
        self._vectors: dict[bytes, np.ndarray] = {}
        self._new = 0
        if self._file.is_file():
            with np.load(self._file, allow_pickle=False) as kept:
                keys, vectors = kept["keys"], kept["vectors"]
            self._vectors = {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}

    @property
    def width(self) -> int:
        """Of a vector."""
        return self._encoder.width

    @property
    def sha256(self) -> str:
        """Of the encoder's weights."""
        return self._encoder.sha256

    def embed(self, texts: Sequence[str], *, max_tokens: int, side: Side = "start") -> Vectors:
        """As the encoder's own."""
        vectors = np.empty((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            key = hashlib.blake2b(f"{side}{max_tokens}\0{text}".encode(), digest_size=KEY_BYTES).digest()
            found = self._vectors.get(key)
            if found is None:
                found = self._encoder.embed([text], max_tokens=max_tokens, side=side)[0].astype(np.float16)
                self._vectors[key] = found
                self._new += 1
            vectors[row] = found
        return vectors

    def save(self) -> None:
        """Writes the file as a whole, if anything is new."""
        if not self._new:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        keys = np.frombuffer(b"".join(self._vectors), np.uint8).reshape(-1, KEY_BYTES)
        beside = self._file.with_suffix(".new.npz")
        np.savez(beside, keys=keys, vectors=np.stack(list(self._vectors.values())))
        beside.replace(self._file)
        self._new = 0
