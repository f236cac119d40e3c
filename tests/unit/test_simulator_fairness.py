"""Jain's index against cases worked out by hand."""

from __future__ import annotations

import pytest

from scheduler_svc.core.types import Arrived
from simulator.fairness import jain, jain_of_backlogged
from simulator.world import MODEL, Request


def request(tenant: str, arrival_ms: float, first_ms: float, last_ms: float, tokens: int) -> Request:
    made = Request(Arrived(0, tenant, MODEL, False, 1000.0, 50.0, 10, 64), tokens, arrival_ms=arrival_ms)
    made.first_ms, made.last_ms, made.received = first_ms, last_ms, tokens
    return made


def test_jain() -> None:
    assert jain([5, 5, 5, 5]) == pytest.approx(1.0)
    assert jain([8, 0, 0, 0]) == pytest.approx(0.25)
    assert jain([1, 3]) == pytest.approx(16 / 20)


def test_tokens_of_a_window_count_where_both_tenants_wait_all_through() -> None:
    requests = [
        # Served in the first window: 30 tokens of `a`, and 10 of the 20 of `b`.
        request("a", 0.0, 0.0, 100.0, 30),
        request("b", 0.0, 0.0, 200.0, 20),
        # Wait all through the first window; `b` is done waiting at 150.
        request("a", 0.0, 250.0, 260.0, 5),
        request("b", 0.0, 60.0, 260.0, 0),
        request("b", 50.0, 150.0, 260.0, 0),
        request("c", 50.0, 250.0, 260.0, 0),  # waits in half of the first window only, and has no company later
        request("a", 200.0, 260.0, 270.0, 1),
    ]
    requests.sort(key=lambda each: each.arrival_ms)
    # First window: 30 against 10. Second: `a` and `c` wait all through, none of them gets anything: nothing to share.
    assert jain_of_backlogged(requests, window_ms=100.0) == pytest.approx(40**2 / (2 * (900 + 100)))


def test_nobody_waits_or_one_tenant_alone_says_nothing() -> None:
    assert jain_of_backlogged([request("a", 0.0, 50.0, 60.0, 5), request("a", 500.0, 900.0, 950.0, 5)], 100.0) is None
    quick = [request("a", 0.0, 1.0, 2.0, 5), request("b", 500.0, 501.0, 502.0, 5)]
    assert jain_of_backlogged(quick, 100.0) is None
