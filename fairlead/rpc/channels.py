"""Connections to a server: TLS from files, plain text on loopback addresses or where somebody said so."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from fairlead.config import MAX_MESSAGE_BYTES, CertificateFiles, ConfigError, SecurityConfig, ServiceName
from fairlead.event_loop import ease_grpc
from fairlead.rpc.certificates import read_material
from fairlead.rpc.service_key import ServiceKeys

# Keep-alive that finds a dead peer in about 20 s.
SHARED_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
CHANNEL_OPTIONS = (
    *SHARED_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)
_LOCAL_SCHEMES = ("unix:", "unix-abstract:")


class InsecureAddress(ValueError):
    """Plain text to another machine, which nobody asked for; the message says what to do."""


@dataclass(frozen=True)
class Tls:
    """How a client believes a server, and what it shows of itself. Files are read when a connection is made.

    Attributes:
        ca: PEM file of the CAs to believe; None: those that gRPC brings along.
        certificate, key: PEM files of a certificate to show; None: none.
        server_name: name that the server's certificate must carry, where it is not that of the address.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def files(self) -> CertificateFiles:
        """The same as settings. Raises ConfigError where only one of certificate and key is given."""
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(
                "TLS: a certificate and its key go together; give both (FAIRLEAD_CERT, FAIRLEAD_CERT_KEY)"
            )
        return CertificateFiles(certificate=_path(self.certificate), key=_path(self.key), ca=_path(self.ca))

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises ConfigError where they can't be used."""
        material = read_material(self.files(), "TLS")
        return grpc.ssl_channel_credentials(material.ca, material.key, material.certificate)

    def options(self) -> tuple[tuple[str, int | str], ...]:
        """Channel options that go with the credentials."""
        return (*CHANNEL_OPTIONS, *((("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()))


@dataclass(frozen=True)
class Outgoing:
    """How the scheduler reaches one kind of service.

    Attributes:
        tls: None: plain text.
        key_file: holds the secret of `security.service_key_file`; None: none is sent.
        problem_of_plaintext: setting to name where plain text is not allowed; "" where it is.
    """

    tls: Tls | None = None
    key_file: Path | None = None
    plaintext_anywhere: bool = False

    @classmethod
    def configured(cls, security: SecurityConfig, service: ServiceName) -> Outgoing:
        """As the configuration says; the other side's certificate must carry the name of its service."""
        files = security.outgoing_files()
        tls = None
        if files.ca is not None:
            tls = Tls(files.ca, files.certificate, files.key, security.name_of(service))
        return cls(tls, security.service_key_file, security.allow_insecure)

    def check(self, address: str, setting: str) -> None:
        """Raises ConfigError: plain text beyond this machine, or certificates or a key that can't be used."""
        if self.tls is not None:
            self.tls.credentials()
        elif not self.plaintext_anywhere and not is_loopback(address):
            raise ConfigError(
                f"{setting}: {address} is another machine, and there is no TLS to reach it; set security.folder "
                "(`fairlead certs make` makes one), or security.allow_insecure on a network that you trust"
            )
        self.metadata()

    def channel(self, address: str) -> aio.Channel:
        """A new connection, with the certificates as they are now."""
        return make_channel(address, self.tls, plaintext_anywhere=self.plaintext_anywhere)

    def metadata(self) -> Sequence[tuple[str, str]]:
        """What each call carries. Raises ConfigError where the key can't be read."""
        if self.key_file is None:
            return ()
        return (("authorization", f"Bearer {ServiceKeys(self.key_file).first}"),)


def make_channel(address: str, tls: Tls | None = None, *, plaintext_anywhere: bool = False) -> aio.Channel:
    """An asyncio channel with our keep-alive and message bounds.

    Raises:
        InsecureAddress: plain text to another machine without `plaintext_anywhere`.
        ConfigError: certificates that can't be used.
    """
    ease_grpc()
    if tls is None:
        check_plaintext(address, allowed=plaintext_anywhere)
        return aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return aio.secure_channel(address, tls.credentials(), options=tls.options())


def check_plaintext(address: str, *, allowed: bool = False) -> None:
    """Raises InsecureAddress where plain text would leave this machine and nobody allowed it."""
    if not allowed and not is_loopback(address):
        raise InsecureAddress(
            f"{address} is another machine: give its CA (--ca, FAIRLEAD_CA or tls=Tls(ca=...)), or say that plain text "
            "is meant (--insecure, FAIRLEAD_INSECURE=1 or tls=False); keys and prompts would be readable on the way"
        )


def is_loopback(address: str) -> bool:
    """Whether host:port (or a target of gRPC's) is on this machine for certain."""
    if address.startswith(_LOCAL_SCHEMES):
        return True
    host = address.rpartition("/")[2]
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        host = host.removeprefix(scheme)
    host = host.rpartition(":")[0].strip("[]") if ":" in host else host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given).expanduser()
