"""What a client asks for, checked field by field before anything else is done with it.

Each refusal names the field by its path in `GenerateRequest`, says what is wrong and what would be right.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from fairlead.config import ClassDefaults, ClassName, SchedulerConfig, Tenant, TenantSlo
from fairlead.rpc import Refusal, invalid
from fairlead.v1 import inference_pb2, types_pb2

MAX_REQUEST_ID_CHARS = 128
MAX_MODEL_CHARS = 256
MAX_STOPS = 64
MAX_STOP_CHARS = 1024
MAX_LENGTH_HINT = 10_000_000
LEAST_SLO_MS = 0.1
MAX_SLO_MS = 86_400_000.0
"""A day."""

# field: (least, most, whether the least itself is allowed)
_SAMPLING_RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0.0, 100.0, True),
    "top_p": (0.0, 1.0, False),
    "min_p": (0.0, 1.0, True),
    "presence_penalty": (-2.0, 2.0, True),
    "frequency_penalty": (-2.0, 2.0, True),
    "repetition_penalty": (0.0, 100.0, False),
}
_NEUTRAL_PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A checked request, defaults filled in.

    Attributes:
        request_id: the client's own, or one made here.
        digest: of the content; the same id with another digest is another request.
        model: "" where none is named.
        latency_sensitive: the class that holds, clamped to what the tenant may use.
        clamped: another one was asked for.
        ttft_ms, tpot_ms, completion_ms: targets that hold; the first two bind LS requests only.
        sampling: as given, `max_tokens` filled in; not yet clamped to the context.
        continuable: a lost worker can be survived exactly in mid-answer.
        received: tokens of this answer that the client holds already.
        resume_grace_ms: how long it goes on without a client.
        length_hint: true length, from an operator; None: not told.
        may_become_be: rather than refused it is to be served as BE.
    """

    request_id: str
    digest: bytes
    model: str
    latency_sensitive: bool
    ttft_ms: float
    tpot_ms: float
    completion_ms: float | None
    sampling: types_pb2.SamplingParams
    continuable: bool
    received: Sequence[int]
    resume_grace_ms: int
    length_hint: int | None
    may_become_be: bool = False
    clamped: bool = False

    def slo(self) -> types_pb2.Slo:
        """The targets that hold, as the client is told them."""
        if not self.latency_sensitive:
            return types_pb2.Slo(completion_ms=self.completion_ms)
        return types_pb2.Slo(ttft_ms=self.ttft_ms, tpot_ms=self.tpot_ms, completion_ms=self.completion_ms)


def check_generate(
    request: inference_pb2.GenerateRequest, tenant: Tenant, config: SchedulerConfig, defaults: ClassDefaults
) -> Wanted:
    """Checks everything that can be checked without a tokenizer.

    Raises:
        Refusal: INVALID_ARGUMENT with the field's path, or PERMISSION_DENIED for a hint by a non-operator.
    """
    request_id = _request_id(request)
    if len(request.model) > MAX_MODEL_CHARS:
        raise invalid("model", f"must have at most {MAX_MODEL_CHARS} characters")
    _check_input(request, config.max_prompt_bytes)
    asked, chosen = _class_of(request, tenant)
    latency_sensitive = chosen == "ls"
    ttft_ms, tpot_ms, completion_ms = _targets(request.slo, latency_sensitive, tenant.slo, defaults)
    sampling = _sampling(request.sampling, config.default_max_tokens)
    continuable = _is_continuable(sampling)
    received = list(request.received_token_ids)
    if len(received) > sampling.max_tokens:
        raise invalid("received_token_ids", f"holds {len(received)} tokens, max_tokens is {sampling.max_tokens}")
    grace_ms = request.resume_grace_ms if request.HasField("resume_grace_ms") else config.resume_grace_ms
    return Wanted(
        request_id=request_id,
        digest=content_digest(request),
        model=request.model,
        latency_sensitive=latency_sensitive,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        completion_ms=completion_ms,
        sampling=sampling,
        continuable=continuable,
        received=received,
        resume_grace_ms=min(grace_ms, config.max_resume_grace_ms),
        length_hint=_length_hint(request, tenant),
        may_become_be=request.may_become_best_effort and "be" in tenant.classes,
        clamped=asked != chosen,
    )


def content_digest(request: inference_pb2.GenerateRequest) -> bytes:
    """SHA-256 of what is asked for: the id and the tokens already received are no part of it."""
    content = inference_pb2.GenerateRequest()
    content.CopyFrom(request)
    content.ClearField("request_id")
    content.ClearField("received_token_ids")
    return hashlib.sha256(content.SerializeToString(deterministic=True)).digest()


def check_request_id(request_id: str) -> None:
    """Raises Refusal unless it is an id that a client may choose."""
    if not 0 < len(request_id) <= MAX_REQUEST_ID_CHARS or not (request_id.isascii() and request_id.isprintable()):
        raise invalid("request_id", f"must have 1 to {MAX_REQUEST_ID_CHARS} printable ASCII characters")


def _request_id(request: inference_pb2.GenerateRequest) -> str:
    if not request.HasField("request_id"):
        return secrets.token_hex(16)
    check_request_id(request.request_id)
    return request.request_id


def _check_input(request: inference_pb2.GenerateRequest, max_bytes: int) -> None:
    kind = request.WhichOneof("input")
    match kind:
        case "text":
            size, empty = len(request.text.encode()), not request.text.strip()
        case "messages":
            size = request.messages.ByteSize()
            empty = not any(message.content.strip() for message in request.messages.messages)
        case "token_ids":
            size, empty = request.token_ids.ByteSize(), not request.token_ids.ids
        case _:
            raise invalid("input", "give text, messages or token_ids")
    if empty:
        raise invalid(kind, "the prompt is empty")
    if size > max_bytes:
        raise invalid(kind, f"the prompt has {size} bytes, at most {max_bytes} are taken (scheduler.max_prompt_bytes)")


def _class_of(request: inference_pb2.GenerateRequest, tenant: Tenant) -> tuple[ClassName, ClassName]:
    """(the class that is asked for, the one that the tenant gets)."""
    chosen: ClassName
    match request.service_class:
        case types_pb2.SERVICE_CLASS_UNSPECIFIED:
            chosen = tenant.default_class
        case types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE:
            chosen = "ls"
        case types_pb2.SERVICE_CLASS_BEST_EFFORT:
            chosen = "be"
        case unknown:
            raise invalid("service_class", f"{unknown} is no class; leave it out for the tenant's default")
    return chosen, chosen if chosen in tenant.classes else tenant.default_class


def _targets(
    slo: types_pb2.Slo, latency_sensitive: bool, own: TenantSlo, defaults: ClassDefaults
) -> tuple[float, float, float | None]:
    """TTFT, TPOT and completion that hold: as asked for, else the tenant's, else the class's."""
    for name in ("ttft_ms", "tpot_ms", "completion_ms"):
        if slo.HasField(name) and not LEAST_SLO_MS <= getattr(slo, name) <= MAX_SLO_MS:  # NaN is not
            raise invalid(f"slo.{name}", f"must be {LEAST_SLO_MS:g} to {MAX_SLO_MS:.0f}; leave it out for the default")
    completion_ms = slo.completion_ms if slo.HasField("completion_ms") else None
    if completion_ms is None and not latency_sensitive:
        completion_ms = own.completion_ms or defaults.be_completion_ms
    return (
        slo.ttft_ms if slo.HasField("ttft_ms") else own.ttft_ms or defaults.ls_ttft_ms,
        slo.tpot_ms if slo.HasField("tpot_ms") else own.tpot_ms or defaults.ls_tpot_ms,
        completion_ms,
    )


def _sampling(given: types_pb2.SamplingParams, default_max_tokens: int) -> types_pb2.SamplingParams:
    for name, (least, most, closed) in _SAMPLING_RANGES.items():
        value = getattr(given, name)
        if given.HasField(name) and not (least <= value <= most and (closed or value > least)):  # NaN is neither
            bound = "at least" if closed else "above"
            raise invalid(f"sampling.{name}", f"must be {bound} {least:g}, at most {most:g}")
    if given.HasField("max_tokens") and given.max_tokens < 1:
        raise invalid("sampling.max_tokens", "must be at least 1; leave it out for the default")
    sampling = types_pb2.SamplingParams()
    sampling.CopyFrom(given)
    if not given.HasField("max_tokens"):
        sampling.max_tokens = max(default_max_tokens, given.min_tokens)
    if sampling.min_tokens > sampling.max_tokens:
        raise invalid("sampling.min_tokens", f"must be at most max_tokens ({sampling.max_tokens})")
    if len(given.stop) > MAX_STOPS:
        raise invalid("sampling.stop", f"at most {MAX_STOPS} texts")
    for index, stop in enumerate(given.stop):
        if not 0 < len(stop) <= MAX_STOP_CHARS:
            raise invalid(f"sampling.stop[{index}]", f"must have 1 to {MAX_STOP_CHARS} characters")
    if len(given.stop_token_ids) > MAX_STOPS:
        raise invalid("sampling.stop_token_ids", f"at most {MAX_STOPS} ids")
    return sampling


def _is_continuable(sampling: types_pb2.SamplingParams) -> bool:
    """Penalties look back at how a token came to be, and a seed counts draws: neither survives a new start."""
    return not sampling.HasField("seed") and all(
        not sampling.HasField(name) or math.isclose(getattr(sampling, name), neutral)
        for name, neutral in _NEUTRAL_PENALTIES.items()
    )


def _length_hint(request: inference_pb2.GenerateRequest, tenant: Tenant) -> int | None:
    if not request.HasField("length_hint_tokens"):
        return None
    if not tenant.operator:
        raise Refusal(
            grpc.StatusCode.PERMISSION_DENIED,
            f"length_hint_tokens: tenant {tenant.name!r} is no operator; leave the hint out",
            fields=[("length_hint_tokens", "taken from operators only")],
            reason="NOT_OPERATOR",
        )
    if not 1 <= request.length_hint_tokens <= MAX_LENGTH_HINT:
        raise invalid("length_hint_tokens", f"must be 1 to {MAX_LENGTH_HINT}")
    return request.length_hint_tokens
