"""The longest work to the worker with the least: loads even out."""

from __future__ import annotations

from collections.abc import Sequence

from scheduler_svc.core.placements.base import Placement
from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView


def slice_ms(worker: WorkerView, rules: Rules) -> float:
    """Estimated work of the next slice of everything placed on a worker, ms: prefill, then decode at its pace."""
    tally, pace = worker.tally, worker.pace(rules)
    context = tally.used / max(1, len(tally))
    return pace.prefill_ms(tally.prefill) + pace.ms_per_token(round(context)) * tally.slice


class MaxMin(Placement):
    """Slice-level scheduling's max-min offloader (SCLS, arXiv 2406.13511).

    Lengths count only up to a slice, so that a wrong prediction misplaces little. Of the requests that enter at once
    the one with most work goes first, each to the worker with the least estimated work.
    """

    name = "max_min"
    summary = "SCLS: the longest request that enters goes to the worker with the least work in the next slice"
    longest_first = True

    def pick(self, job: Job, workers: Sequence[WorkerView], rules: Rules) -> WorkerView:  # noqa: ARG002
        """Least work in the next slice."""
        return min(workers, key=lambda worker: (slice_ms(worker, rules), worker.up.worker))
