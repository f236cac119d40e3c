"""How evenly tenants that had to wait were served: Jain's index over windows of time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairlead.lengths import Floats
from simulator.world import Request

WINDOW_MS = 10_000.0
MOST_WINDOWS = 200


def jain(shares: Sequence[float] | Floats) -> float:
    """(sum x)² / (n · sum x²): 1 where all are alike, 1/n where one has everything.

    Jain, Chiu, Hawe, "A quantitative measure of fairness and discrimination", DEC TR-301, 1984. Raises
    ZeroDivisionError where there is nothing to share.
    """
    values = np.asarray(shares, np.float64)
    squares = float(np.sum(values**2))
    if not squares:
        raise ZeroDivisionError("Jain's index of nothing")
    return float(np.sum(values)) ** 2 / (len(values) * squares)


def jain_of_backlogged(requests: Sequence[Request], window_ms: float = WINDOW_MS) -> float | None:
    """Mean over windows of Jain's index over the output tokens of the tenants that were backlogged.

    A tenant is backlogged in a window if at every moment of it a request of the tenant waits for its first token. All
    tenants weigh the same; the tokens of a request are taken to come evenly between its first and its last. Windows
    with fewer than two backlogged tenants say nothing.

    Args:
        requests: of one run.
        window_ms: their length; longer where that would make more than `MOST_WINDOWS`.

    Returns:
        None where no window says anything.
    """
    tenants: defaultdict[str, list[Request]] = defaultdict(list)
    for request in requests:
        if not request.refused:
            tenants[request.spec.tenant].append(request)
    if len(tenants) < 2:
        return None
    start_ms, end_ms = requests[0].arrival_ms, requests[-1].arrival_ms
    count = min(MOST_WINDOWS, int((end_ms - start_ms) / window_ms))
    if count < 1:
        return None
    edges = np.linspace(start_ms, end_ms, count + 1)
    waits = np.array([_waits_throughout(each, edges) for each in tenants.values()])
    tokens = np.array([_tokens(each, edges) for each in tenants.values()])
    found = [
        jain(tokens[waits[:, window], window])
        for window in range(count)
        if waits[:, window].sum() >= 2 and tokens[waits[:, window], window].any()
    ]
    return float(np.mean(found)) if found else None


def _waits_throughout(requests: Sequence[Request], edges: Floats) -> NDArray[np.bool_]:
    """For each window whether some request waits at every moment of it."""
    covered = np.zeros(len(edges) - 1, bool)
    since = until = -np.inf
    spans = sorted((each.arrival_ms, np.inf if each.first_ms is None else each.first_ms) for each in requests)
    for arrival_ms, first_ms in [*spans, (np.inf, np.inf)]:
        if arrival_ms > until:
            covered |= (edges[:-1] >= since) & (edges[1:] <= until)
            since = arrival_ms
        until = max(until, first_ms)
    return covered


def _tokens(requests: Sequence[Request], edges: Floats) -> Floats:
    """Output tokens in each window."""
    out = [each for each in requests if each.first_ms is not None and each.last_ms is not None]
    first = np.array([each.first_ms for each in out], np.float64)
    lasted = np.maximum(np.array([each.last_ms for each in out], np.float64) - first, 1e-6)
    received = np.array([each.received for each in out], np.float64)
    until = [float(np.sum(received * np.clip((edge - first) / lasted, 0.0, 1.0))) for edge in edges]
    return np.diff(np.array(until))
