"""What a client sends and receives, as plain typed Python."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias, TypedDict, cast

from fairlead.client_errors import FairleadError, InvalidRequest
from fairlead.rpc import ErrorDetails
from fairlead.v1 import inference_pb2 as inference
from fairlead.v1 import types_pb2 as types


class ServiceClass(StrEnum):
    """What a request is owed; the plain strings "ls" and "be" serve as well."""

    LATENCY_SENSITIVE = "ls"
    BEST_EFFORT = "be"


class Outcome(StrEnum):
    """How a request ended: the closed set of the contract."""

    UNSPECIFIED = "UNSPECIFIED"
    STOP = "STOP"
    LENGTH = "LENGTH"
    CANCELLED_BY_CLIENT = "CANCELLED_BY_CLIENT"
    CANCELLED_BY_OPERATOR = "CANCELLED_BY_OPERATOR"
    EXPIRED = "EXPIRED"
    SLOW_READER = "SLOW_READER"
    FAILED_ENGINE = "FAILED_ENGINE"
    FAILED_WORKER_LOST = "FAILED_WORKER_LOST"
    FAILED_INTERNAL = "FAILED_INTERNAL"

    @property
    def complete(self) -> bool:
        """Whether the answer is whole as asked: it ended by itself or at its `max_tokens`."""
        return self in (Outcome.STOP, Outcome.LENGTH)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation; `role` as the model's chat template knows it."""

    role: str
    content: str


Prompt: TypeAlias = str | Sequence[ChatMessage] | Sequence[int]
"""Plain text, a conversation (rendered with the model's chat template), or token ids."""


class RequestOptions(TypedDict, total=False):
    """What may be said of a request; absent or None: the tenant's, class's or model's own default.

    `timeout_s` is the deadline of the whole request, s. `ttft_ms`, `tpot_ms` and `completion_ms` are its targets.
    `resume_grace_ms`: how long it goes on without its client; 30 s unless said, since clients here attach again.
    `may_become_best_effort`: an LS request whose targets are out of reach is served as BE rather than refused.
    `return_token_ids`, on unless said, lets an answer go on after a scheduler was lost. The rest as in `fairlead.v1`.
    """

    model: str | None
    service_class: ServiceClass | Literal["ls", "be"] | None
    ttft_ms: float | None
    tpot_ms: float | None
    completion_ms: float | None
    max_tokens: int | None
    min_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    ignore_eos: bool | None
    request_id: str | None
    timeout_s: float | None
    resume_grace_ms: int | None
    return_token_ids: bool | None
    may_become_best_effort: bool | None
    length_hint_tokens: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """First event: from here on the request ends in exactly one outcome. Targets are those that hold, in ms."""

    request_id: str
    model: str
    tenant: str
    service_class: ServiceClass
    ttft_ms: float | None
    tpot_ms: float | None
    completion_ms: float | None
    prompt_tokens: int
    max_tokens: int
    continuable: bool


@dataclass(frozen=True, slots=True)
class Delta:
    """New text and how many tokens it brought; `first_token` is the index of the first of them in the answer."""

    first_token: int
    token_count: int
    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in and out."""

    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What the scheduler did with the request; times in ms on the scheduler's clock, from arrival there."""

    service_class: ServiceClass
    policy: str
    queue_ms: float
    ttft_ms: float | None
    predicted_p50_tokens: float | None
    predicted_p90_tokens: float | None
    evictions: int
    pauses: int
    attempts: int
    worker_id: str
    predictor: str
    predictions: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event. `detail`: one sentence for a person where the outcome is neither STOP nor LENGTH."""

    outcome: Outcome
    usage: Usage
    decision: Decision
    detail: str
    matched_stop: str | None


Event: TypeAlias = Accepted | Delta | Finished


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    request_id: str
    text: str
    token_ids: tuple[int, ...]
    outcome: Outcome
    usage: Usage
    decision: Decision
    matched_stop: str | None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that can be asked for now."""

    model: str
    max_context_tokens: int
    workers: int


class RequestFailed(FairleadError):
    """An accepted request that ended without its whole answer; `completion` holds what came."""

    def __init__(self, completion: Completion, detail: str) -> None:
        super().__init__(
            f"request {completion.request_id} ended {completion.outcome}" + (f": {detail}" if detail else ""),
            request_id=completion.request_id,
        )
        self.completion = completion


DEFAULT_RESUME_GRACE_MS = 30_000
_SLO_FIELDS = ("ttft_ms", "tpot_ms", "completion_ms")
SAMPLING_FIELDS = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "seed", "ignore_eos",
)  # fmt: skip
_REQUEST_FIELDS = ("model", "length_hint_tokens")
_CLASS_TO_PROTO = {
    ServiceClass.LATENCY_SENSITIVE: types.SERVICE_CLASS_LATENCY_SENSITIVE,
    ServiceClass.BEST_EFFORT: types.SERVICE_CLASS_BEST_EFFORT,
}


def build_request(prompt: Prompt, options: RequestOptions) -> inference.GenerateRequest:
    """The message that asks for an answer; gives the request an id where it has none, so that it can be taken up again.

    Raises:
        InvalidRequest: a value that the contract can't carry; `fields` names it.
    """
    request = inference.GenerateRequest(request_id=options.get("request_id") or uuid.uuid4().hex)
    grace = options.get("resume_grace_ms")
    set_field(request, "resume_grace_ms", DEFAULT_RESUME_GRACE_MS if grace is None else grace)
    keeps_ids = options.get("return_token_ids")
    request.return_token_ids = True if keeps_ids is None else keeps_ids
    request.may_become_best_effort = bool(options.get("may_become_best_effort"))
    _put_prompt(request, prompt)
    chosen = options.get("service_class")
    if chosen is not None:
        if chosen not in set(ServiceClass):
            raise _invalid("service_class", f"is {chosen!r}; it must be 'ls' or 'be'")
        request.service_class = _CLASS_TO_PROTO[ServiceClass(chosen)]
    for target, names in ((request, _REQUEST_FIELDS), (request.slo, _SLO_FIELDS), (request.sampling, SAMPLING_FIELDS)):
        for name in names:
            value = cast("object", options.get(name))
            if value is not None:
                set_field(target, name, value)
    request.sampling.stop.extend(options.get("stop") or ())
    try:
        request.sampling.stop_token_ids.extend(options.get("stop_token_ids") or ())
    except (TypeError, ValueError) as error:
        raise _invalid("stop_token_ids", str(error)) from None
    return request


def _put_prompt(request: inference.GenerateRequest, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        request.text = prompt
        return
    if prompt and isinstance(prompt[0], ChatMessage):
        turns = cast("Sequence[ChatMessage]", prompt)
        request.messages.messages.extend(types.ChatMessage(role=turn.role, content=turn.content) for turn in turns)
        return
    try:
        request.token_ids.ids.extend(cast("Sequence[int]", prompt))
    except (TypeError, ValueError) as error:
        raise _invalid("prompt", f"must be text, ChatMessages or token ids ({error})") from None


def set_field(message: object, name: str, value: object) -> None:
    """Sets a field of a message. Raises InvalidRequest where the value does not fit."""
    try:
        setattr(message, name, value)
    except (TypeError, ValueError) as error:
        raise _invalid(name, str(error)) from None


def _invalid(name: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {what}", details=ErrorDetails(reason="INVALID_FIELD", fields={name: what}))


def class_from_proto(value: int) -> ServiceClass:
    """The class that a message names; what is unspecified or unknown counts as best-effort."""
    latency = value == types.SERVICE_CLASS_LATENCY_SENSITIVE
    return ServiceClass.LATENCY_SENSITIVE if latency else ServiceClass.BEST_EFFORT


def accepted_from(message: inference.Accepted) -> Accepted:
    """`fairlead.v1.Accepted` as a dataclass."""
    slo = message.effective_slo
    return Accepted(
        request_id=message.request_id,
        model=message.model,
        tenant=message.tenant,
        service_class=class_from_proto(message.effective_class),
        ttft_ms=slo.ttft_ms if slo.HasField("ttft_ms") else None,
        tpot_ms=slo.tpot_ms if slo.HasField("tpot_ms") else None,
        completion_ms=slo.completion_ms if slo.HasField("completion_ms") else None,
        prompt_tokens=message.prompt_tokens,
        max_tokens=message.max_tokens,
        continuable=message.continuable,
    )


def delta_from(message: inference.Delta) -> Delta:
    """`fairlead.v1.Delta` as a dataclass."""
    return Delta(message.first_token, message.token_count, message.text, tuple(message.token_ids))


def finished_from(message: inference.Finished) -> Finished:
    """`fairlead.v1.Finished` as a dataclass; an outcome of a newer contract reads UNSPECIFIED."""
    try:
        outcome = Outcome(types.Outcome.Name(message.outcome).removeprefix("OUTCOME_"))
    except ValueError:
        outcome = Outcome.UNSPECIFIED
    told = message.decision
    decision = Decision(
        service_class=class_from_proto(told.effective_class),
        policy=told.policy,
        queue_ms=told.queue_ms,
        ttft_ms=told.ttft_ms if told.HasField("ttft_ms") else None,
        predicted_p50_tokens=told.predicted_p50_tokens if told.HasField("predicted_p50_tokens") else None,
        predicted_p90_tokens=told.predicted_p90_tokens if told.HasField("predicted_p90_tokens") else None,
        evictions=told.evictions,
        pauses=told.pauses,
        attempts=told.attempts,
        worker_id=told.worker_id,
        predictor=told.predictor,
        predictions=told.predictions,
    )
    usage = Usage(message.usage.prompt_tokens, message.usage.cached_prompt_tokens, message.usage.output_tokens)
    stop = message.matched_stop if message.HasField("matched_stop") else None
    return Finished(outcome, usage, decision, message.detail, stop)
