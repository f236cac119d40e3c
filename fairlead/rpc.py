"""gRPC servers, channels and typed refusals, the same for every service.

A refusal is a `Refusal` raised anywhere in a handler; `refuse` turns it into a status with standard details
(`google.rpc.BadRequest`, `QuotaFailure`, `RetryInfo`) that a client of any language can read.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from fairlead.config import MAX_MESSAGE_BYTES
from fairlead.event_loop import ease_grpc
from fairlead.v1 import types_pb2

ServicerContext: TypeAlias = "aio.ServicerContext[Any, Any]"

# Keep-alive that finds a dead peer in about 20 s; "min_ping_interval" is the server's name for what it tolerates
# (a similarly named "recv" key does not exist and would be silently ignored).
_SHARED_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
SERVER_OPTIONS = (
    *_SHARED_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", 4096),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),
)
CHANNEL_OPTIONS = (
    *_SHARED_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


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


class PortTaken(Exception):
    """The address can't be listened on; the message says which and what to do."""


@dataclass
class Server:
    """A gRPC server with health and reflection.

    Attributes:
        server: the underlying aio server, already bound, not started.
        health: set a service's status by its full name.
        address: host:port really bound (port 0 becomes the port that was given).
    """

    server: aio.Server
    health: HealthServicer
    address: str

    async def start(self, *services: str) -> None:
        """Starts it and reports `services` (full names) and "" as SERVING."""
        await self.server.start()
        for service in ("", *services):
            await self.set_serving(service, True)

    async def set_serving(self, service: str, serving: bool) -> None:
        """Sets what the health service says of `service`."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """Says NOT_SERVING, then waits at most `grace_s` for calls in flight."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(grace_s)


def make_server(listen: str, services: Sequence[str], *, port_setting: str) -> Server:
    """Binds a server; add servicers to `.server`, then `start`.

    Args:
        listen: host:port; port 0 takes a free one.
        services: full names for reflection.
        port_setting: the configuration field that `listen` came from, named in the error.

    Raises:
        PortTaken: the address is in use or not ours.
    """
    ease_grpc()
    server = aio.server(options=SERVER_OPTIONS)
    health_servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(
        (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortTaken(
            f"{port_setting}: cannot listen on {listen} (in use?); stop what holds it or set another address"
        )
    return Server(server, health_servicer, f"{listen.rpartition(':')[0]}:{port}")


def make_channel(address: str) -> aio.Channel:
    """An asyncio channel with our keep-alive and message bounds."""
    ease_grpc()
    return aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
