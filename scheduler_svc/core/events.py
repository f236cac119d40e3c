"""What goes into the core: one frozen dataclass an event.

Times are milliseconds on whatever clock the shell passes as `now_ms`. A `job_id` is the core's name of a request; the
shell uses it as the worker protocol's handle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fairlead.lengths import LengthDistribution
from fairlead.steps import StepModel as StepCost
from scheduler_svc.core.settings import PolicySettings, TenantTerms

DEFAULT_COST = StepCost()
"""The pace of a worker that has told none yet."""


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


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request was accepted.

    `received_tokens` were already sent to the client by an earlier scheduler; `length_hint_tokens` is the answer's true
    length, where an operator (or the simulator) tells it; `may_become_be`: rather than refused, an LS request whose
    targets are out of reach is to be served as BE.
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
    may_become_be: bool = False


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
class TenantsChanged:
    """The terms of all tenants from now on; who is not among them has the defaults. Nothing accepted ends by it."""

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
