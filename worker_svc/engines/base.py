"""The small interface of an engine: admit, order, cancel; tokens come back a step at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from fairlead.config import WorkerConfig
from worker_svc.ordering import StepModel, StepRules


class EndReason(Enum):
    """Why a sequence ended in the engine."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    FAILED = "failed"


class ChangeKind(Enum):
    """What happened to a sequence besides tokens."""

    STARTED = "started"
    PAUSED = "paused"
    RESUMED = "resumed"
    EVICTED = "evicted"


class BadPrompt(Exception):
    """A prompt that the engine can't take; the message names what is wrong with it."""


class EngineFailed(Exception):
    """The engine can't be started or has died; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; None means the model's own default. Fields as in `fairlead.v1.SamplingParams`."""

    max_tokens: int
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine is given for one sequence.

    Attributes:
        handle: short name on this worker, never reused while held.
        token_ids: prompt, then tokens already sent to the client (`forced_tokens` of them).
        forced_tokens: how many of `token_ids` count as output.
        arrival_ms: arrival at the scheduler, on this host's monotonic clock.
        ttft_ms, tpot_ms: targets (defaults already filled in by the scheduler).
        rank: place in the order until the next ranks.
        cache_salt: separates tenants in the prefix cache.
    """

    handle: int
    token_ids: Sequence[int]
    forced_tokens: int
    sampling: Sampling
    latency_sensitive: bool
    arrival_ms: float
    ttft_ms: float
    tpot_ms: float
    rank: int
    cache_salt: str


def is_whole(request: EngineRequest, stop_ids: Container[int | None]) -> bool:
    """Whether the forced tokens are a whole answer already: they end with a token that ends answers.

    So it is where all tokens of an answer reached the client and the word of its end was lost with a worker or a
    scheduler. Going on would add tokens behind its end.

    Args:
        request: about to be taken.
        stop_ids: tokens after which its answer ends.
    """
    return bool(request.forced_tokens) and not request.sampling.min_tokens and request.token_ids[-1] in stop_ids


@dataclass(frozen=True, slots=True)
class EngineEnd:
    """The end of one sequence, in the batch that carries its last tokens."""

    handle: int
    reason: EndReason
    detail: str = ""
    matched_stop: str | None = None
    cached_prompt_tokens: int = 0


@dataclass(slots=True)
class StepBatch:
    """What happened since the last batch: at most one a step, for all sequences.

    Attributes:
        step_count: engine steps so far; step_ms: the last one's time.
        tokens: handle to new token ids; texts: handle to new text (may lag behind tokens).
        ends: sequences that ended.
        changes: (handle, what happened), in order.
        kv_blocks_used, running, waiting: the engine's state after the step.
    """

    step_count: int = 0
    step_ms: float = 0.0
    tokens: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    texts: dict[int, str] = field(default_factory=dict[int, str])
    ends: list[EngineEnd] = field(default_factory=list[EngineEnd])
    changes: list[tuple[int, ChangeKind]] = field(default_factory=list[tuple[int, ChangeKind]])
    kv_blocks_used: int = 0
    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is; fields as in `fairlead.v1.WorkerServiceDescribeResponse`."""

    engine: str
    engine_version: str
    device: str
    model: str
    max_context_tokens: int
    slots: int
    step_seats: int
    kv_blocks: int
    kv_block_tokens: int
    step_token_budget: int
    vocabulary_tokens: int | None = None


class Engine(Protocol):
    """One engine. Constructed with the worker's configuration; one process, one engine, one event loop."""

    def __init__(self, config: WorkerConfig) -> None: ...

    async def start(self) -> EngineInfo:
        """Loads the model. Raises EngineFailed with a remedy."""
        ...

    async def stop(self) -> None:
        """Ends it and frees all it holds."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain prompt, special tokens as the model wants them."""
        ...

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Applies the model's chat template. Raises BadPrompt."""
        ...

    def tokenize_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered conversation: no special tokens are added beyond the template's."""
        ...

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of these ids."""
        ...

    async def admit(self, request: EngineRequest) -> None:
        """Takes a sequence. Raises BadPrompt; anything later is told as an EngineEnd with FAILED."""
        ...

    async def set_ranks(self, handles: Sequence[int], rules: StepRules | None) -> None:
        """The new order, most urgent first; handles not named keep their order behind these. Never waits for a step."""
        ...

    async def cancel(self, handles: Sequence[int]) -> None:
        """Ends these and frees their KV at once; an EngineEnd with CANCELLED follows for each that was live."""
        ...

    def batches(self) -> AsyncIterator[StepBatch]:
        """What happens, at most one batch a step. One reader. Raises EngineFailed if the engine dies."""
        ...

    def step_model(self) -> tuple[StepModel, float | None]:
        """The fitted step-time model and its mean relative error (None before the first fit)."""
        ...
