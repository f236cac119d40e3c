import datetime

from fairlead.v1 import types_pb2 as _types_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TenantOrigin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TENANT_ORIGIN_UNSPECIFIED: _ClassVar[TenantOrigin]
    TENANT_ORIGIN_CONFIG: _ClassVar[TenantOrigin]
    TENANT_ORIGIN_FILE: _ClassVar[TenantOrigin]
    TENANT_ORIGIN_ADMIN: _ClassVar[TenantOrigin]
TENANT_ORIGIN_UNSPECIFIED: TenantOrigin
TENANT_ORIGIN_CONFIG: TenantOrigin
TENANT_ORIGIN_FILE: TenantOrigin
TENANT_ORIGIN_ADMIN: TenantOrigin

class Tenant(_message.Message):
    __slots__ = ("name", "weight", "classes", "default_class", "default_slo", "limits", "certificate_names", "is_operator", "disabled", "etag", "origin", "changed_by_admin", "keys", "update_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_CLASS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SLO_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_NAMES_FIELD_NUMBER: _ClassVar[int]
    IS_OPERATOR_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CHANGED_BY_ADMIN_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    classes: _containers.RepeatedScalarFieldContainer[_types_pb2.ServiceClass]
    default_class: _types_pb2.ServiceClass
    default_slo: _types_pb2.Slo
    limits: TenantLimits
    certificate_names: _containers.RepeatedScalarFieldContainer[str]
    is_operator: bool
    disabled: bool
    etag: str
    origin: TenantOrigin
    changed_by_admin: bool
    keys: _containers.RepeatedCompositeFieldContainer[TenantKey]
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., classes: _Optional[_Iterable[_Union[_types_pb2.ServiceClass, str]]] = ..., default_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., default_slo: _Optional[_Union[_types_pb2.Slo, _Mapping]] = ..., limits: _Optional[_Union[TenantLimits, _Mapping]] = ..., certificate_names: _Optional[_Iterable[str]] = ..., is_operator: _Optional[bool] = ..., disabled: _Optional[bool] = ..., etag: _Optional[str] = ..., origin: _Optional[_Union[TenantOrigin, str]] = ..., changed_by_admin: _Optional[bool] = ..., keys: _Optional[_Iterable[_Union[TenantKey, _Mapping]]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TenantLimits(_message.Message):
    __slots__ = ("max_in_flight", "max_queued_requests", "max_queued_tokens", "tokens_per_minute", "burst_tokens")
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    BURST_TOKENS_FIELD_NUMBER: _ClassVar[int]
    max_in_flight: int
    max_queued_requests: int
    max_queued_tokens: int
    tokens_per_minute: float
    burst_tokens: float
    def __init__(self, max_in_flight: _Optional[int] = ..., max_queued_requests: _Optional[int] = ..., max_queued_tokens: _Optional[int] = ..., tokens_per_minute: _Optional[float] = ..., burst_tokens: _Optional[float] = ...) -> None: ...

class TenantKey(_message.Message):
    __slots__ = ("key_id", "origin", "active", "not_before", "retired_after")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    RETIRED_AFTER_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    origin: TenantOrigin
    active: bool
    not_before: _timestamp_pb2.Timestamp
    retired_after: _timestamp_pb2.Timestamp
    def __init__(self, key_id: _Optional[str] = ..., origin: _Optional[_Union[TenantOrigin, str]] = ..., active: _Optional[bool] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., retired_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateTenantRequest(_message.Message):
    __slots__ = ("tenant", "key_sha256", "without_key")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_KEY_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    key_sha256: str
    without_key: bool
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., key_sha256: _Optional[str] = ..., without_key: _Optional[bool] = ...) -> None: ...

class CreateTenantResponse(_message.Message):
    __slots__ = ("tenant", "key")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    key: str
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., key: _Optional[str] = ...) -> None: ...

class GetTenantRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetTenantResponse(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ...) -> None: ...

class ListTenantsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "disabled")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    disabled: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., disabled: _Optional[bool] = ...) -> None: ...

class ListTenantsResponse(_message.Message):
    __slots__ = ("tenants", "next_page_token")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedCompositeFieldContainer[Tenant]
    next_page_token: str
    def __init__(self, tenants: _Optional[_Iterable[_Union[Tenant, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateTenantRequest(_message.Message):
    __slots__ = ("tenant", "update_mask", "etag")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    update_mask: _field_mask_pb2.FieldMask
    etag: str
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class UpdateTenantResponse(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ...) -> None: ...

class DisableTenantRequest(_message.Message):
    __slots__ = ("name", "etag", "cancel_live")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CANCEL_LIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    cancel_live: bool
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ..., cancel_live: _Optional[bool] = ...) -> None: ...

class DisableTenantResponse(_message.Message):
    __slots__ = ("tenant", "live", "cancelled")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    live: int
    cancelled: int
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., live: _Optional[int] = ..., cancelled: _Optional[int] = ...) -> None: ...

class EnableTenantRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class EnableTenantResponse(_message.Message):
    __slots__ = ("tenant",)
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ...) -> None: ...

class DeleteTenantRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteTenantResponse(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: int
    def __init__(self, jobs: _Optional[int] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ("name", "etag", "overlap_s", "key_sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_S_FIELD_NUMBER: _ClassVar[int]
    KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    overlap_s: float
    key_sha256: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ..., overlap_s: _Optional[float] = ..., key_sha256: _Optional[str] = ...) -> None: ...

class RotateKeyResponse(_message.Message):
    __slots__ = ("tenant", "key", "old_keys_until")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    OLD_KEYS_UNTIL_FIELD_NUMBER: _ClassVar[int]
    tenant: Tenant
    key: str
    old_keys_until: _timestamp_pb2.Timestamp
    def __init__(self, tenant: _Optional[_Union[Tenant, _Mapping]] = ..., key: _Optional[str] = ..., old_keys_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportUsageRequest(_message.Message):
    __slots__ = ("tenant", "start_time", "end_time", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ExportUsageResponse(_message.Message):
    __slots__ = ("usage", "next_page_token", "start_time", "end_time")
    USAGE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    usage: _containers.RepeatedCompositeFieldContainer[TenantUsage]
    next_page_token: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, usage: _Optional[_Iterable[_Union[TenantUsage, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TenantUsage(_message.Message):
    __slots__ = ("tenant", "classes", "refusals", "clamped")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    CLAMPED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    classes: _containers.RepeatedCompositeFieldContainer[ClassUsage]
    refusals: _containers.RepeatedCompositeFieldContainer[RefusalCount]
    clamped: int
    def __init__(self, tenant: _Optional[str] = ..., classes: _Optional[_Iterable[_Union[ClassUsage, _Mapping]]] = ..., refusals: _Optional[_Iterable[_Union[RefusalCount, _Mapping]]] = ..., clamped: _Optional[int] = ...) -> None: ...

class ClassUsage(_message.Message):
    __slots__ = ("service_class", "accepted", "ended", "input_tokens", "cached_input_tokens", "output_tokens")
    SERVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    service_class: _types_pb2.ServiceClass
    accepted: int
    ended: _containers.RepeatedCompositeFieldContainer[RequestCount]
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    def __init__(self, service_class: _Optional[_Union[_types_pb2.ServiceClass, str]] = ..., accepted: _Optional[int] = ..., ended: _Optional[_Iterable[_Union[RequestCount, _Mapping]]] = ..., input_tokens: _Optional[int] = ..., cached_input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ...) -> None: ...

class RequestCount(_message.Message):
    __slots__ = ("outcome", "requests")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    outcome: _types_pb2.Outcome
    requests: int
    def __init__(self, outcome: _Optional[_Union[_types_pb2.Outcome, str]] = ..., requests: _Optional[int] = ...) -> None: ...

class RefusalCount(_message.Message):
    __slots__ = ("reason", "requests")
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    reason: _types_pb2.RefusalReason
    requests: int
    def __init__(self, reason: _Optional[_Union[_types_pb2.RefusalReason, str]] = ..., requests: _Optional[int] = ...) -> None: ...

class ListAuditLogRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "tenant", "actor")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    tenant: str
    actor: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., tenant: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ListAuditLogResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("sequence", "time", "actor", "peer", "action", "tenant", "changes", "problem")
    class ChangesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    actor: str
    peer: str
    action: str
    tenant: str
    changes: _containers.ScalarMap[str, str]
    problem: str
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., peer: _Optional[str] = ..., action: _Optional[str] = ..., tenant: _Optional[str] = ..., changes: _Optional[_Mapping[str, str]] = ..., problem: _Optional[str] = ...) -> None: ...

class TenantsStatus(_message.Message):
    __slots__ = ("tenants", "disabled", "tenants_file", "file_read_time", "file_problem", "hidden", "usage_problem")
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FILE_FIELD_NUMBER: _ClassVar[int]
    FILE_READ_TIME_FIELD_NUMBER: _ClassVar[int]
    FILE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    USAGE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    tenants: int
    disabled: int
    tenants_file: str
    file_read_time: _timestamp_pb2.Timestamp
    file_problem: str
    hidden: _containers.RepeatedScalarFieldContainer[str]
    usage_problem: str
    def __init__(self, tenants: _Optional[int] = ..., disabled: _Optional[int] = ..., tenants_file: _Optional[str] = ..., file_read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., file_problem: _Optional[str] = ..., hidden: _Optional[_Iterable[str]] = ..., usage_problem: _Optional[str] = ...) -> None: ...
