from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ServiceClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVICE_CLASS_UNSPECIFIED: _ClassVar[ServiceClass]
    SERVICE_CLASS_LATENCY_SENSITIVE: _ClassVar[ServiceClass]
    SERVICE_CLASS_BEST_EFFORT: _ClassVar[ServiceClass]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_STOP: _ClassVar[Outcome]
    OUTCOME_LENGTH: _ClassVar[Outcome]
    OUTCOME_CANCELLED_BY_CLIENT: _ClassVar[Outcome]
    OUTCOME_CANCELLED_BY_OPERATOR: _ClassVar[Outcome]
    OUTCOME_EXPIRED: _ClassVar[Outcome]
    OUTCOME_SLOW_READER: _ClassVar[Outcome]
    OUTCOME_FAILED_ENGINE: _ClassVar[Outcome]
    OUTCOME_FAILED_WORKER_LOST: _ClassVar[Outcome]
    OUTCOME_FAILED_INTERNAL: _ClassVar[Outcome]

class RefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_REASON_UNSPECIFIED: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNAUTHENTICATED: _ClassVar[RefusalReason]
    REFUSAL_REASON_KEY_NOT_VALID_NOW: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_DISABLED: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_OPERATOR: _ClassVar[RefusalReason]
    REFUSAL_REASON_INVALID_FIELD: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_MODEL: _ClassVar[RefusalReason]
    REFUSAL_REASON_NEVER_FITS: _ClassVar[RefusalReason]
    REFUSAL_REASON_ID_IN_USE: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_REQUEST: _ClassVar[RefusalReason]
    REFUSAL_REASON_NO_SUCH_TOKEN: _ClassVar[RefusalReason]
    REFUSAL_REASON_QUEUE_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_QUEUE_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_IN_FLIGHT: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_QUEUED_TOKENS: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_TOKEN_RATE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TTFT_OUT_OF_REACH: _ClassVar[RefusalReason]
    REFUSAL_REASON_COMPLETION_OUT_OF_REACH: _ClassVar[RefusalReason]
    REFUSAL_REASON_TPOT_OUT_OF_REACH: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_MANY_ARRIVALS: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_MANY_STREAMS: _ClassVar[RefusalReason]
    REFUSAL_REASON_SLOW_READER: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOKENIZER_BUSY: _ClassVar[RefusalReason]
    REFUSAL_REASON_CLASS_QUEUE_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_DRAINING: _ClassVar[RefusalReason]
    REFUSAL_REASON_NO_WORKERS: _ClassVar[RefusalReason]
    REFUSAL_REASON_NO_TOKENIZER: _ClassVar[RefusalReason]
    REFUSAL_REASON_NO_RECORD: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_TENANT: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_EXISTS: _ClassVar[RefusalReason]
    REFUSAL_REASON_ETAG_MISMATCH: _ClassVar[RefusalReason]
    REFUSAL_REASON_LAST_OPERATOR: _ClassVar[RefusalReason]
    REFUSAL_REASON_STATE_NOT_WRITABLE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_MANY_TENANTS: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_MANY_KEYS: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_ENABLED: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_BUSY: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_CONFIGURED: _ClassVar[RefusalReason]
    REFUSAL_REASON_UNKNOWN_JOB: _ClassVar[RefusalReason]
    REFUSAL_REASON_JOB_LIVES: _ClassVar[RefusalReason]
    REFUSAL_REASON_KEY_IN_USE: _ClassVar[RefusalReason]
    REFUSAL_REASON_JOB_TOO_LARGE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TENANT_JOBS_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_JOURNAL_FULL: _ClassVar[RefusalReason]
    REFUSAL_REASON_JOURNAL_UNAVAILABLE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_MANY_SUBMISSIONS: _ClassVar[RefusalReason]
    REFUSAL_REASON_SUBMISSION_STALLED: _ClassVar[RefusalReason]
    REFUSAL_REASON_CLASS_NOT_ALLOWED: _ClassVar[RefusalReason]
    REFUSAL_REASON_LEAD_FIRST: _ClassVar[RefusalReason]
    REFUSAL_REASON_VERSION: _ClassVar[RefusalReason]
    REFUSAL_REASON_STALE_EPOCH: _ClassVar[RefusalReason]
    REFUSAL_REASON_SUPERSEDED: _ClassVar[RefusalReason]
    REFUSAL_REASON_LEADS_ALREADY: _ClassVar[RefusalReason]
    REFUSAL_REASON_STOPPING: _ClassVar[RefusalReason]
    REFUSAL_REASON_CREDENTIALS_DIFFER: _ClassVar[RefusalReason]
    REFUSAL_REASON_NOT_SCHEDULER: _ClassVar[RefusalReason]
    REFUSAL_REASON_NO_RULE: _ClassVar[RefusalReason]
    REFUSAL_REASON_TOO_MANY_CALLS: _ClassVar[RefusalReason]
SERVICE_CLASS_UNSPECIFIED: ServiceClass
SERVICE_CLASS_LATENCY_SENSITIVE: ServiceClass
SERVICE_CLASS_BEST_EFFORT: ServiceClass
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_STOP: Outcome
OUTCOME_LENGTH: Outcome
OUTCOME_CANCELLED_BY_CLIENT: Outcome
OUTCOME_CANCELLED_BY_OPERATOR: Outcome
OUTCOME_EXPIRED: Outcome
OUTCOME_SLOW_READER: Outcome
OUTCOME_FAILED_ENGINE: Outcome
OUTCOME_FAILED_WORKER_LOST: Outcome
OUTCOME_FAILED_INTERNAL: Outcome
REFUSAL_REASON_UNSPECIFIED: RefusalReason
REFUSAL_REASON_UNAUTHENTICATED: RefusalReason
REFUSAL_REASON_KEY_NOT_VALID_NOW: RefusalReason
REFUSAL_REASON_TENANT_DISABLED: RefusalReason
REFUSAL_REASON_NOT_OPERATOR: RefusalReason
REFUSAL_REASON_INVALID_FIELD: RefusalReason
REFUSAL_REASON_UNKNOWN_MODEL: RefusalReason
REFUSAL_REASON_NEVER_FITS: RefusalReason
REFUSAL_REASON_ID_IN_USE: RefusalReason
REFUSAL_REASON_UNKNOWN_REQUEST: RefusalReason
REFUSAL_REASON_NO_SUCH_TOKEN: RefusalReason
REFUSAL_REASON_QUEUE_FULL: RefusalReason
REFUSAL_REASON_TENANT_QUEUE_FULL: RefusalReason
REFUSAL_REASON_TENANT_IN_FLIGHT: RefusalReason
REFUSAL_REASON_TENANT_QUEUED_TOKENS: RefusalReason
REFUSAL_REASON_TENANT_TOKEN_RATE: RefusalReason
REFUSAL_REASON_TTFT_OUT_OF_REACH: RefusalReason
REFUSAL_REASON_COMPLETION_OUT_OF_REACH: RefusalReason
REFUSAL_REASON_TPOT_OUT_OF_REACH: RefusalReason
REFUSAL_REASON_TOO_MANY_ARRIVALS: RefusalReason
REFUSAL_REASON_TOO_MANY_STREAMS: RefusalReason
REFUSAL_REASON_SLOW_READER: RefusalReason
REFUSAL_REASON_TOKENIZER_BUSY: RefusalReason
REFUSAL_REASON_CLASS_QUEUE_FULL: RefusalReason
REFUSAL_REASON_DRAINING: RefusalReason
REFUSAL_REASON_NO_WORKERS: RefusalReason
REFUSAL_REASON_NO_TOKENIZER: RefusalReason
REFUSAL_REASON_NO_RECORD: RefusalReason
REFUSAL_REASON_UNKNOWN_TENANT: RefusalReason
REFUSAL_REASON_TENANT_EXISTS: RefusalReason
REFUSAL_REASON_ETAG_MISMATCH: RefusalReason
REFUSAL_REASON_LAST_OPERATOR: RefusalReason
REFUSAL_REASON_STATE_NOT_WRITABLE: RefusalReason
REFUSAL_REASON_TOO_MANY_TENANTS: RefusalReason
REFUSAL_REASON_TOO_MANY_KEYS: RefusalReason
REFUSAL_REASON_TENANT_ENABLED: RefusalReason
REFUSAL_REASON_TENANT_BUSY: RefusalReason
REFUSAL_REASON_TENANT_CONFIGURED: RefusalReason
REFUSAL_REASON_UNKNOWN_JOB: RefusalReason
REFUSAL_REASON_JOB_LIVES: RefusalReason
REFUSAL_REASON_KEY_IN_USE: RefusalReason
REFUSAL_REASON_JOB_TOO_LARGE: RefusalReason
REFUSAL_REASON_TENANT_JOBS_FULL: RefusalReason
REFUSAL_REASON_JOURNAL_FULL: RefusalReason
REFUSAL_REASON_JOURNAL_UNAVAILABLE: RefusalReason
REFUSAL_REASON_TOO_MANY_SUBMISSIONS: RefusalReason
REFUSAL_REASON_SUBMISSION_STALLED: RefusalReason
REFUSAL_REASON_CLASS_NOT_ALLOWED: RefusalReason
REFUSAL_REASON_LEAD_FIRST: RefusalReason
REFUSAL_REASON_VERSION: RefusalReason
REFUSAL_REASON_STALE_EPOCH: RefusalReason
REFUSAL_REASON_SUPERSEDED: RefusalReason
REFUSAL_REASON_LEADS_ALREADY: RefusalReason
REFUSAL_REASON_STOPPING: RefusalReason
REFUSAL_REASON_CREDENTIALS_DIFFER: RefusalReason
REFUSAL_REASON_NOT_SCHEDULER: RefusalReason
REFUSAL_REASON_NO_RULE: RefusalReason
REFUSAL_REASON_TOO_MANY_CALLS: RefusalReason

class Slo(_message.Message):
    __slots__ = ("ttft_ms", "tpot_ms", "completion_ms")
    TTFT_MS_FIELD_NUMBER: _ClassVar[int]
    TPOT_MS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_MS_FIELD_NUMBER: _ClassVar[int]
    ttft_ms: float
    tpot_ms: float
    completion_ms: float
    def __init__(self, ttft_ms: _Optional[float] = ..., tpot_ms: _Optional[float] = ..., completion_ms: _Optional[float] = ...) -> None: ...

class SamplingParams(_message.Message):
    __slots__ = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "max_tokens", "min_tokens", "stop", "stop_token_ids", "ignore_eos")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    seed: int
    max_tokens: int
    min_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    def __init__(self, temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., seed: _Optional[int] = ..., max_tokens: _Optional[int] = ..., min_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: _Optional[bool] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class ChatMessages(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class LengthDistribution(_message.Message):
    __slots__ = ("levels", "tokens", "tail_index", "generated_tokens", "source")
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TAIL_INDEX_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    levels: _containers.RepeatedScalarFieldContainer[float]
    tokens: _containers.RepeatedScalarFieldContainer[float]
    tail_index: float
    generated_tokens: int
    source: str
    def __init__(self, levels: _Optional[_Iterable[float]] = ..., tokens: _Optional[_Iterable[float]] = ..., tail_index: _Optional[float] = ..., generated_tokens: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "cached_prompt_tokens", "output_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., cached_prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("effective_class", "policy", "queue_ms", "ttft_ms", "predicted_p50_tokens", "predicted_p90_tokens", "evictions", "pauses", "attempts", "worker_id", "predictor", "predictions")
    EFFECTIVE_CLASS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    TTFT_MS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_P50_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_P90_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    PAUSES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    effective_class: ServiceClass
    policy: str
    queue_ms: float
    ttft_ms: float
    predicted_p50_tokens: float
    predicted_p90_tokens: float
    evictions: int
    pauses: int
    attempts: int
    worker_id: str
    predictor: str
    predictions: int
    def __init__(self, effective_class: _Optional[_Union[ServiceClass, str]] = ..., policy: _Optional[str] = ..., queue_ms: _Optional[float] = ..., ttft_ms: _Optional[float] = ..., predicted_p50_tokens: _Optional[float] = ..., predicted_p90_tokens: _Optional[float] = ..., evictions: _Optional[int] = ..., pauses: _Optional[int] = ..., attempts: _Optional[int] = ..., worker_id: _Optional[str] = ..., predictor: _Optional[str] = ..., predictions: _Optional[int] = ...) -> None: ...
