"""The worker on which the work ahead will surely be done soonest."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scheduler_svc.core.placements.base import Placement
from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView

DEVIATIONS = 1.0
"""Deviations added to the mean: a worker whose work is uncertain is a worse bet (84 % level of a normal law)."""


def waiting_ms(worker: WorkerView, rules: Rules) -> tuple[float, float]:
    """(mean, deviation) of the time until everything placed on a worker is done, ms.

    W = sum of O_i / Theta: output tokens to come over the worker's throughput, normal by the central limit theorem, so
    that means and variances add (QLM, arXiv 2407.00047, section 5). Theta is 1 / (one token's share of a full step) of
    the step-time model that the worker learned; the prefill to be done comes on top, and the model's own relative error
    as further deviation.
    """
    tally, pace = worker.tally, worker.pace(rules)
    per_token = pace.ms_per_token(round(tally.used / max(1, len(tally))))
    mean = pace.prefill_ms(tally.prefill) + per_token * tally.mean
    model_error = mean * (worker.relative_error or 0.0)
    return mean, math.hypot(per_token * math.sqrt(max(tally.variance, 0.0)), model_error)


class WaitingTime(Placement):
    """Least predicted waiting time, mean and deviation."""

    name = "waiting_time"
    summary = "QLM: least predicted time until the work ahead is done, its deviation included"

    def pick(self, job: Job, workers: Sequence[WorkerView], rules: Rules) -> WorkerView:  # noqa: ARG002
        """Least mean + deviation."""

        def bound(worker: WorkerView) -> tuple[float, str]:
            mean, deviation = waiting_ms(worker, rules)
            return (mean + DEVIATIONS * deviation, worker.up.worker)

        return min(workers, key=bound)
