"""Events that go into the core, decisions that come out, and the job that both speak of.

Times are milliseconds on whatever clock the shell passes as `now_ms`. A `job_id` is the core's name of a request; the
shell uses it as the worker protocol's handle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from fairlead.lengths import LengthDistribution
from fairlead.steps import StepModel as StepCost
from fairlead.steps import StepRules as Rules
from scheduler_svc.core.choices import Choices

DEFAULT_COST = StepCost()
"""The pace of a worker that has told none yet."""

OptionValue = bool | int | float | str


class Outcome(Enum):
    """How a request ended: the closed set of `fairlead.v1.Outcome`, same names."""

    STOP = "STOP"
    LENGTH = "LENGTH"
    CANCELLED_BY_CLIENT = "CANCELLED_BY_CLIENT"
    CANCELLED_BY_OPERATOR = "CANCELLED_BY_OPERATOR"
    EXPIRED = "EXPIRED"
    SLOW_READER = "SLOW_READER"
    FAILED_ENGINE = "FAILED_ENGINE"
    FAILED_WORKER_LOST = "FAILED_WORKER_LOST"
    FAILED_INTERNAL = "FAILED_INTERNAL"


class Change(Enum):
    """What happened to a sequence on a worker besides tokens."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    EVICTED = "evicted"


class AdmitRefusal(Enum):
    """Why a worker did not take an assignment."""

    FULL = "full"
    DRAINING = "draining"
    INVALID = "invalid"
    DUPLICATE = "duplicate"


# Events


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request was accepted.

    `received_tokens` were already sent to the client by an earlier scheduler; `length_hint_tokens` is the answer's true
    length, where an operator (or the simulator) tells it.
    """

    job_id: int
    tenant: str
    model: str
    latency_sensitive: bool
    ttft_ms: float
    tpot_ms: float
    prompt_tokens: int
    max_tokens: int
    continuable: bool = True
    completion_ms: float | None = None
    expires_ms: float | None = None
    received_tokens: int = 0
    length_hint_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Predicted:
    """An answer of the predictor, or None where it gave none; `generated_tokens` as they were when it was asked."""

    job_id: int
    generated_tokens: int
    distribution: LengthDistribution | None


@dataclass(frozen=True, slots=True)
class Stepped:
    """New tokens and changes on one worker: at most one event a step for all its sequences.

    Attributes:
        tokens: (job_id, attempt, new output tokens).
        changes: (job_id, attempt, what happened).
    """

    worker: str
    tokens: tuple[tuple[int, int, int], ...] = ()
    changes: tuple[tuple[int, int, Change], ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionEnded:
    """A worker holds a sequence no more: it ended there, or its cancellation was carried out."""

    worker: str
    job_id: int
    attempt: int
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AssignRefused:
    """A worker did not take an assignment."""

    worker: str
    job_id: int
    attempt: int
    reason: AdmitRefusal
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The client, an operator, or the shell wants a request ended with this outcome."""

    job_id: int
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker is led and ready. `worker` names one incarnation."""

    worker: str
    model: str
    slots: int
    step_seats: int
    kv_blocks: int
    kv_block_tokens: int
    max_held: int
    cost: StepCost = DEFAULT_COST


@dataclass(frozen=True, slots=True)
class WorkerUpdated:
    """A worker told its pace, or that it drains (it takes nothing new and finishes what it has).

    `relative_error` is that of the step-time model: mean |measured - predicted| / measured over recent steps.
    """

    worker: str
    cost: StepCost | None = None
    draining: bool | None = None
    relative_error: float | None = None


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker's incarnation is gone with all that it held."""

    worker: str


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """Another policy, by name, with its settings; unknown names are refused before they become an event."""

    policy: str
    settings: PolicySettings


@dataclass(frozen=True, slots=True)
class PolicySettings(Choices):
    """What an operator may set with a policy: its own settings, and the choices that combine with any (`Choices`).

    Attributes:
        step_seats: places in a step on each worker; None: each worker's own.
        window_tokens: output tokens after which a request is estimated again.
        be_share: of step tokens and seats, for the oldest BE request.
        max_itl_factor: longest step while LS decodes run, in multiples of the least TPOT target.
        repredict: "auto" (as the policy wants), "always" or "never".
        options: of the policy itself, (name, value) each; texts are converted. `policies/options.py` checks them.
    """

    step_seats: int | None = None
    window_tokens: int = 50
    be_share: float = 0.05
    max_itl_factor: float = 4.0
    repredict: str = "auto"
    options: tuple[tuple[str, OptionValue], ...] = ()


@dataclass(frozen=True, slots=True)
class TenantTerms:
    """What one tenant is owed and held to; None: no bound of its own.

    Attributes:
        name: as in `Arrived.tenant`.
        weight: of its fair share, relative to the others'.
        max_in_flight: requests accepted and not ended.
        max_queued_requests: requests that wait in the pool.
        max_queued_tokens: prompt and expected output tokens of those that wait.
        tokens_per_minute: input and output tokens that may be served to it, on average.
        burst_tokens: tokens that it may run ahead of that; None: one minute's.
    """

    name: str
    weight: float = 1.0
    max_in_flight: int | None = None
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None
    tokens_per_minute: float | None = None
    burst_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class TenantsChanged:
    """The terms of all tenants from now on; a tenant that is not among them has the defaults."""

    tenants: tuple[TenantTerms, ...]


Event = (
    Arrived
    | Predicted
    | Stepped
    | ExecutionEnded
    | AssignRefused
    | CancelRequested
    | WorkerUp
    | WorkerUpdated
    | WorkerLost
    | PolicyChanged
    | TenantsChanged
)


# Decisions


@dataclass(frozen=True, slots=True)
class AskPrediction:
    """Ask the predictor about a job, with the answer so far where `generated_tokens` is not 0."""

    job_id: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Give a job to a worker. `forced_tokens` of its answer are out already and become part of its prompt.

    `best_effort`: it came as LS and is served as BE, since its targets were out of reach.
    """

    job_id: int
    worker: str
    attempt: int
    rank: int
    forced_tokens: int
    best_effort: bool = False


@dataclass(frozen=True, slots=True)
class Reorder:
    """The whole order of a worker, most urgent first; `rules` where they changed."""

    worker: str
    job_ids: tuple[int, ...]
    rules: Rules | None


@dataclass(frozen=True, slots=True)
class CancelOn:
    """End a job on a worker and free its KV cache."""

    worker: str
    job_id: int
    attempt: int


@dataclass(frozen=True, slots=True)
class End:
    """A job has its outcome; nothing follows it."""

    job_id: int
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class PolicyFault:
    """A policy raised, took too long or answered nonsense; what held before holds on. For the log, no one acts on it.

    Attributes:
        policy: its name.
        hook: the method that failed.
        detail: what went wrong, the first time.
        count: times since the last such decision.
    """

    policy: str
    hook: str
    detail: str
    count: int


Decision = AskPrediction | Assign | Reorder | CancelOn | End | PolicyFault


@dataclass(slots=True)
class Job:
    """A request as the core sees it: no text, no token ids.

    Attributes:
        worker: where it is placed; None while it waits in the pool.
        attempt: placements so far.
        seated: it took part in its worker's last known step.
        base_tokens: output tokens that were out before this attempt.
        output_tokens: tokens out, over all attempts.
        distribution: of total output tokens; a prior until a prediction comes.
        predicted: the first prediction, for the record.
        estimated_at: output tokens at which its key was last computed from the distribution.
        cost: what the policy derives from the distribution (remaining tokens, or ms of work), kept between windows.
        remaining_high: tokens still to come at the quantile that memory reckons with, kept between windows.
        remaining_mean, remaining_sd: of the tokens still to come; 0 unless the choices in force reckon with work.
        relegated: it came as LS and is BE from now on; `spec` says BE.
        key: its place in the order; smaller first.
        review_at: output tokens at which the policy wants to set another key, even within a window.
        state: what the policy in force keeps about this job; no other reads it.
        first_assigned_ms, first_token_ms, last_token_ms: None before.
    """

    spec: Arrived
    arrival_ms: float
    distribution: LengthDistribution
    worker: str | None = None
    attempt: int = 0
    seated: bool = False
    base_tokens: int = 0
    output_tokens: int = 0
    predicted: LengthDistribution | None = None
    predictions: int = 0
    estimated_at: int = 0
    cost: float = 0.0
    remaining_high: float = 0.0
    remaining_mean: float = 0.0
    remaining_sd: float = 0.0
    relegated: bool = False
    key: tuple[float, float] = (0.0, 0.0)
    review_at: float = math.inf
    state: object = None
    first_assigned_ms: float | None = None
    first_token_ms: float | None = None
    last_token_ms: float | None = None
    pauses: int = 0
    evictions: int = 0
    outcome: Outcome | None = None

    @property
    def came_as_ls(self) -> bool:
        """The class that it was accepted in."""
        return self.relegated or self.spec.latency_sensitive

    @property
    def job_id(self) -> int:
        """The core's name of it."""
        return self.spec.job_id
