"""Who was lately let in with more than its share of LS: tokens accepted, forgotten with time. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

FORGOTTEN_MS = 60_000.0
"""Time in which all but 1/e of what was let in is forgotten: longer than a burst, shorter than a change of habits."""


class Recent:
    """Decayed sums by tenant; each operation costs O(1), but for a change of weights.

    Args:
        weight: of a tenant.
    """

    def __init__(self, weight: Callable[[str], float]) -> None:
        self._weight = weight
        self._sums: dict[str, tuple[float, float]] = {}
        self._whole = (0.0, 0.0)
        self._weights = 0.0

    def add(self, tenant: str, tokens: float, now_ms: float) -> None:
        """A request of so many expected tokens was let in."""
        if tenant not in self._sums:
            self._weights += self._weight(tenant)
        self._sums[tenant] = (_left(self._sums.get(tenant, (0.0, now_ms)), now_ms) + tokens, now_ms)
        self._whole = (_left(self._whole, now_ms) + tokens, now_ms)

    def beyond_share(self, tenant: str, now_ms: float) -> bool:
        """Whether a tenant's part of what was let in is more than its weight's part of all tenants known."""
        weight, weights = self._weight(tenant), self._weights
        if tenant not in self._sums:
            return False
        return _left(self._sums[tenant], now_ms) * weights > _left(self._whole, now_ms) * weight * (1.0 + 1e-9)

    def weights_changed(self) -> None:
        """Tenants have other weights."""
        self._weights = sum(self._weight(tenant) for tenant in self._sums)


def _left(entry: tuple[float, float], now_ms: float) -> float:
    value, at_ms = entry
    return value * math.exp(-max(0.0, now_ms - at_ms) / FORGOTTEN_MS)
