"""A gRPC server with health, reflection, TLS where it is configured, and bounds on what comes in."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from fairlead.config import CertificateFiles, ConfigError, SecurityConfig, ServiceName
from fairlead.event_loop import ease_grpc
from fairlead.rpc.access import Gate
from fairlead.rpc.certificates import read_material
from fairlead.rpc.channels import SHARED_OPTIONS, is_loopback

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from fairlead.rpc.renewal import ReloadedCertificates

MAX_METADATA_BYTES = 16 * 1024
# "min_ping_interval" is the server's name for what it tolerates (a similarly named "recv" key does not exist and would
# be silently ignored).
SERVER_OPTIONS = (
    *SHARED_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", 4096),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.so_reuseport", 0),
)


class PortTaken(Exception):
    """The address can't be listened on; the message says which and what to do."""


@dataclass
class Server:
    """A gRPC server with health and reflection.

    Attributes:
        server: the underlying aio server, already bound, not started.
        health: set a service's status by its full name.
        address: host:port really bound (port 0 becomes the port that was given).
        certificate: what it shows; None: plain text.
    """

    server: aio.Server
    health: HealthServicer
    address: str
    certificate: ReloadedCertificates | None = None

    def observe(self, meter: Meter | None) -> None:
        """Tells metrics from now on when the certificate expires; nothing where there is none, or no metrics."""
        certificate = self.certificate
        if meter is None or certificate is None:
            return
        from fairlead.telemetry.metrics import gauge  # noqa: PLC0415  (OpenTelemetry is an extra)

        gauge(
            meter, "fairlead.certificate.expires.timestamp", "s", "When the server's certificate expires, Unix time.",
            lambda: [(certificate.expires_s, {})],
        )  # fmt: skip

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


def make_server(
    listen: str,
    services: Sequence[str],
    *,
    port_setting: str,
    gate: Gate | None = None,
    service: ServiceName = "scheduler",
    security: SecurityConfig | None = None,
) -> Server:
    """Binds a server; add servicers to `.server`, then `start`.

    Args:
        listen: host:port; port 0 takes a free one.
        services: full names for reflection.
        port_setting: the configuration field that `listen` came from, named in the error.
        gate: who may call what; None: nobody may call anything but health and reflection.
        service: whose certificate is shown.
        security: TLS and bounds; None: plain text on a loopback address.

    Raises:
        PortTaken: the address is in use or not ours.
        ConfigError: plain text beyond loopback that nobody asked for, or certificates that can't be used.
    """
    chosen = security or SecurityConfig()
    certificate = _certificate(listen, port_setting, service, chosen)
    credentials = certificate.credentials() if certificate is not None else None
    ease_grpc()
    server = aio.server(
        interceptors=[gate or Gate({})],
        options=(
            *SERVER_OPTIONS,
            ("grpc.max_allowed_incoming_connections", chosen.max_connections),
            ("grpc.server_handshake_timeout_ms", int(chosen.handshake_timeout_s * 1000)),
        ),
        maximum_concurrent_rpcs=chosen.max_calls,
    )
    _take_calls_by_name(server)
    health_servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(
        (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME), server
    )
    try:
        port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if port == 0:
        raise PortTaken(
            f"{port_setting}: cannot listen on {listen} (in use?); stop what holds it or set another address"
        )
    return Server(server, health_servicer, f"{listen.rpartition(':')[0]}:{port}", certificate)


def _take_calls_by_name(server: aio.Server) -> None:
    """Methods of servicers that are added are looked up by name, not registered with gRPC's core as well.

    For each registered method gRPC's asyncio layer keeps a task that waits for its next call, and goes through all of
    these tasks, some thirty in a scheduler, whenever a call comes. Generated code adds the same handlers in both ways.
    """

    def not_again(service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        del service_name, method_handlers

    server.add_registered_method_handlers = not_again


def check_listen(listen: str, port_setting: str, service: ServiceName, security: SecurityConfig) -> None:
    """What `make_server` would refuse of TLS, before anything is bound. Raises ConfigError."""
    files = _shown(service, security)
    if files.certificate is not None:
        read_material(files, f"security.{service}")
    elif service == "scheduler" and security.client_ca is not None:
        raise ConfigError("security.client_ca: clients can show certificates only over TLS; set security.folder too")
    elif not is_loopback(listen) and not security.allow_insecure:
        raise ConfigError(
            f"{port_setting}: {listen} is reached from other machines, and there is no TLS; set security.folder "
            "(`fairlead certs make` makes one), listen on 127.0.0.1, or set security.allow_insecure: true on a network "
            "that you trust"
        )


def _certificate(
    listen: str, port_setting: str, service: ServiceName, security: SecurityConfig
) -> ReloadedCertificates | None:
    """TLS as configured; None: plain text, on loopback or because somebody said so, and then the log says it."""
    from fairlead.rpc.renewal import ReloadedCertificates  # noqa: PLC0415  (with its logs; a client does without)
    from fairlead.telemetry import get_logger  # noqa: PLC0415

    check_listen(listen, port_setting, service, security)
    files = _shown(service, security)
    if files.certificate is not None:
        return ReloadedCertificates(files, f"security.{service}")
    if not is_loopback(listen):
        get_logger("tls").warning(
            "INSECURE: plain text beyond this machine", listen=listen, because="security.allow_insecure"
        )
    return None


def _shown(service: ServiceName, security: SecurityConfig) -> CertificateFiles:
    """What the port shows and asks for: the scheduler's own CA is for those that it calls, clients have another."""
    files = security.files(service)
    if service != "scheduler":
        return files
    return CertificateFiles(certificate=files.certificate, key=files.key, ca=security.client_ca)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
