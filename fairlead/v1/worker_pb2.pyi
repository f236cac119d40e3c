from fairlead.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChunkSizing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHUNK_SIZING_UNSPECIFIED: _ClassVar[ChunkSizing]
    CHUNK_SIZING_FIXED: _ClassVar[ChunkSizing]
    CHUNK_SIZING_SLACK: _ClassVar[ChunkSizing]

class SequenceChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEQUENCE_CHANGE_KIND_UNSPECIFIED: _ClassVar[SequenceChangeKind]
    SEQUENCE_CHANGE_KIND_STARTED: _ClassVar[SequenceChangeKind]
    SEQUENCE_CHANGE_KIND_PAUSED: _ClassVar[SequenceChangeKind]
    SEQUENCE_CHANGE_KIND_RESUMED: _ClassVar[SequenceChangeKind]
    SEQUENCE_CHANGE_KIND_EVICTED: _ClassVar[SequenceChangeKind]

class AdmitRefusalReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADMIT_REFUSAL_REASON_UNSPECIFIED: _ClassVar[AdmitRefusalReason]
    ADMIT_REFUSAL_REASON_FULL: _ClassVar[AdmitRefusalReason]
    ADMIT_REFUSAL_REASON_DRAINING: _ClassVar[AdmitRefusalReason]
    ADMIT_REFUSAL_REASON_INVALID: _ClassVar[AdmitRefusalReason]
    ADMIT_REFUSAL_REASON_DUPLICATE: _ClassVar[AdmitRefusalReason]
CHUNK_SIZING_UNSPECIFIED: ChunkSizing
CHUNK_SIZING_FIXED: ChunkSizing
CHUNK_SIZING_SLACK: ChunkSizing
SEQUENCE_CHANGE_KIND_UNSPECIFIED: SequenceChangeKind
SEQUENCE_CHANGE_KIND_STARTED: SequenceChangeKind
SEQUENCE_CHANGE_KIND_PAUSED: SequenceChangeKind
SEQUENCE_CHANGE_KIND_RESUMED: SequenceChangeKind
SEQUENCE_CHANGE_KIND_EVICTED: SequenceChangeKind
ADMIT_REFUSAL_REASON_UNSPECIFIED: AdmitRefusalReason
ADMIT_REFUSAL_REASON_FULL: AdmitRefusalReason
ADMIT_REFUSAL_REASON_DRAINING: AdmitRefusalReason
ADMIT_REFUSAL_REASON_INVALID: AdmitRefusalReason
ADMIT_REFUSAL_REASON_DUPLICATE: AdmitRefusalReason

class WorkerServiceDescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WorkerServiceDescribeResponse(_message.Message):
    __slots__ = ("worker_id", "incarnation", "protocol_version", "model", "engine", "engine_version", "device", "max_context_tokens", "slots", "step_seats", "kv_blocks", "kv_block_tokens", "step_token_budget", "draining", "step_model", "max_held", "leader_epoch", "vocabulary_tokens")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    STEP_SEATS_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEP_TOKEN_BUDGET_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    STEP_MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_HELD_FIELD_NUMBER: _ClassVar[int]
    LEADER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    incarnation: str
    protocol_version: int
    model: str
    engine: str
    engine_version: str
    device: str
    max_context_tokens: int
    slots: int
    step_seats: int
    kv_blocks: int
    kv_block_tokens: int
    step_token_budget: int
    draining: bool
    step_model: StepModel
    max_held: int
    leader_epoch: int
    vocabulary_tokens: int
    def __init__(self, worker_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., protocol_version: _Optional[int] = ..., model: _Optional[str] = ..., engine: _Optional[str] = ..., engine_version: _Optional[str] = ..., device: _Optional[str] = ..., max_context_tokens: _Optional[int] = ..., slots: _Optional[int] = ..., step_seats: _Optional[int] = ..., kv_blocks: _Optional[int] = ..., kv_block_tokens: _Optional[int] = ..., step_token_budget: _Optional[int] = ..., draining: _Optional[bool] = ..., step_model: _Optional[_Union[StepModel, _Mapping]] = ..., max_held: _Optional[int] = ..., leader_epoch: _Optional[int] = ..., vocabulary_tokens: _Optional[int] = ...) -> None: ...

class StepModel(_message.Message):
    __slots__ = ("c0_ms", "c1_ms_per_prefill_token", "c2_ms_per_decode", "c3_ms_per_context_token", "relative_error")
    C0_MS_FIELD_NUMBER: _ClassVar[int]
    C1_MS_PER_PREFILL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    C2_MS_PER_DECODE_FIELD_NUMBER: _ClassVar[int]
    C3_MS_PER_CONTEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_ERROR_FIELD_NUMBER: _ClassVar[int]
    c0_ms: float
    c1_ms_per_prefill_token: float
    c2_ms_per_decode: float
    c3_ms_per_context_token: float
    relative_error: float
    def __init__(self, c0_ms: _Optional[float] = ..., c1_ms_per_prefill_token: _Optional[float] = ..., c2_ms_per_decode: _Optional[float] = ..., c3_ms_per_context_token: _Optional[float] = ..., relative_error: _Optional[float] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("model", "text", "messages", "token_ids")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    messages: _types_pb2.ChatMessages
    token_ids: _types_pb2.TokenIds
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., messages: _Optional[_Union[_types_pb2.ChatMessages, _Mapping]] = ..., token_ids: _Optional[_Union[_types_pb2.TokenIds, _Mapping]] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("token_ids", "rendered_text")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    RENDERED_TEXT_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    rendered_text: str
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., rendered_text: _Optional[str] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("lead", "admit", "ranks", "cancel", "release", "replay")
    LEAD_FIELD_NUMBER: _ClassVar[int]
    ADMIT_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    lead: Lead
    admit: Admit
    ranks: Ranks
    cancel: CancelExecution
    release: Release
    replay: Replay
    def __init__(self, lead: _Optional[_Union[Lead, _Mapping]] = ..., admit: _Optional[_Union[Admit, _Mapping]] = ..., ranks: _Optional[_Union[Ranks, _Mapping]] = ..., cancel: _Optional[_Union[CancelExecution, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., replay: _Optional[_Union[Replay, _Mapping]] = ...) -> None: ...

class Lead(_message.Message):
    __slots__ = ("scheduler_id", "epoch", "protocol_version")
    SCHEDULER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    scheduler_id: str
    epoch: int
    protocol_version: int
    def __init__(self, scheduler_id: _Optional[str] = ..., epoch: _Optional[int] = ..., protocol_version: _Optional[int] = ...) -> None: ...

class Admit(_message.Message):
    __slots__ = ("handle", "attempt", "request_key", "token_ids", "forced_tokens", "sampling", "service_class", "slo", "age_ms", "cache_salt", "rank", "coalesce_tokens", "traceparent", "tracestate")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    FORCED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    SLO_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    CACHE_SALT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    COALESCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    handle: int
    attempt: int
    request_key: str
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    forced_tokens: int
    sampling: _types_pb2.SamplingParams
    service_class: _types_pb2.ServiceClass
    slo: _types_pb2.Slo
    age_ms: float
    cache_salt: str
    rank: int
    coalesce_tokens: int
    traceparent: str
    tracestate: str
    def __init__(self, handle: _Optional[int] = ..., attempt: _Optional[int] = ..., request_key: _Optional[str] = ..., token_ids: _Optional[_Iterable[int]] = ..., forced_tokens: _Optional[int] = ..., sampling: _Optional[_Union[_types_pb2.SamplingParams, _Mapping]] = ..., service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., slo: _Optional[_Union[_types_pb2.Slo, _Mapping]] = ..., age_ms: _Optional[float] = ..., cache_salt: _Optional[str] = ..., rank: _Optional[int] = ..., coalesce_tokens: _Optional[int] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class Ranks(_message.Message):
    __slots__ = ("version", "handles", "rules")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    version: int
    handles: _containers.RepeatedScalarFieldContainer[int]
    rules: StepRules
    def __init__(self, version: _Optional[int] = ..., handles: _Optional[_Iterable[int]] = ..., rules: _Optional[_Union[StepRules, _Mapping]] = ...) -> None: ...

class StepRules(_message.Message):
    __slots__ = ("class_tiers", "step_budget", "displace", "evict", "step_seats", "be_share", "max_itl_factor", "yield_when_ahead", "relegate_late", "hold_be_decodes", "min_chunk_tokens", "chunking", "chunk_tokens", "credit_batching", "borrow_tpots")
    CLASS_TIERS_FIELD_NUMBER: _ClassVar[int]
    STEP_BUDGET_FIELD_NUMBER: _ClassVar[int]
    DISPLACE_FIELD_NUMBER: _ClassVar[int]
    EVICT_FIELD_NUMBER: _ClassVar[int]
    STEP_SEATS_FIELD_NUMBER: _ClassVar[int]
    BE_SHARE_FIELD_NUMBER: _ClassVar[int]
    MAX_ITL_FACTOR_FIELD_NUMBER: _ClassVar[int]
    YIELD_WHEN_AHEAD_FIELD_NUMBER: _ClassVar[int]
    RELEGATE_LATE_FIELD_NUMBER: _ClassVar[int]
    HOLD_BE_DECODES_FIELD_NUMBER: _ClassVar[int]
    MIN_CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHUNKING_FIELD_NUMBER: _ClassVar[int]
    CHUNK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BATCHING_FIELD_NUMBER: _ClassVar[int]
    BORROW_TPOTS_FIELD_NUMBER: _ClassVar[int]
    class_tiers: bool
    step_budget: bool
    displace: bool
    evict: bool
    step_seats: int
    be_share: float
    max_itl_factor: float
    yield_when_ahead: bool
    relegate_late: bool
    hold_be_decodes: bool
    min_chunk_tokens: int
    chunking: ChunkSizing
    chunk_tokens: int
    credit_batching: bool
    borrow_tpots: float
    def __init__(self, class_tiers: _Optional[bool] = ..., step_budget: _Optional[bool] = ..., displace: _Optional[bool] = ..., evict: _Optional[bool] = ..., step_seats: _Optional[int] = ..., be_share: _Optional[float] = ..., max_itl_factor: _Optional[float] = ..., yield_when_ahead: _Optional[bool] = ..., relegate_late: _Optional[bool] = ..., hold_be_decodes: _Optional[bool] = ..., min_chunk_tokens: _Optional[int] = ..., chunking: _Optional[_Union[ChunkSizing, str]] = ..., chunk_tokens: _Optional[int] = ..., credit_batching: _Optional[bool] = ..., borrow_tpots: _Optional[float] = ...) -> None: ...

class CancelExecution(_message.Message):
    __slots__ = ("handles",)
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, handles: _Optional[_Iterable[int]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("handles",)
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    handles: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, handles: _Optional[_Iterable[int]] = ...) -> None: ...

class Replay(_message.Message):
    __slots__ = ("handle", "from_token")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    FROM_TOKEN_FIELD_NUMBER: _ClassVar[int]
    handle: int
    from_token: int
    def __init__(self, handle: _Optional[int] = ..., from_token: _Optional[int] = ...) -> None: ...

class ExecuteResponse(_message.Message):
    __slots__ = ("leading", "steps", "replayed", "capacity", "admit_refused")
    LEADING_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    ADMIT_REFUSED_FIELD_NUMBER: _ClassVar[int]
    leading: Leading
    steps: Steps
    replayed: Replayed
    capacity: Capacity
    admit_refused: AdmitRefused
    def __init__(self, leading: _Optional[_Union[Leading, _Mapping]] = ..., steps: _Optional[_Union[Steps, _Mapping]] = ..., replayed: _Optional[_Union[Replayed, _Mapping]] = ..., capacity: _Optional[_Union[Capacity, _Mapping]] = ..., admit_refused: _Optional[_Union[AdmitRefused, _Mapping]] = ...) -> None: ...

class Leading(_message.Message):
    __slots__ = ("worker_id", "incarnation", "protocol_version", "held")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    incarnation: str
    protocol_version: int
    held: _containers.RepeatedCompositeFieldContainer[Held]
    def __init__(self, worker_id: _Optional[str] = ..., incarnation: _Optional[str] = ..., protocol_version: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("handle", "attempt", "request_key", "output_tokens", "outcome")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_KEY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    handle: int
    attempt: int
    request_key: str
    output_tokens: int
    outcome: _types_pb2.Outcome
    def __init__(self, handle: _Optional[int] = ..., attempt: _Optional[int] = ..., request_key: _Optional[str] = ..., output_tokens: _Optional[int] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ...) -> None: ...

class Steps(_message.Message):
    __slots__ = ("step_count", "step_ms", "handles", "attempts", "first_tokens", "token_counts", "token_ids", "texts", "ends", "changes", "kv_blocks_used", "running", "waiting")
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_MS_FIELD_NUMBER: _ClassVar[int]
    HANDLES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNTS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_USED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    step_count: int
    step_ms: float
    handles: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    first_tokens: _containers.RepeatedScalarFieldContainer[int]
    token_counts: _containers.RepeatedScalarFieldContainer[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    ends: _containers.RepeatedCompositeFieldContainer[ExecutionEnd]
    changes: _containers.RepeatedCompositeFieldContainer[SequenceChange]
    kv_blocks_used: int
    running: int
    waiting: int
    def __init__(self, step_count: _Optional[int] = ..., step_ms: _Optional[float] = ..., handles: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., first_tokens: _Optional[_Iterable[int]] = ..., token_counts: _Optional[_Iterable[int]] = ..., token_ids: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[str]] = ..., ends: _Optional[_Iterable[_Union[ExecutionEnd, _Mapping]]] = ..., changes: _Optional[_Iterable[_Union[SequenceChange, _Mapping]]] = ..., kv_blocks_used: _Optional[int] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ...) -> None: ...

class ExecutionEnd(_message.Message):
    __slots__ = ("handle", "attempt", "outcome", "detail", "matched_stop", "output_tokens", "cached_prompt_tokens")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STOP_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    handle: int
    attempt: int
    outcome: _types_pb2.Outcome
    detail: str
    matched_stop: str
    output_tokens: int
    cached_prompt_tokens: int
    def __init__(self, handle: _Optional[int] = ..., attempt: _Optional[int] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., detail: _Optional[str] = ..., matched_stop: _Optional[str] = ..., output_tokens: _Optional[int] = ..., cached_prompt_tokens: _Optional[int] = ...) -> None: ...

class SequenceChange(_message.Message):
    __slots__ = ("handle", "kind")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    handle: int
    kind: SequenceChangeKind
    def __init__(self, handle: _Optional[int] = ..., kind: _Optional[_Union[SequenceChangeKind, str]] = ...) -> None: ...

class Replayed(_message.Message):
    __slots__ = ("handle", "attempt", "first_token", "token_ids", "text", "end")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    handle: int
    attempt: int
    first_token: int
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    text: str
    end: ExecutionEnd
    def __init__(self, handle: _Optional[int] = ..., attempt: _Optional[int] = ..., first_token: _Optional[int] = ..., token_ids: _Optional[_Iterable[int]] = ..., text: _Optional[str] = ..., end: _Optional[_Union[ExecutionEnd, _Mapping]] = ...) -> None: ...

class Capacity(_message.Message):
    __slots__ = ("slots_free", "kv_blocks_free", "step_model", "draining")
    SLOTS_FREE_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_FREE_FIELD_NUMBER: _ClassVar[int]
    STEP_MODEL_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    slots_free: int
    kv_blocks_free: int
    step_model: StepModel
    draining: bool
    def __init__(self, slots_free: _Optional[int] = ..., kv_blocks_free: _Optional[int] = ..., step_model: _Optional[_Union[StepModel, _Mapping]] = ..., draining: _Optional[bool] = ...) -> None: ...

class AdmitRefused(_message.Message):
    __slots__ = ("handle", "attempt", "reason", "detail")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    handle: int
    attempt: int
    reason: AdmitRefusalReason
    detail: str
    def __init__(self, handle: _Optional[int] = ..., attempt: _Optional[int] = ..., reason: _Optional[_Union[AdmitRefusalReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("timeout_ms",)
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    timeout_ms: float
    def __init__(self, timeout_ms: _Optional[float] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ("finished", "abandoned")
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    finished: int
    abandoned: int
    def __init__(self, finished: _Optional[int] = ..., abandoned: _Optional[int] = ...) -> None: ...
