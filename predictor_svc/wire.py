"""Questions, answers and outcomes as they stand in messages, and what is wrong with them."""

from __future__ import annotations

from fairlead.length_wire import from_wire, to_wire
from fairlead.lengths import MAX_TOKENS, LengthDistribution
from fairlead.v1 import predictor_pb2, types_pb2
from predictor_svc.batching import Failed, Late, Result
from predictor_svc.predictors.base import CannotPredict, Observed, Question

MAX_NAME_CHARS = 256

Reason = predictor_pb2.PredictionRefusalReason


def error_of(result: Result) -> str:
    """The kind of failure for telemetry; "" for an answer."""
    if isinstance(result, Failed):
        return "INTERNAL"
    if isinstance(result, Late):
        return "OVERLOADED"
    return "INVALID" if isinstance(result, CannotPredict) else ""


def what_is_wrong(request: predictor_pb2.PredictRequest) -> str:
    """The first thing wrong with a question, naming the field; "" where it is sound."""
    for field in ("model", "tenant"):
        if len(getattr(request, field)) > MAX_NAME_CHARS:
            return f"{field}: more than {MAX_NAME_CHARS} characters"
    if not 1 <= request.max_tokens <= MAX_TOKENS:
        return f"max_tokens: {request.max_tokens} is not in 1 to {MAX_TOKENS:.0f}"
    if request.generated_tokens >= request.max_tokens:
        return f"generated_tokens: {request.generated_tokens} leaves nothing of max_tokens {request.max_tokens}"
    if request.prompt_tokens > MAX_TOKENS * 16:
        return f"prompt_tokens: {request.prompt_tokens} is beyond any model's context"
    return ""


def question_of(request: predictor_pb2.PredictRequest) -> Question:
    """A sound request as a question."""
    return Question(
        model=request.model,
        tenant=request.tenant,
        latency_sensitive=request.service_class == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE,
        prompt_tokens=request.prompt_tokens,
        max_tokens=request.max_tokens,
        prompt=request.prompt,
        generated_text=request.generated_text,
        generated_tokens=request.generated_tokens,
        length_hint_tokens=request.length_hint_tokens if request.HasField("length_hint_tokens") else None,
    )


def response_of(query_id: int, result: Result) -> predictor_pb2.PredictResponse:
    """A distribution, or a refusal that says why there is none."""
    if isinstance(result, Failed):
        return refusal_of(query_id, Reason.PREDICTION_REFUSAL_REASON_INTERNAL, result.detail)
    if isinstance(result, Late):
        detail = "it waited longer than predictor.answer_within_ms; go on without a prediction"
        return refusal_of(query_id, Reason.PREDICTION_REFUSAL_REASON_OVERLOADED, detail)
    if isinstance(result, CannotPredict):
        return refusal_of(query_id, Reason.PREDICTION_REFUSAL_REASON_INVALID, result.detail)
    return predictor_pb2.PredictResponse(query_id=query_id, distribution=to_wire(result))


def refusal_of(
    query_id: int, reason: predictor_pb2.PredictionRefusalReason, detail: str
) -> predictor_pb2.PredictResponse:
    """A typed refusal of one question."""
    refusal = predictor_pb2.PredictionRefusal(reason=reason, detail=detail)
    return predictor_pb2.PredictResponse(query_id=query_id, refusal=refusal)


def says_something(one: predictor_pb2.Observation) -> bool:
    """Whether an outcome tells of a length, within bounds."""
    names_fit = len(one.model) <= MAX_NAME_CHARS and len(one.tenant) <= MAX_NAME_CHARS
    return names_fit and 1 <= one.output_tokens <= MAX_TOKENS and one.prompt_tokens <= MAX_TOKENS * 16


def observed_of(one: predictor_pb2.Observation) -> Observed:
    """An outcome to learn from."""
    return Observed(
        model=one.model,
        tenant=one.tenant,
        latency_sensitive=one.service_class == types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE,
        prompt_tokens=one.prompt_tokens,
        output_tokens=one.output_tokens,
        ended=one.outcome == types_pb2.OUTCOME_STOP,
        predicted=_law(one),
        cut=one.outcome == types_pb2.OUTCOME_LENGTH,
    )


def _law(one: predictor_pb2.Observation) -> LengthDistribution | None:
    """The law that was told for it; None where none came along or it is none."""
    if not one.HasField("predicted"):
        return None
    try:
        return from_wire(one.predicted)
    except ValueError:
        return None
