"""A Llama with random weights in plain PyTorch: what its prefill and decode steps take, over batch and context sizes.

Kernels are launched one by one from Python (no CUDA graphs, no fused kernels but PyTorch's own attention), so c0 comes
out above that of a serving engine; matrix products and KV cache reads are those of the real model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812 - the name that PyTorch's own pages use
from torch import Tensor

from bench.step_profile.fit import Step


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a Llama; the default is Llama 3.1 8B's (its published config.json)."""

    layers: int = 32
    hidden: int = 4096
    intermediate: int = 14_336
    heads: int = 32
    kv_heads: int = 8
    vocabulary: int = 128_256

    @property
    def head_size(self) -> int:
        """Numbers in a head."""
        return self.hidden // self.heads

    def kv_bytes(self, tokens: int, bytes_each: int) -> int:
        """KV cache of so many tokens."""
        return 2 * self.layers * self.kv_heads * self.head_size * tokens * bytes_each


TINY = Shape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, vocabulary=256)


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured: decodes of (sequences, context each), prefills of (tokens, context before them)."""

    decodes: tuple[tuple[int, int], ...]
    prefills: tuple[tuple[int, int], ...]


FULL_GRID = Grid(
    tuple((batch, context) for batch in (1, 8, 16, 32, 64, 128, 256) for context in (128, 512, 2048, 8192)),
    tuple((tokens, context) for tokens in (64, 256, 512, 1024, 2048, 4096) for context in (0, 2048, 8192)),
)
TINY_GRID = Grid(((1, 16), (4, 16), (8, 64), (16, 128)), ((16, 0), (64, 0), (64, 64), (128, 0)))


class Llama:
    """Weights of one shape on one device, all drawn from a seed; every layer has its own, as memory traffic counts."""

    def __init__(self, shape: Shape, device: str, dtype: torch.dtype, seed: int = 0) -> None:
        self.shape, self.device, self.dtype = shape, device, dtype
        draw = torch.Generator(device).manual_seed(seed)

        def matrix(rows: int, columns: int) -> Tensor:
            made = torch.empty(rows, columns, device=device, dtype=dtype)
            return made.normal_(0.0, columns**-0.5, generator=draw)

        kv_size = shape.kv_heads * shape.head_size
        self.layers = [
            (
                matrix(shape.hidden + 2 * kv_size, shape.hidden),
                matrix(shape.hidden, shape.hidden),
                matrix(2 * shape.intermediate, shape.hidden),
                matrix(shape.hidden, shape.intermediate),
            )
            for _ in range(shape.layers)
        ]
        self.norm = torch.ones(shape.hidden, device=device, dtype=dtype)
        self.embedding = matrix(shape.vocabulary, shape.hidden)
        self.head = matrix(shape.vocabulary, shape.hidden)

    def cache(self, batch: int, context: int) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of `context` tokens for each of `batch` sequences, a pair a layer."""
        size = (batch, self.shape.kv_heads, context, self.shape.head_size)
        return [
            (
                torch.randn(size, device=self.device, dtype=self.dtype),
                torch.randn(size, device=self.device, dtype=self.dtype),
            )
            for _ in range(self.shape.layers)
        ]

    def step(self, ids: Tensor, cache: list[tuple[Tensor, Tensor]], room: int) -> Tensor:
        """The next token of each sequence.

        Args:
            ids: new tokens, [batch, tokens].
            cache: of this batch; its last `room` places take the new keys and values.
            room: tokens in a row of `ids`.
        """
        shape, x = self.shape, self.embedding[ids]
        batch, tokens, _ = x.shape
        kv_size = shape.kv_heads * shape.head_size
        for (qkv, out, up, down), (keys, values) in zip(self.layers, cache, strict=True):
            q, k, v = F.linear(self._normed(x), qkv).split((shape.hidden, kv_size, kv_size), -1)
            q, k, v = (part.view(batch, tokens, -1, shape.head_size).transpose(1, 2) for part in (q, k, v))
            position = keys.shape[2] - room
            keys[:, :, position:], values[:, :, position:] = self._turned(k, position), v
            mask = None
            if tokens > 1:
                mask = torch.ones(tokens, keys.shape[2], dtype=torch.bool, device=self.device).tril(position)
            seen = F.scaled_dot_product_attention(
                self._turned(q, position), keys, values, attn_mask=mask, enable_gqa=True
            )
            x = x + F.linear(seen.transpose(1, 2).reshape(batch, tokens, -1), out)
            gate, value = F.linear(self._normed(x), up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * value, down)
        return F.linear(self._normed(x[:, -1]), self.head).argmax(-1)

    def _normed(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (self.shape.hidden,), self.norm, 1e-5)

    def _turned(self, x: Tensor, position: int) -> Tensor:
        """Rotary position embedding (Su and others, arXiv 2104.09864)."""
        half = x.shape[-1] // 2
        places = torch.arange(position, position + x.shape[2], device=self.device, dtype=torch.float32)
        rates = 500_000.0 ** (-torch.arange(half, device=self.device, dtype=torch.float32) / half)
        angles = places[:, None] * rates
        cosine, sine = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        left, right = x[..., :half], x[..., half:]
        return torch.cat((left * cosine - right * sine, right * cosine + left * sine), -1)


def measure_llama(
    shape: Shape, grid: Grid, *, device: str, repetitions: int, kv_gib: float, told: Callable[[str], None]
) -> list[Step]:
    """Median time of each cell of the grid that fits.

    Args:
        shape: of the model.
        grid: cells.
        device: `cuda` or `cpu`.
        repetitions: of each cell, after two that are not counted.
        kv_gib: cells whose KV cache is larger are left out.
        told: a line for each cell.
    """
    model = Llama(shape, device, torch.bfloat16 if device == "cuda" else torch.float32)
    bytes_each = 2 if device == "cuda" else 4
    cells = [(batch, 1, context) for batch, context in grid.decodes] + [(1, *each) for each in grid.prefills]
    found: list[Step] = []
    with torch.inference_mode():
        for batch, tokens, context in cells:
            if shape.kv_bytes(batch * (context + tokens), bytes_each) > kv_gib * 2**30:
                told(f"{batch} sequences, {context} context tokens: left out, more than {kv_gib:g} GiB of KV cache")
                continue
            ms = _cell(model, batch, tokens, context, repetitions)
            decode = tokens == 1
            found.append(Step(0 if decode else tokens, batch if decode else 0, batch * context, ms))
            told(f"{batch} sequences, {tokens} new and {context} context tokens each: {ms:.3f} ms")
    return found


def _cell(model: Llama, batch: int, tokens: int, context: int, repetitions: int) -> float:
    ids = torch.randint(model.shape.vocabulary, (batch, tokens), device=model.device)
    cache = model.cache(batch, context + tokens)
    times: list[float] = []
    for repetition in range(repetitions + 2):
        _wait(model.device)
        began_s = time.perf_counter()
        model.step(ids, cache, tokens)
        _wait(model.device)
        if repetition >= 2:
            times.append((time.perf_counter() - began_s) * 1e3)
    return median(times)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
