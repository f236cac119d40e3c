"""The interface of a policy: a cost at each window, a key at any time, and the rules by which a worker fills a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from scheduler_svc.core.types import Job, PolicySettings, Rules, StepCost

DEFAULT_COST = StepCost()


class UnknownPolicy(ValueError):
    """No policy of this name; the message lists the known ones."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What work costs on a worker, for policies that weigh prefill against decode.

    Attributes:
        cost: the worker's step-time model.
        seats: sequences that share a step.
    """

    cost: StepCost = DEFAULT_COST
    seats: int = 16

    def ms_per_token(self, context_tokens: int) -> float:
        """One output token's share of a full step, ms."""
        cost = self.cost
        return cost.c0_ms / self.seats + cost.c2_ms_per_decode + cost.c3_ms_per_context_token * context_tokens

    def prefill_ms(self, tokens: int) -> float:
        """Time that prefilling these tokens adds to a step, ms."""
        return self.cost.c1_ms_per_prefill_token * tokens


class Policy:
    """Orders the jobs of one model, in the pool and on each worker.

    Subclasses override what differs; the defaults are those of first come, first served.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    ages: ClassVar[bool] = False
    """Whether keys change while nothing happens; such keys are refreshed about once a second."""
    admits_by_memory: ClassVar[bool] = False
    """Whether a BE job enters a worker only while the predicted KV peak fits."""

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Whether to ask the predictor about `job`, at arrival (0) and after each window."""
        return False

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """What the key is made from, computed at arrival, on each prediction and after each window."""
        return 0.0

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """(tier, value), smaller first; ties go to the older job."""
        return (0.0, job.arrival_ms)

    def rules(self) -> Rules:
        """How a worker fills a step."""
        return Rules(step_seats=self.settings.step_seats)
