"""What comes out of the core, to be carried out by its shell in this order."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.steps import StepRules as Rules
from scheduler_svc.core.events import Outcome


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
