"""What each tenant's answered prompts were near to: vectors and lengths, apart for each unless told otherwise."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.levels import Array
from predictor_svc.online.packing import packed, unpacked
from predictor_svc.predictors.base import Arrays

MAX_TENANTS = 128
MAX_ANSWERS = 2000
"""Of one tenant; the oldest go first."""

SHARED = ""


class _Memory:
    def __init__(self, width: int) -> None:
        self.vectors = np.zeros((32, width), np.float16)
        self.lengths = np.zeros(32, np.float32)
        self.seen = 0

    def add(self, vector: Array, length: float) -> None:
        if self.seen >= len(self.lengths) and len(self.lengths) < MAX_ANSWERS:
            more = min(2 * len(self.lengths), MAX_ANSWERS) - len(self.lengths)
            self.vectors = np.concatenate((self.vectors, np.zeros((more, self.vectors.shape[1]), np.float16)))
            self.lengths = np.concatenate((self.lengths, np.zeros(more, np.float32)))
        at = self.seen % len(self.lengths)
        self.vectors[at], self.lengths[at] = vector, length
        self.seen += 1

    def kept(self) -> tuple[NDArray[np.float16], Array]:
        count = min(self.seen, len(self.lengths))
        return self.vectors[:count], self.lengths[:count]


class Memories:
    """Of the tenants that learned last.

    Args:
        width: of a vector.
        shared: all tenants have one.
    """

    def __init__(self, width: int, *, shared: bool) -> None:
        self.shared = shared
        self._width = width
        self._by_tenant: OrderedDict[str, _Memory] = OrderedDict()

    def add(self, tenant: str, vector: Array, log_length: float) -> None:
        """An answer has ended; vector [width] of its prompt, log of its tokens."""
        key = SHARED if self.shared else tenant
        memory = self._by_tenant.setdefault(key, _Memory(self._width))
        memory.add(vector, log_length)
        self._by_tenant.move_to_end(key)
        if len(self._by_tenant) > MAX_TENANTS:
            self._by_tenant.popitem(last=False)

    def of(self, tenant: str) -> tuple[Array, Array] | None:
        """Vectors [m, width] and log tokens [m]; None where nothing is remembered."""
        memory = self._by_tenant.get(SHARED if self.shared else tenant)
        if memory is None:
            return None
        vectors, lengths = memory.kept()
        return vectors.astype(np.float32), lengths

    def learned(self) -> dict[str, NDArray[Any]]:
        """As named arrays."""
        kept = [memory.kept() for memory in self._by_tenant.values()]
        return {
            "tenants": packed(list(self._by_tenant)),
            "counts": np.array([len(lengths) for _, lengths in kept], np.int32),
            "vectors": np.concatenate([np.zeros((0, self._width), np.float16), *(vectors for vectors, _ in kept)]),
            "lengths": np.concatenate([np.zeros(0, np.float32), *(lengths for _, lengths in kept)]),
        }

    @classmethod
    def restored(cls, arrays: Arrays, width: int, *, shared: bool) -> Memories:
        """From `learned`; what one for all remembered is left out where they are apart, and the other way round.

        Raises:
            ValueError, KeyError: arrays that are not that.
        """
        tenants, counts = unpacked(arrays["tenants"]), arrays["counts"].tolist()
        vectors, lengths = arrays["vectors"], arrays["lengths"]
        if vectors.shape != (sum(counts), width) or lengths.shape != (sum(counts),) or len(tenants) != len(counts):
            raise ValueError("memories: tenants, vectors and lengths don't belong together")
        if not np.isfinite(vectors).all() or not np.isfinite(lengths).all():
            raise ValueError("memories: values that are not finite")
        memories = cls(width, shared=shared)
        at = 0
        for tenant, count in zip(tenants, counts, strict=True):
            if (tenant == SHARED) == shared:
                for row in range(at, at + count):
                    memories.add(str(tenant), vectors[row], float(lengths[row]))
            at += count
        return memories
