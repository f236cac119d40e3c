from fairlead.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictionRefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PREDICTION_REFUSAL_REASON_UNSPECIFIED: _ClassVar[PredictionRefusalReason]
    PREDICTION_REFUSAL_REASON_OVERLOADED: _ClassVar[PredictionRefusalReason]
    PREDICTION_REFUSAL_REASON_INVALID: _ClassVar[PredictionRefusalReason]
    PREDICTION_REFUSAL_REASON_INTERNAL: _ClassVar[PredictionRefusalReason]
PREDICTION_REFUSAL_REASON_UNSPECIFIED: PredictionRefusalReason
PREDICTION_REFUSAL_REASON_OVERLOADED: PredictionRefusalReason
PREDICTION_REFUSAL_REASON_INVALID: PredictionRefusalReason
PREDICTION_REFUSAL_REASON_INTERNAL: PredictionRefusalReason

class PredictRequest(_message.Message):
    __slots__ = ("query_id", "model", "tenant", "service_class", "prompt_tokens", "max_tokens", "prompt", "generated_text", "generated_tokens", "temperature", "length_hint_tokens", "traceparent", "tracestate")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TEXT_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_HINT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    query_id: int
    model: str
    tenant: str
    service_class: _types_pb2.ServiceClass
    prompt_tokens: int
    max_tokens: int
    prompt: str
    generated_text: str
    generated_tokens: int
    temperature: float
    length_hint_tokens: int
    traceparent: str
    tracestate: str
    def __init__(self, query_id: _Optional[int] = ..., model: _Optional[str] = ..., tenant: _Optional[str] = ..., service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., prompt_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ..., prompt: _Optional[str] = ..., generated_text: _Optional[str] = ..., generated_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., length_hint_tokens: _Optional[int] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("query_id", "distribution", "refusal")
    QUERY_ID_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    query_id: int
    distribution: _types_pb2.LengthDistribution
    refusal: PredictionRefusal
    def __init__(self, query_id: _Optional[int] = ..., distribution: _Optional[_Union[_types_pb2.LengthDistribution, _Mapping]] = ..., refusal: _Optional[_Union[PredictionRefusal, _Mapping]] = ...) -> None: ...

class PredictionRefusal(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: PredictionRefusalReason
    detail: str
    def __init__(self, reason: _Optional[_Union[PredictionRefusalReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class ObserveRequest(_message.Message):
    __slots__ = ("observations",)
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    observations: _containers.RepeatedCompositeFieldContainer[Observation]
    def __init__(self, observations: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("model", "tenant", "service_class", "prompt_tokens", "max_tokens", "output_tokens", "outcome", "predicted")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    model: str
    tenant: str
    service_class: _types_pb2.ServiceClass
    prompt_tokens: int
    max_tokens: int
    output_tokens: int
    outcome: _types_pb2.Outcome
    predicted: _types_pb2.LengthDistribution
    def __init__(self, model: _Optional[str] = ..., tenant: _Optional[str] = ..., service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., prompt_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., predicted: _Optional[_Union[_types_pb2.LengthDistribution, _Mapping]] = ...) -> None: ...

class ObserveResponse(_message.Message):
    __slots__ = ("learned",)
    LEARNED_FIELD_NUMBER: _ClassVar[int]
    learned: int
    def __init__(self, learned: _Optional[int] = ...) -> None: ...

class PredictorServiceDescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PredictorServiceDescribeResponse(_message.Message):
    __slots__ = ("predictor", "protocol_version", "fingerprint", "standings")
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STANDINGS_FIELD_NUMBER: _ClassVar[int]
    predictor: str
    protocol_version: int
    fingerprint: str
    standings: _containers.RepeatedCompositeFieldContainer[PredictorStanding]
    def __init__(self, predictor: _Optional[str] = ..., protocol_version: _Optional[int] = ..., fingerprint: _Optional[str] = ..., standings: _Optional[_Iterable[_Union[PredictorStanding, _Mapping]]] = ...) -> None: ...

class PredictorStanding(_message.Message):
    __slots__ = ("model", "tenant", "outcomes", "coverage_90", "drifts", "drifting", "put_aside")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_90_FIELD_NUMBER: _ClassVar[int]
    DRIFTS_FIELD_NUMBER: _ClassVar[int]
    DRIFTING_FIELD_NUMBER: _ClassVar[int]
    PUT_ASIDE_FIELD_NUMBER: _ClassVar[int]
    model: str
    tenant: str
    outcomes: int
    coverage_90: float
    drifts: int
    drifting: bool
    put_aside: bool
    def __init__(self, model: _Optional[str] = ..., tenant: _Optional[str] = ..., outcomes: _Optional[int] = ..., coverage_90: _Optional[float] = ..., drifts: _Optional[int] = ..., drifting: _Optional[bool] = ..., put_aside: _Optional[bool] = ...) -> None: ...
