"""What policies that put the head of the queue in order together have in common."""

from __future__ import annotations

from typing import Any

from scheduler_svc.core.policies.base import Policy
from scheduler_svc.core.types import Job, PolicySettings


class Planned(Policy):
    """Planned jobs by their place in the plan, then the others by arrival; who runs, runs on.

    Options of a subclass have `head` and `plan_every_ms`. Those left over from one plan are in the next one, and the
    head has a fixed size: a job that is always put last waits for at most a head of others that fared alike.
    """

    options: Any

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings)
        self.plan_head = int(self.options.head)
        self.plan_every_ms = float(self.options.plan_every_ms)

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Once, at arrival."""
        return generated_tokens == 0

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """Place in the plan; by arrival while it has none."""
        return (0.0, job.state) if isinstance(job.state, float) else (1.0, job.arrival_ms)
