"""The sentence encoder three ways: torch, float32 ONNX and the int8 ONNX that serves; time, and the accuracy kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.stats import kendalltau
from sklearn.linear_model import Ridge

from predictor_svc.encoder.graph import Shape, encoder_graph
from predictor_svc.encoder.session import Encoder
from predictor_svc.encoder.weights import PACKAGED_NAMES, find_encoder
from predictor_svc.training.dataset import read_recorded

Vectors: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str]], Vectors]

TIMED = 100
FITTED, JUDGED = 600, 400
SETS = ("gpteacher_codegen", "gpteacher_roleplay", "halueval_general", "mmlu_pro_llama-3_1-8b-instruct")


def encoders(folder: Path, pieces: int, threads: int) -> dict[str, Embed]:
    """Each way to the same vectors; texts are run one by one, as the service does.

    Args:
        folder: for the float32 graph, which is made here.
        pieces: word pieces that are read.
        threads: of each.
    """
    import torch  # noqa: PLC0415  (the service itself needs none)
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    torch.set_num_threads(threads)
    source = find_encoder(PACKAGED_NAMES[0])
    reference = SentenceTransformer(str(source.folder), device="cpu")
    reference.max_seq_length = pieces + 2

    def by_torch(texts: Sequence[str]) -> Vectors:
        rows = [reference.encode([text], normalize_embeddings=True, show_progress_bar=False)[0] for text in texts]
        return np.array(rows, np.float32)

    graph = encoder_graph(
        load_file(source.folder / "model.safetensors"), Shape.of(source.json("config.json")), source.pooling(),
        quantised=False,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.onnx").write_bytes(graph.SerializeToString())
    (folder / "tokenizer.json").write_bytes((source.folder / "tokenizer.json").read_bytes())
    plain = Encoder(folder, source.sha256, threads)
    int8 = Encoder.open(PACKAGED_NAMES[0], expected_sha256=source.sha256, threads=threads)
    return {
        "torch": by_torch,
        "onnx": lambda texts: plain.embed(texts, max_tokens=pieces),
        "onnx-int8": lambda texts: int8.embed(texts, max_tokens=pieces),
    }


def timed(embed: Embed, texts: Sequence[str]) -> dict[str, float]:
    """Milliseconds a text, one after the other; the median of CPU time too."""
    embed(texts[:5])
    spent: list[float] = []
    worked: list[float] = []
    for text in texts[:TIMED]:
        started, before = time.perf_counter(), time.process_time()
        embed([text])
        spent.append((time.perf_counter() - started) * 1000)
        worked.append((time.process_time() - before) * 1000)
    p50, p99 = np.quantile(spent, (0.5, 0.99)).tolist()
    return {"ms_p50": round(p50, 2), "ms_p99": round(p99, 2), "cpu_ms": round(float(np.median(worked)), 2)}


def accuracy(ways: dict[str, Embed], data: Path) -> list[dict[str, Any]]:
    """Kendall's tau of ridge regression on each way's vectors, on held-out prompts, and nearness to torch's vectors."""
    rows: list[dict[str, Any]] = []
    for name in SETS:
        recorded = read_recorded(data / "responses" / f"{name}.jsonl.gz", on_broken="refuse").rows
        drawn = np.random.default_rng(0).permutation(len(recorded))[: FITTED + JUDGED]
        prompts = [recorded[i].prompt for i in drawn]
        target = np.log1p([recorded[i].tokens for i in drawn])
        vectors = {way: embed(prompts) for way, embed in ways.items()}
        for way, found in vectors.items():
            said = Ridge(1.0).fit(found[:FITTED], target[:FITTED]).predict(found[FITTED:])
            near = (found * vectors["torch"]).sum(axis=1)
            tau = float(np.asarray(kendalltau(said, target[FITTED:]))[0])
            rows.append(
                {"dataset": name, "encoder": way, "kendall_tau": round(tau, 4), "cosine": round(float(near.mean()), 5)}
            )
    return rows
