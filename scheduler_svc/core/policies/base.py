"""The interface of a policy: a cost at each window, a key at any time, and the rules by which a worker fills a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from scheduler_svc.core.policies.options import NoOptions, PolicyError, read_options
from scheduler_svc.core.types import Job, PolicySettings, Rules, StepCost

DEFAULT_COST = StepCost()

MAX_TIER = 63.0
"""Tiers run from 0 to this; what waits is looked through tier by tier."""


class UnknownPolicy(PolicyError):
    """No policy of this name; the message lists the known ones."""


class BrokenPolicy(PolicyError):
    """A policy that could not even be made; the message names it and its error."""


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
        """One output token's share of a full step, ms: the work that it costs."""
        cost = self.cost
        return cost.c0_ms / self.seats + cost.c2_ms_per_decode + cost.c3_ms_per_context_token * context_tokens

    def step_ms(self, context_tokens: int) -> float:
        """A step in which every seat decodes with such a context, ms: the time between two tokens of one request."""
        return self.ms_per_token(context_tokens) * self.seats

    def prefill_ms(self, tokens: int) -> float:
        """Time that prefilling these tokens adds to a step, ms."""
        return self.cost.c1_ms_per_prefill_token * tokens


def prefill_left_tokens(job: Job) -> int:
    """Prompt and forced tokens still to be computed: all of them until its first token of this attempt."""
    return 0 if job.output_tokens > job.base_tokens else job.spec.prompt_tokens + job.base_tokens


def context_tokens(job: Job) -> int:
    """Prompt and answer so far: the KV cache that it holds, or will."""
    return job.spec.prompt_tokens + job.output_tokens


@dataclass(frozen=True, slots=True)
class Room:
    """What the workers of one model have together, for policies that plan.

    Attributes:
        seats: places in their steps.
        kv_tokens: of KV cache.
        pace: of one of them.
    """

    seats: int
    kv_tokens: int
    pace: Pace


class Policy:
    """Orders the jobs of one model, in the pool and on each worker.

    Subclasses override what differs; the defaults are those of first come, first served. A policy is deterministic:
    it reads no clock and draws no random number but from a seed among its options. It may write `job.state` and
    `job.review_at` of the job that it is asked about, nothing else.

    What a plug-in gets wrong is contained (`guard.py`): where a method raises, answers nonsense or takes too long, what
    held before holds on, and the error is counted under the policy's name.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[Any]] = NoOptions
    """A frozen dataclass of `options.option` fields; an instance is `self.options`."""
    ages: ClassVar[bool] = False
    """Whether keys change while nothing happens; such keys are refreshed about once a second."""
    follows_progress: ClassVar[bool] = True
    """Whether a cost or key may change as an answer grows. Where it may not, the simulator leaves out reports."""
    admits_by_memory: ClassVar[bool] = False
    """Whether a BE job enters a worker only while the predicted KV peak fits."""
    fair_shares: ClassVar[bool] = False
    """Whether tenants get fair shares where the configuration leaves it to the policy (docs/choices.md)."""
    sheds_load: ClassVar[bool] = False
    """Whether a request that would miss its target is refused, where the configuration leaves it to the policy."""
    classes_apart: ClassVar[bool] = False
    """Whether every LS job stands before every BE job, so that shares are kept inside each class."""
    plan_head: int = 0
    """How many of the first waiting jobs `plan` puts in order together; 0: it is never asked."""
    plan_every_ms: float = 1000.0
    """Least time between two plans while planned jobs wait."""

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings
        self.options: Any = read_options(self.name, self.Options, settings.options)

    @property
    def overload(self) -> str:
        """What becomes of a request that would miss its target: "queue", "reject" or "relegate"."""
        if self.settings.overload != "auto":
            return self.settings.overload
        return "reject" if self.sheds_load and self.settings.admission == "none" else "queue"

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:  # noqa: ARG002
        """Whether to ask the predictor about `job`, at arrival (0) and after each window."""
        return False

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """What the key is made from, computed at arrival, on each prediction and after each window."""
        return 0.0

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:  # noqa: ARG002
        """(tier, value), smaller first; ties go to the older job. Tiers run from 0 to 63.

        Asked when its cost changes, when it starts, pauses, resumes or is evicted, when its output reaches
        `job.review_at`, and once a second where keys age.
        """
        return (0.0, job.arrival_ms)

    def plan(self, waiting: Sequence[Job], room: Room, now_ms: float) -> Sequence[Job]:  # noqa: ARG002
        """All of `waiting` (`plan_head` at most, best first) in a better order; each key is then asked for again.

        `job.state` of each becomes its place, a float that only grows from plan to plan.
        """
        return waiting

    def rules(self) -> Rules:
        """How a worker fills a step."""
        return Rules(step_seats=self.settings.step_seats)
