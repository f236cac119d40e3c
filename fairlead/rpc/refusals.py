"""Typed refusals: raised anywhere in a handler, told to the client as a status with standard details.

`refuse` turns a `Refusal` into a status with `google.rpc.BadRequest`, `QuotaFailure` or `RetryInfo`, which a client of
any language can read; `read_details` reads it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from fairlead.v1 import types_pb2

ServicerContext: TypeAlias = "aio.ServicerContext[Any, Any]"


@dataclass
class Refusal(Exception):
    """A request that is not accepted: a status code, one sentence, and what helps the client.

    Attributes:
        code: gRPC status code.
        message: one sentence that names the field and the remedy.
        fields: (field path, what is wrong with it); becomes BadRequest.
        quota: (subject, what is exhausted); becomes QuotaFailure.
        retry_after_ms: when to try again; becomes RetryInfo.
        reason: machine-readable reason, a `RefusalReason` without its prefix; becomes ErrorInfo.
    """

    code: grpc.StatusCode
    message: str
    fields: Sequence[tuple[str, str]] = field(default=())
    quota: tuple[str, str] | None = None
    retry_after_ms: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        return self.message

    def status(self) -> status_pb2.Status:
        """As `google.rpc.Status` with its details."""
        details: list[Message] = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason, domain="fairlead"))
        if self.fields:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=name, description=text) for name, text in self.fields
            ]
            details.append(error_details_pb2.BadRequest(field_violations=violations))
        if self.quota:
            violation = error_details_pb2.QuotaFailure.Violation(subject=self.quota[0], description=self.quota[1])
            details.append(error_details_pb2.QuotaFailure(violations=[violation]))
        if self.retry_after_ms is not None:
            delay = duration_pb2.Duration()
            delay.FromMicroseconds(int(self.retry_after_ms * 1000))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        packed: list[any_pb2.Any] = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        return status_pb2.Status(code=code_pb2.Code.Value(self.code.name), message=self.message, details=packed)


REASONS = frozenset(
    name.removeprefix("REFUSAL_REASON_")
    for name in types_pb2.DESCRIPTOR.enum_types_by_name["RefusalReason"].values_by_name
)
"""The closed set of `Refusal.reason`, as clients read it in `ErrorInfo`."""


def reason_of(refusal: Refusal) -> str:
    """Its reason as metrics have it: of the closed set, whatever a worker of another release may have said."""
    return refusal.reason if refusal.reason in REASONS else "UNSPECIFIED"


def invalid(field_name: str, what: str) -> Refusal:
    """INVALID_ARGUMENT that names one field."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, f"{field_name}: {what}", fields=[(field_name, what)], reason="INVALID_FIELD"
    )


async def refuse(context: ServicerContext, refusal: Refusal) -> NoReturn:
    """Ends the call with the refusal's status and details."""
    await context.abort_with_status(rpc_status.to_status(refusal.status()))
    raise AssertionError("abort_with_status raises")


@dataclass(frozen=True)
class ErrorDetails:
    """What a client can read in a failed call.

    Attributes:
        reason: ErrorInfo reason, or "".
        fields: field path to what is wrong.
        retry_after_ms: from RetryInfo, if any.
        quota: what is exhausted, if a quota is.
    """

    reason: str = ""
    fields: dict[str, str] = field(default_factory=dict[str, str])
    retry_after_ms: float | None = None
    quota: str | None = None


def read_details(error: grpc.RpcError) -> ErrorDetails:
    """The standard details of a failed call; empty where the server sent none."""
    status = rpc_status.from_call(error)  # pyright: ignore[reportArgumentType]
    reason, fields, retry_after_ms, quota = "", dict[str, str](), None, None
    for packed in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        exhausted = error_details_pb2.QuotaFailure()
        if packed.Unpack(info):
            reason = info.reason
        elif packed.Unpack(bad):
            fields = {violation.field: violation.description for violation in bad.field_violations}
        elif packed.Unpack(retry):
            retry_after_ms = retry.retry_delay.ToMicroseconds() / 1000
        elif packed.Unpack(exhausted):
            quota = exhausted.violations[0].description
    return ErrorDetails(reason, fields, retry_after_ms, quota)
