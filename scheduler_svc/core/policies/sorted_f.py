"""Batches by length over size squared (Sorted-F, arXiv 2508.06133), for draining a backlog under a KV budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Room, context_tokens
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.policies.planned import Planned
from scheduler_svc.core.types import Job


def quality(lengths: Sequence[float]) -> float:
    """F(X) = sum of output lengths / |X|^2; smaller is better, and a large batch of short ones is best."""
    return sum(lengths) / len(lengths) ** 2


def best_batch(jobs: Sequence[Job], room: Room) -> list[Job]:
    """The batch of least F among the prefixes of `jobs` (shortest first) that fit into seats and KV; at least one job.

    Jobs that do not fit beside the shorter ones are left out. Exact where KV does not bind, since of all batches of k
    the k shortest have the least F; a greedy choice where it does.
    """
    chosen: list[Job] = []
    total = used = 0.0
    best, best_size = float("inf"), 1
    for job in jobs:
        need = context_tokens(job) + job.cost
        if chosen and (len(chosen) >= room.seats or used + need > room.kv_tokens):
            continue
        chosen.append(job)
        used += need
        total += job.cost
        worth = total / len(chosen) ** 2
        if worth <= best:
            best, best_size = worth, len(chosen)
    return chosen[:best_size]


class SortedF(Planned):
    """Batch after batch of least F, shortest first within a batch.

    It looks at the first `head` of what waits together. A batch is a place in the order here, not a barrier: the engine
    goes on batching continuously.
    """

    name = "sorted_f"
    summary = "Sorted-F: batches of least sum of lengths / size^2 under the KV budget, to drain a backlog"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/sorted_f.md."""

        head: int = option(256, "waiting requests that are put in order together", least=1, most=1024)
        plan_every_ms: float = option(1000.0, "least time between two plans", least=0.0, most=600_000.0)

    options: Options

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """Mean remaining output tokens."""
        return job.distribution.mean_remaining(job.output_tokens)

    def plan(self, waiting: Sequence[Job], room: Room, now_ms: float) -> list[Job]:  # noqa: ARG002
        """Batch after batch."""
        left = sorted(waiting, key=lambda job: (job.cost, context_tokens(job), job.job_id))
        order: list[Job] = []
        while left:
            batch = best_batch(left, room)
            order += batch
            taken = {job.job_id for job in batch}
            left = [job for job in left if job.job_id not in taken]
        return order
