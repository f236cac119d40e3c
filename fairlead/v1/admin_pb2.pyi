from fairlead.v1 import types_pb2 as _types_pb2
from fairlead.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("policy", "settings", "workers", "classes", "predictor", "draining", "uptime_s", "policy_faults")
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
    policy: str
    settings: PolicySettings
    workers: _containers.RepeatedCompositeFieldContainer[WorkerStatus]
    classes: _containers.RepeatedCompositeFieldContainer[ClassStatus]
    predictor: PredictorStatus
    draining: bool
    uptime_s: float
    policy_faults: _containers.ScalarMap[str, int]
    def __init__(self, policy: _Optional[str] = ..., settings: _Optional[_Union[PolicySettings, _Mapping]] = ..., workers: _Optional[_Iterable[_Union[WorkerStatus, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassStatus, _Mapping]]] = ..., predictor: _Optional[_Union[PredictorStatus, _Mapping]] = ..., draining: _Optional[bool] = ..., uptime_s: _Optional[float] = ..., policy_faults: _Optional[_Mapping[str, int]] = ...) -> None: ...

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
    __slots__ = ("worker_id", "address", "model", "connected", "assigned", "slots", "step_seats", "kv_blocks_used", "kv_blocks", "steps", "step_model", "draining", "problem")
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
    def __init__(self, worker_id: _Optional[str] = ..., address: _Optional[str] = ..., model: _Optional[str] = ..., connected: _Optional[bool] = ..., assigned: _Optional[int] = ..., slots: _Optional[int] = ..., step_seats: _Optional[int] = ..., kv_blocks_used: _Optional[int] = ..., kv_blocks: _Optional[int] = ..., steps: _Optional[int] = ..., step_model: _Optional[_Union[_worker_pb2.StepModel, _Mapping]] = ..., draining: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...

class ClassStatus(_message.Message):
    __slots__ = ("service_class", "tenant", "accepted", "waiting", "running", "outcomes", "output_tokens")
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    service_class: _types_pb2.ServiceClass
    tenant: str
    accepted: int
    waiting: int
    running: int
    outcomes: _containers.RepeatedCompositeFieldContainer[OutcomeCount]
    output_tokens: int
    def __init__(self, service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., tenant: _Optional[str] = ..., accepted: _Optional[int] = ..., waiting: _Optional[int] = ..., running: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[OutcomeCount, _Mapping]]] = ..., output_tokens: _Optional[int] = ...) -> None: ...

class OutcomeCount(_message.Message):
    __slots__ = ("outcome", "count")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    outcome: _types_pb2.Outcome
    count: int
    def __init__(self, outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., count: _Optional[int] = ...) -> None: ...

class PredictorStatus(_message.Message):
    __slots__ = ("connected", "predictor", "answered", "late_or_missing", "in_flight")
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    PREDICTOR_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    LATE_OR_MISSING_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    connected: bool
    predictor: str
    answered: int
    late_or_missing: int
    in_flight: int
    def __init__(self, connected: _Optional[bool] = ..., predictor: _Optional[str] = ..., answered: _Optional[int] = ..., late_or_missing: _Optional[int] = ..., in_flight: _Optional[int] = ...) -> None: ...

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
