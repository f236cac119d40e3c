"""The quantised encoder, made once for a machine and asked one text at a time.

On one thread a batch of texts costs what the texts cost one by one, and one by one no padding is computed: so each text
is run alone. A file is kept in the user's cache, named by the hash of the weights and the graph's version; it is
written beside its name and moved there, so that two processes that start together never see half of one.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fairlead.config import ConfigError
from fairlead.telemetry import get_logger
from predictor_svc.encoder.weights import EncoderSource, find_encoder

GRAPH_VERSION = 1
"""Raised with every change of the graph, so that a cached one is made anew."""

MAX_CHARS_A_TOKEN = 24
"""A text is cut to this many characters a token before the tokenizer sees it, so that a megabyte costs nothing."""

Vectors: TypeAlias = NDArray[np.float32]
Side: TypeAlias = Literal["start", "end"]
_log = get_logger("encoder")


def cache_folder() -> Path:
    """Where made encoders are kept: FAIRLEAD_CACHE, else the user's cache folder."""
    given = os.environ.get("FAIRLEAD_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fairlead"


class Encoder:
    """Sentence vectors of length 1.

    Attributes:
        sha256: of the weights it was made from.
        width: of a vector.
    """

    def __init__(self, folder: Path, sha256: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin for the next question would take the engine's cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.sha256 = sha256
        self.width = int(self._session.get_outputs()[0].shape[1])

    @classmethod
    def open(cls, name: str, *, expected_sha256: str | None = None, threads: int = 1) -> Encoder:
        """From the cache where the expected weights were quantised before, else from the weights themselves.

        Args:
            name: folder or Hugging Face id.
            expected_sha256: the weights a head was trained on; None: whatever `name` gives.
            threads: CPU threads.

        Raises:
            ConfigError: the encoder is nowhere, is another than expected, or can't be made into a graph.
        """
        sha256 = expected_sha256
        if sha256 is None or not _cached(sha256):
            source = find_encoder(name, expected_sha256)
            sha256 = source.sha256
            if not _cached(sha256):
                _make(source)
        try:
            return cls(_folder(sha256), sha256, threads)
        except Exception as error:  # a damaged cache file: onnxruntime and tokenizers raise kinds of their own
            raise ConfigError(f"{_folder(sha256)} can't be loaded ({error}); delete it, and it is made again") from None

    def embed(self, texts: Sequence[str], *, max_tokens: int, side: Side = "start") -> Vectors:
        """One vector of length 1 for each text; shape [texts, width].

        Args:
            texts: any text; an empty one has the vector of "".
            max_tokens: word pieces that are read.
            side: whether the start or the end of a longer text is read.
        """
        vectors = np.empty((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            ids = np.array([self._ids(text, max_tokens, side)], np.int64)
            mask = np.ones(ids.shape, np.int32)
            (vectors[row],) = cast(Vectors, self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
        return vectors

    def _ids(self, text: str, max_tokens: int, side: Side) -> list[int]:
        chars = max_tokens * MAX_CHARS_A_TOKEN
        ids = self._tokenizer.encode(text[:chars] if side == "start" else text[-chars:]).ids
        first, middle, last = ids[:1], ids[1:-1], ids[-1:]
        return [*first, *(middle[:max_tokens] if side == "start" else middle[-max_tokens:]), *last]


def _folder(sha256: str) -> Path:
    return cache_folder() / "encoders" / f"{sha256[:16]}-int8-v{GRAPH_VERSION}"


def _cached(sha256: str) -> bool:
    return (_folder(sha256) / "encoder.onnx").is_file() and (_folder(sha256) / "tokenizer.json").is_file()


def _make(source: EncoderSource) -> None:
    from safetensors.numpy import load_file  # noqa: PLC0415  (only at the first start)

    from predictor_svc.encoder.graph import NotSupported, Shape, encoder_graph  # noqa: PLC0415

    folder = _folder(source.sha256)
    try:
        graph = encoder_graph(
            load_file(source.folder / "model.safetensors"), Shape.of(source.json("config.json")), source.pooling()
        )
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "tokenizer.json", (source.folder / "tokenizer.json").read_bytes())
        _write(folder / "card.json", json.dumps({"weights_sha256": source.sha256}).encode())
        _write(folder / "encoder.onnx", graph.SerializeToString())
    except NotSupported as error:
        raise ConfigError(f"predictor.encoder: {error}") from None
    except OSError as error:
        raise ConfigError(f"the quantised encoder can't be made in {folder} ({error}); set FAIRLEAD_CACHE") from None
    _log.info("quantised the encoder", folder=str(folder))


def _write(path: Path, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)
