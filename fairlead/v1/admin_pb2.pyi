from fairlead.v1 import tenants_pb2 as _tenants_pb2
from fairlead.v1 import types_pb2 as _types_pb2
from fairlead.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RequestState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REQUEST_STATE_UNSPECIFIED: _ClassVar[RequestState]
    REQUEST_STATE_WAITING: _ClassVar[RequestState]
    REQUEST_STATE_PLACED: _ClassVar[RequestState]
    REQUEST_STATE_RUNNING: _ClassVar[RequestState]
    REQUEST_STATE_PAUSED: _ClassVar[RequestState]
    REQUEST_STATE_EVICTED: _ClassVar[RequestState]
    REQUEST_STATE_ENDED: _ClassVar[RequestState]

class HindranceReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HINDRANCE_REASON_UNSPECIFIED: _ClassVar[HindranceReason]
    HINDRANCE_REASON_NO_WORKER: _ClassVar[HindranceReason]
    HINDRANCE_REASON_DRAINING: _ClassVar[HindranceReason]
    HINDRANCE_REASON_REFUSED_FULL: _ClassVar[HindranceReason]
    HINDRANCE_REASON_HELD_BOUND: _ClassVar[HindranceReason]
    HINDRANCE_REASON_SLOTS: _ClassVar[HindranceReason]
    HINDRANCE_REASON_SEATS: _ClassVar[HindranceReason]
    HINDRANCE_REASON_KV_SIZE: _ClassVar[HindranceReason]
    HINDRANCE_REASON_KV_PEAK: _ClassVar[HindranceReason]
    HINDRANCE_REASON_PACE_GUARD: _ClassVar[HindranceReason]
    HINDRANCE_REASON_BEHIND_OTHERS: _ClassVar[HindranceReason]

class MomentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOMENT_KIND_UNSPECIFIED: _ClassVar[MomentKind]
    MOMENT_KIND_ARRIVED: _ClassVar[MomentKind]
    MOMENT_KIND_WAITS: _ClassVar[MomentKind]
    MOMENT_KIND_ASKED: _ClassVar[MomentKind]
    MOMENT_KIND_PREDICTED: _ClassVar[MomentKind]
    MOMENT_KIND_NOT_PREDICTED: _ClassVar[MomentKind]
    MOMENT_KIND_ASSIGNED: _ClassVar[MomentKind]
    MOMENT_KIND_RETURNED: _ClassVar[MomentKind]
    MOMENT_KIND_STARTED: _ClassVar[MomentKind]
    MOMENT_KIND_PAUSED: _ClassVar[MomentKind]
    MOMENT_KIND_RESUMED: _ClassVar[MomentKind]
    MOMENT_KIND_EVICTED: _ClassVar[MomentKind]
    MOMENT_KIND_DISPLACED: _ClassVar[MomentKind]
    MOMENT_KIND_RELEGATED: _ClassVar[MomentKind]
    MOMENT_KIND_ENDED: _ClassVar[MomentKind]
REQUEST_STATE_UNSPECIFIED: RequestState
REQUEST_STATE_WAITING: RequestState
REQUEST_STATE_PLACED: RequestState
REQUEST_STATE_RUNNING: RequestState
REQUEST_STATE_PAUSED: RequestState
REQUEST_STATE_EVICTED: RequestState
REQUEST_STATE_ENDED: RequestState
HINDRANCE_REASON_UNSPECIFIED: HindranceReason
HINDRANCE_REASON_NO_WORKER: HindranceReason
HINDRANCE_REASON_DRAINING: HindranceReason
HINDRANCE_REASON_REFUSED_FULL: HindranceReason
HINDRANCE_REASON_HELD_BOUND: HindranceReason
HINDRANCE_REASON_SLOTS: HindranceReason
HINDRANCE_REASON_SEATS: HindranceReason
HINDRANCE_REASON_KV_SIZE: HindranceReason
HINDRANCE_REASON_KV_PEAK: HindranceReason
HINDRANCE_REASON_PACE_GUARD: HindranceReason
HINDRANCE_REASON_BEHIND_OTHERS: HindranceReason
MOMENT_KIND_UNSPECIFIED: MomentKind
MOMENT_KIND_ARRIVED: MomentKind
MOMENT_KIND_WAITS: MomentKind
MOMENT_KIND_ASKED: MomentKind
MOMENT_KIND_PREDICTED: MomentKind
MOMENT_KIND_NOT_PREDICTED: MomentKind
MOMENT_KIND_ASSIGNED: MomentKind
MOMENT_KIND_RETURNED: MomentKind
MOMENT_KIND_STARTED: MomentKind
MOMENT_KIND_PAUSED: MomentKind
MOMENT_KIND_RESUMED: MomentKind
MOMENT_KIND_EVICTED: MomentKind
MOMENT_KIND_DISPLACED: MomentKind
MOMENT_KIND_RELEGATED: MomentKind
MOMENT_KIND_ENDED: MomentKind

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("policy", "settings", "workers", "classes", "predictor", "draining", "uptime_s", "policy_faults", "tenants")
    class PolicyFaultsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    POLICY_FAULTS_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    settings: PolicySettings
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    classes: _containers.RepeatedCompositeFieldContainer[ClassStatus]
    predictor: PredictorStatus
    draining: bool
    uptime_s: float
    policy_faults: _containers.ScalarMap[str, int]
    tenants: _tenants_pb2.TenantsStatus
    def __init__(self, policy: _Optional[str] = ..., settings: _Optional[_Union[PolicySettings, _Mapping]] = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassStatus, _Mapping]]] = ..., predictor: _Optional[_Union[PredictorStatus, _Mapping]] = ..., draining: _Optional[bool] = ..., uptime_s: _Optional[float] = ..., policy_faults: _Optional[_Mapping[str, int]] = ..., tenants: _Optional[_Union[_tenants_pb2.TenantsStatus, _Mapping]] = ...) -> None: ...

class PolicySettings(_message.Message):
    __slots__ = ("step_seats", "window_tokens", "be_share", "options", "choices")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ChoicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STEP_SEATS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    BE_SHARE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    step_seats: int
    window_tokens: int
    be_share: float
    options: _containers.ScalarMap[str, str]
    choices: _containers.ScalarMap[str, str]
    def __init__(self, step_seats: _Optional[int] = ..., window_tokens: _Optional[int] = ..., be_share: _Optional[float] = ..., options: _Optional[_Mapping[str, str]] = ..., choices: _Optional[_Mapping[str, str]] = ...) -> None: ...

class WorkerStatus(_message.Message):
    __slots__ = ("worker_id", "address", "model", "connected", "assigned", "slots", "step_seats", "kv_blocks_used", "kv_blocks", "steps", "step_model", "draining", "problem", "seats_used", "step_ms")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    STEP_SEATS_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_USED_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_MODEL_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SEATS_USED_FIELD_NUMBER: _ClassVar[int]
    STEP_MS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    address: str
    model: str
    connected: bool
    assigned: int
    slots: int
    step_seats: int
    kv_blocks_used: int
    kv_blocks: int
    steps: int
    step_model: _worker_pb2.StepModel
    draining: bool
    problem: str
    seats_used: int
    step_ms: float
    def __init__(self, worker_id: _Optional[str] = ..., address: _Optional[str] = ..., model: _Optional[str] = ..., connected: _Optional[bool] = ..., assigned: _Optional[int] = ..., slots: _Optional[int] = ..., step_seats: _Optional[int] = ..., kv_blocks_used: _Optional[int] = ..., kv_blocks: _Optional[int] = ..., steps: _Optional[int] = ..., step_model: _Optional[_Union[_worker_pb2.StepModel, _Mapping]] = ..., draining: _Optional[bool] = ..., problem: _Optional[str] = ..., seats_used: _Optional[int] = ..., step_ms: _Optional[float] = ...) -> None: ...

class ClassStatus(_message.Message):
    __slots__ = ("service_class", "tenant", "accepted", "waiting", "running", "outcomes", "output_tokens", "slo_offered", "slo_met")
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SLO_OFFERED_FIELD_NUMBER: _ClassVar[int]
    SLO_MET_FIELD_NUMBER: _ClassVar[int]
    service_class: _types_pb2.ServiceClass
    tenant: str
    accepted: int
    waiting: int
    running: int
    outcomes: _containers.RepeatedCompositeFieldContainer[OutcomeCount]
    output_tokens: int
    slo_offered: int
    slo_met: int
    def __init__(self, service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., tenant: _Optional[str] = ..., accepted: _Optional[int] = ..., waiting: _Optional[int] = ..., running: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[OutcomeCount, _Mapping]]] = ..., output_tokens: _Optional[int] = ..., slo_offered: _Optional[int] = ..., slo_met: _Optional[int] = ...) -> None: ...

class OutcomeCount(_message.Message):
    __slots__ = ("outcome", "count")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    outcome: _types_pb2.Outcome
    count: int
    def __init__(self, outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., count: _Optional[int] = ...) -> None: ...

class PredictorStatus(_message.Message):
    __slots__ = ("connected", "predictor", "answered", "late_or_missing", "in_flight", "replicas", "replicas_connected")
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    LATE_OR_MISSING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    connected: bool
    predictor: str
    answered: int
    late_or_missing: int
    in_flight: int
    replicas: int
    replicas_connected: int
    def __init__(self, connected: _Optional[bool] = ..., predictor: _Optional[str] = ..., answered: _Optional[int] = ..., late_or_missing: _Optional[int] = ..., in_flight: _Optional[int] = ..., replicas: _Optional[int] = ..., replicas_connected: _Optional[int] = ...) -> None: ...

class SetPolicyRequest(_message.Message):
    __slots__ = ("policy", "settings")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    settings: PolicySettings
    def __init__(self, policy: _Optional[str] = ..., settings: _Optional[_Union[PolicySettings, _Mapping]] = ...) -> None: ...

class SetPolicyResponse(_message.Message):
    __slots__ = ("previous_policy", "policy")
    PREVIOUS_POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    previous_policy: str
    policy: str
    def __init__(self, previous_policy: _Optional[str] = ..., policy: _Optional[str] = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies",)
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[PolicyInfo]
    def __init__(self, policies: _Optional[_Iterable[_Union[PolicyInfo, _Mapping]]] = ...) -> None: ...

class PolicyInfo(_message.Message):
    __slots__ = ("policy", "summary", "options")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    summary: str
    options: _containers.RepeatedCompositeFieldContainer[PolicyOption]
    def __init__(self, policy: _Optional[str] = ..., summary: _Optional[str] = ..., options: _Optional[_Iterable[_Union[PolicyOption, _Mapping]]] = ...) -> None: ...

class DrainSchedulerRequest(_message.Message):
    __slots__ = ("timeout_ms",)
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    timeout_ms: float
    def __init__(self, timeout_ms: _Optional[float] = ...) -> None: ...

class DrainSchedulerResponse(_message.Message):
    __slots__ = ("live",)
    LIVE_FIELD_NUMBER: _ClassVar[int]
    live: int
    def __init__(self, live: _Optional[int] = ...) -> None: ...

class PolicyOption(_message.Message):
    __slots__ = ("name", "default_value", "allowed", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    default_value: str
    allowed: str
    description: str
    def __init__(self, name: _Optional[str] = ..., default_value: _Optional[str] = ..., allowed: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...

class WhyRequest(_message.Message):
    __slots__ = ("request_id", "tenant")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class WhyResponse(_message.Message):
    __slots__ = ("request", "slo", "outcome", "times", "standing", "moments", "moments_left_out", "policies", "settings", "rules")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SLO_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    request: RequestView
    slo: _types_pb2.Slo
    outcome: _types_pb2.Outcome
    times: RequestTimes
    standing: Standing
    moments: _containers.RepeatedCompositeFieldContainer[Moment]
    moments_left_out: int
    policies: _containers.RepeatedCompositeFieldContainer[PolicySpell]
    settings: PolicySettings
    rules: _worker_pb2.StepRules
    def __init__(self, request: _Optional[_Union[RequestView, _Mapping]] = ..., slo: _Optional[_Union[_types_pb2.Slo, _Mapping]] = ..., outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., times: _Optional[_Union[RequestTimes, _Mapping]] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ..., moments: _Optional[_Iterable[_Union[Moment, _Mapping]]] = ..., moments_left_out: _Optional[int] = ..., policies: _Optional[_Iterable[_Union[PolicySpell, _Mapping]]] = ..., settings: _Optional[_Union[PolicySettings, _Mapping]] = ..., rules: _Optional[_Union[_worker_pb2.StepRules, _Mapping]] = ...) -> None: ...

class RequestView(_message.Message):
    __slots__ = ("request_id", "tenant", "model", "service_class", "relegated", "state", "worker_id", "age_ms", "prompt_tokens", "output_tokens", "max_tokens", "expected_tokens", "mean_remaining_tokens", "predictions", "pauses", "evictions", "attempts", "rank")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    RELEGATED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MEAN_REMAINING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    PAUSES_FIELD_NUMBER: _ClassVar[int]
    EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    model: str
    service_class: _types_pb2.ServiceClass
    relegated: bool
    state: RequestState
    worker_id: str
    age_ms: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    expected_tokens: float
    mean_remaining_tokens: float
    predictions: int
    pauses: int
    evictions: int
    attempts: int
    rank: RankKey
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ..., model: _Optional[str] = ..., service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., relegated: _Optional[bool] = ..., state: _Optional[_Union[RequestState, str]] = ..., worker_id: _Optional[str] = ..., age_ms: _Optional[float] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., max_tokens: _Optional[int] = ..., expected_tokens: _Optional[float] = ..., mean_remaining_tokens: _Optional[float] = ..., predictions: _Optional[int] = ..., pauses: _Optional[int] = ..., evictions: _Optional[int] = ..., attempts: _Optional[int] = ..., rank: _Optional[_Union[RankKey, _Mapping]] = ...) -> None: ...

class RankKey(_message.Message):
    __slots__ = ("tier", "value", "cost")
    TIER_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    tier: float
    value: float
    cost: float
    def __init__(self, tier: _Optional[float] = ..., value: _Optional[float] = ..., cost: _Optional[float] = ...) -> None: ...

class RequestTimes(_message.Message):
    __slots__ = ("predicted_ms", "assigned_ms", "first_token_ms", "last_token_ms", "ended_ms")
    PREDICTED_MS_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    predicted_ms: float
    assigned_ms: float
    first_token_ms: float
    last_token_ms: float
    ended_ms: float
    def __init__(self, predicted_ms: _Optional[float] = ..., assigned_ms: _Optional[float] = ..., first_token_ms: _Optional[float] = ..., last_token_ms: _Optional[float] = ..., ended_ms: _Optional[float] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("rank", "inputs", "ahead", "standing", "seats", "first_ahead", "ahead_by_class", "hindrances")
    class InputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class AheadByClassEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RANK_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    SEATS_FIELD_NUMBER: _ClassVar[int]
    FIRST_AHEAD_FIELD_NUMBER: _ClassVar[int]
    AHEAD_BY_CLASS_FIELD_NUMBER: _ClassVar[int]
    HINDRANCES_FIELD_NUMBER: _ClassVar[int]
    rank: RankKey
    inputs: _containers.ScalarMap[str, float]
    ahead: int
    standing: int
    seats: int
    first_ahead: _containers.RepeatedCompositeFieldContainer[OtherRequest]
    ahead_by_class: _containers.ScalarMap[str, int]
    hindrances: _containers.RepeatedCompositeFieldContainer[Hindrance]
    def __init__(self, rank: _Optional[_Union[RankKey, _Mapping]] = ..., inputs: _Optional[_Mapping[str, float]] = ..., ahead: _Optional[int] = ..., standing: _Optional[int] = ..., seats: _Optional[int] = ..., first_ahead: _Optional[_Iterable[_Union[OtherRequest, _Mapping]]] = ..., ahead_by_class: _Optional[_Mapping[str, int]] = ..., hindrances: _Optional[_Iterable[_Union[Hindrance, _Mapping]]] = ...) -> None: ...

class Hindrance(_message.Message):
    __slots__ = ("worker_id", "reason")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    reason: HindranceReason
    def __init__(self, worker_id: _Optional[str] = ..., reason: _Optional[_Union[HindranceReason, str]] = ...) -> None: ...

class OtherRequest(_message.Message):
    __slots__ = ("request_id", "tenant", "service_class", "rank")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    service_class: _types_pb2.ServiceClass
    rank: RankKey
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ..., service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., rank: _Optional[_Union[RankKey, _Mapping]] = ...) -> None: ...

class Moment(_message.Message):
    __slots__ = ("at_ms", "kind", "worker_id", "text", "figures", "others", "hindrance")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    HINDRANCE_FIELD_NUMBER: _ClassVar[int]
    at_ms: float
    kind: MomentKind
    worker_id: str
    text: str
    figures: _containers.ScalarMap[str, float]
    others: _containers.RepeatedCompositeFieldContainer[OtherRequest]
    hindrance: HindranceReason
    def __init__(self, at_ms: _Optional[float] = ..., kind: _Optional[_Union[MomentKind, str]] = ..., worker_id: _Optional[str] = ..., text: _Optional[str] = ..., figures: _Optional[_Mapping[str, float]] = ..., others: _Optional[_Iterable[_Union[OtherRequest, _Mapping]]] = ..., hindrance: _Optional[_Union[HindranceReason, str]] = ...) -> None: ...

class PolicySpell(_message.Message):
    __slots__ = ("policy", "from_ms")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    FROM_MS_FIELD_NUMBER: _ClassVar[int]
    policy: str
    from_ms: float
    def __init__(self, policy: _Optional[str] = ..., from_ms: _Optional[float] = ...) -> None: ...

class ListRequestsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "tenant", "service_class", "worker_id", "state")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    tenant: str
    service_class: _types_pb2.ServiceClass
    worker_id: str
    state: RequestState
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., tenant: _Optional[str] = ..., service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., worker_id: _Optional[str] = ..., state: _Optional[_Union[RequestState, str]] = ...) -> None: ...

class ListRequestsResponse(_message.Message):
    __slots__ = ("requests", "next_page_token", "counts")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RequestView]
    next_page_token: str
    counts: _containers.RepeatedCompositeFieldContainer[StateCount]
    def __init__(self, requests: _Optional[_Iterable[_Union[RequestView, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[StateCount, _Mapping]]] = ...) -> None: ...

class StateCount(_message.Message):
    __slots__ = ("state", "requests")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    state: RequestState
    requests: int
    def __init__(self, state: _Optional[_Union[RequestState, str]] = ..., requests: _Optional[int] = ...) -> None: ...
