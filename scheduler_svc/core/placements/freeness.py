"""The freest worker, by memory for each request that runs."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler_svc.core.placements.base import Placement
from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView

LS_HEADROOM = 0.1
"""Part of the KV cache kept free beside LS requests, so that what comes in does not slow them or cost them theirs."""


def freeness(worker: WorkerView) -> float:
    """F = (M - sum of virtual usage) / B in KV tokens for each request; below 0 where requests queue for memory.

    M is the KV cache, B the requests placed (1 at least). Virtual usage is what a running request holds; what a waiting
    one will need for its prompt, so that a queue shows as usage; and a head-room once LS requests are there. (Llumnix,
    OSDI '24, section 4.4, "virtual usage".)
    """
    kv_tokens = worker.up.kv_blocks * worker.up.kv_block_tokens
    tally = worker.tally
    headroom = LS_HEADROOM * kv_tokens if tally.latency_sensitive else 0.0
    return (kv_tokens - tally.used - headroom) / max(1, worker.placed)


class Freeness(Placement):
    """Most free KV cache for each request that shares it: how long it can run before memory is scarce."""

    name = "freeness"
    summary = "Llumnix: most free KV cache for each request, with head-room for LS"

    def pick(self, job: Job, workers: Sequence[WorkerView], rules: Rules) -> WorkerView:  # noqa: ARG002
        """Greatest freeness."""
        return min(workers, key=lambda worker: (-freeness(worker), worker.up.worker))
