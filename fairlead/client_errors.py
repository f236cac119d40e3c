"""What can go wrong with a request, as exceptions that a program can tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import grpc

from fairlead.rpc import ErrorDetails, in_plain_words, read_details


class FairleadError(Exception):
    """A call that failed.

    Attributes:
        message: one sentence for a person, the server's own where it gave one.
        code: gRPC status code.
        reason: machine-readable reason (`ErrorInfo`), or "".
        fields: what is wrong, by field path (`BadRequest`).
        retry_after_ms: when to try again (`RetryInfo`), or None.
        quota: what is exhausted (`QuotaFailure`), or None.
        request_id: the request it concerns, or None.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        details: ErrorDetails | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        details = details or ErrorDetails()
        self.message = message
        self.code = code or self.default_code
        self.reason = details.reason
        self.fields: Mapping[str, str] = dict(details.fields)
        self.retry_after_ms = details.retry_after_ms
        self.quota = details.quota
        self.request_id = request_id

    def __str__(self) -> str:
        return self.message


class InvalidRequest(FairleadError):
    """The request can't be served as it is; `fields` says which part and why."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT


class Unauthenticated(FairleadError):
    """The key is missing or unknown."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(FairleadError):
    """The key is known, but not for this (admin calls and length hints need an operator's key)."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class NotFound(FairleadError):
    """This tenant has no such request, or there is no such model."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(FairleadError):
    """The request id is in use for other content."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class Conflict(FairleadError):
    """What was to be changed has changed meanwhile: read it again and repeat the change."""

    default_code = grpc.StatusCode.ABORTED


class Overloaded(FairleadError):
    """A queue or quota is full; `retry_after_ms` says when to come back."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(FairleadError):
    """Nobody serves: no connection, no workers, or draining."""

    default_code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(FairleadError):
    """The deadline passed before the answer was complete."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(FairleadError):
    """The call was cancelled."""

    default_code = grpc.StatusCode.CANCELLED


class InternalError(FairleadError):
    """An error of the service or of the transport."""

    default_code = grpc.StatusCode.INTERNAL


class StreamLost(FairleadError):
    """The stream of an accepted request broke and could not be taken up again within the bounds of `Retry`."""

    default_code = grpc.StatusCode.UNAVAILABLE


_BY_CODE: dict[grpc.StatusCode, type[FairleadError]] = {
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequest,
    **{
        kind.default_code: kind
        for kind in (
            InvalidRequest, Unauthenticated, PermissionDenied, NotFound, AlreadyExists, Conflict, Overloaded,
            Unavailable, DeadlineExceeded, Cancelled, InternalError,
        )
    },
}  # fmt: skip

BREAKS_STREAM = (Unavailable, InternalError, Cancelled)
"""Errors in mid-answer that speak of the connection, not of the request; `Attach` goes on after them."""


def error_from(error: grpc.RpcError, request_id: str | None = None) -> FairleadError:
    """The typed error of a failed call."""
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    text = error.details() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else str(error)
    kind = _BY_CODE.get(code, InternalError)
    return kind(in_plain_words(text or code.name), code=code, details=read_details(error), request_id=request_id)
