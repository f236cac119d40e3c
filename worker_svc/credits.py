"""Credit batching: LS decodes with loose targets take part in fewer steps, in proportion to their targets.

Each step brings a running LS decode the *TPOT-relative proportion* TRP(r) = least TPOT SLO / own TPOT SLO of credit; it
takes part once it has a whole one, which that costs (SCORPIO, "Serving the Right Requests at the Right Time for
Heterogeneous SLOs in LLM Inference", arXiv 2505.23022, TPOT guard). The request with the least target takes part in
every step, one with twice that target in every other. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker_svc.step_types import Held, StepPlan

MOST_CREDIT = 2.0
"""Turns that a sequence kept from its seat can save up: more would come back as a burst that nobody waits for."""

_ROUNDING = 1e-9


def _earned(order: Iterable[Held]) -> list[tuple[Held, float]]:
    """Running LS decodes, each with the credit that it has in this step."""
    running = [held for held in order if held.latency_sensitive and held.decoding and held.resident]
    least_ms = min((held.tpot_ms for held in running), default=0.0)
    return [(held, min(held.credit + least_ms / held.tpot_ms, MOST_CREDIT)) for held in running]


def saving_credit(order: Iterable[Held]) -> frozenset[int]:
    """Handles that have no whole credit in this step."""
    return frozenset(held.handle for held, credit in _earned(order) if credit < 1.0 - _ROUNDING)


def credits_after(order: Iterable[Held], plan: StepPlan) -> dict[int, float]:
    """Credit by handle after `plan` was carried out; one that ran early owes nothing."""
    return {
        held.handle: max(credit - 1.0, 0.0) if held.handle in plan.quotas else credit for held, credit in _earned(order)
    }
