"""Skip-join multi-level feedback queue (FastServe: Wu et al., "Fast Distributed Inference Serving for Large Language
Models", NSDI 2026, arXiv 2305.05920): what runs when no prediction is to be had."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


@dataclass(slots=True)
class Place:
    """Where a job stands.

    Attributes:
        level: of its queue, 0 the first.
        leave_at: output tokens at which it has used its quantum there.
    """

    level: int
    leave_at: float


class Mlfq(Policy):
    """Level p has a quantum of `quantum_ms` x 2^p; a request joins by its prefill time, sinks as it uses quanta up.

    It skips the levels whose quantum is shorter than its prefill, is first come, first served inside a level, and goes
    back to the top after waiting too long. Time is that of steps: a token counts one full step of the worker's
    step-time model. Unlike the paper, a displaced request keeps its KV cache on the accelerator.
    """

    name = "mlfq"
    summary = "FastServe: skip-join multi-level feedback queue; needs no prediction at all"
    ages = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/mlfq.md."""

        quantum_ms: float = option(10.0, "quantum of the first level; each next one doubles", least=0.1, most=600_000.0)
        levels: int = option(12, "queues; who sinks to the last stays there", least=1, most=32)
        promote_after_ms: float = option(
            30_000.0, "time without a token after which a request goes back to the first level", least=100.0,
            most=86_400_000.0,
        )  # fmt: skip

    options: Options

    def cost(self, job: Job, pace: Pace) -> float:
        """Time of a step, ms; at arrival the level follows from the prefill's."""
        if job.state is None:
            prefill_ms = pace.prefill_ms(job.spec.prompt_tokens + job.output_tokens)
            level = max(0, math.ceil(math.log2(max(prefill_ms, 1e-9) / self.options.quantum_ms)))
            job.state = Place(min(level, self.options.levels - 1), -1.0)
        return pace.step_ms(job.spec.prompt_tokens + job.output_tokens)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """Level, then arrival."""
        place = job.state
        assert isinstance(place, Place)
        idle_ms = now_ms - (job.arrival_ms if job.last_token_ms is None else job.last_token_ms)
        if place.leave_at < 0:
            self._enter(job, place, place.level)
        elif idle_ms >= self.options.promote_after_ms:
            self._enter(job, place, 0)
        else:
            while job.output_tokens >= place.leave_at and place.level < self.options.levels - 1:
                self._enter(job, place, place.level + 1, since=place.leave_at)
        return (float(place.level), job.arrival_ms)

    def rules(self) -> Rules:
        """A higher level takes a lower one's seat at any step."""
        return Rules(displace=True, step_seats=self.settings.step_seats)

    def _enter(self, job: Job, place: Place, level: int, since: float | None = None) -> None:
        quantum_tokens = max(1.0, self.options.quantum_ms * 2.0**level / max(job.cost, 1e-3))
        place.level = level
        place.leave_at = (job.output_tokens if since is None else since) + math.floor(quantum_tokens)
        job.review_at = place.leave_at if level < self.options.levels - 1 else math.inf
