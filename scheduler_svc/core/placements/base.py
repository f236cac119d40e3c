"""The interface of a placement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from scheduler_svc.core.types import Job, Rules
from scheduler_svc.core.workers import WorkerView


class Placement:
    """Picks a worker; deterministic, ties go to the name.

    A worker's `tally` has the sums of what is placed on it, its `cost` the step-time model that it learned, its
    `relative_error` how far that is off.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    longest_first: ClassVar[bool] = False
    """Of the jobs that can be placed at once, those with most work go first, so that the rest evens out."""

    def pick(self, job: Job, workers: Sequence[WorkerView], rules: Rules) -> WorkerView:
        """The one of `workers`, at least one, all with room, that `job` goes to."""
        raise NotImplementedError
