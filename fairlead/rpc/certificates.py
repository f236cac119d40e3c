"""Certificates from files: checked before they are used, and read again once they are renewed.

A renewal is seen by the files' inodes, times and sizes, so that a link that is turned to another folder counts (as
Kubernetes does it). Files that do not fit together, as in the middle of a renewal, change nothing until they do.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from fairlead.config import CertificateFiles, ConfigError
from fairlead.telemetry import get_logger

Signature: TypeAlias = tuple[tuple[int, int, int], ...]
REMEDY = "make certificates with `fairlead certs make`, or give those of your own CA"


@dataclass(frozen=True)
class Material:
    """What TLS needs, as PEM.

    Attributes:
        certificate, key: of this side; None where it shows none.
        ca: of those that issue the other side's certificates; None: not checked (server), the system's (client).
        not_after: when the certificate expires; None without one.
    """

    certificate: bytes | None
    key: bytes | None = field(repr=False)
    ca: bytes | None
    not_after: datetime | None


def signature_of(files: CertificateFiles) -> Signature:
    """Changes whenever a file does. Raises OSError where one is not there."""
    stats = [path.stat() for path in (files.certificate, files.key, files.ca) if path is not None]
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def read_material(files: CertificateFiles, setting: str) -> Material:
    """Reads and checks the files.

    Args:
        files: which.
        setting: where they are configured, named in errors.

    Raises:
        ConfigError: one can't be read, is no PEM, has expired, or key and certificate do not belong together.
    """
    certificate = _read(files.certificate, f"{setting}.certificate")
    key = _read(files.key, f"{setting}.key")
    ca = _read(files.ca, f"{setting}.ca")
    not_after = None
    if ca is not None:
        _check_ca(ca, files, setting)
    if certificate is not None:
        _check_pair(files, setting)
        not_after = expiry(certificate, f"{setting}.certificate: {files.certificate}")
        if not_after <= datetime.now(UTC):
            raise ConfigError(
                f"{setting}.certificate: {files.certificate} expired at {not_after:%Y-%m-%d %H:%M} UTC; renew it, "
                "with `fairlead certs renew` where `fairlead certs make` made it"
            )
    return Material(certificate, key, ca, not_after)


def expiry(certificate: bytes, what: str) -> datetime:
    """When the first certificate of a PEM file expires. Raises ConfigError that begins with `what`."""
    from cryptography import x509  # noqa: PLC0415  (a client that checks nothing does not load it)

    try:
        return x509.load_pem_x509_certificates(certificate)[0].not_valid_after_utc
    except ValueError as error:
        raise ConfigError(f"{what} is no certificate in PEM ({error}); {REMEDY}") from None


class ReloadedCertificates:
    """A server's certificate, current at each new connection; connections that stand keep what they began with.

    Args:
        files: certificate and key; `ca`: clients must show a certificate of it.
        setting: where they are configured.

    Raises:
        ConfigError: they can't be used now, at the start.
    """

    def __init__(self, files: CertificateFiles, setting: str) -> None:
        self._files, self._setting = files, setting
        self._lock = threading.Lock()
        self._log = get_logger("tls")
        self.material = read_material(files, setting)
        self._signature = signature_of(files)
        assert self.material.not_after is not None, "a server needs a certificate"
        self._log.info("certificate", setting=setting, expires=self.material.not_after.isoformat())

    def credentials(self) -> grpc.ServerCredentials:
        """For a port; asks for client certificates where the files name a `ca`."""
        asks_clients = self._files.ca is not None
        renewed: Any = self._renewed  # the stub lacks None
        return grpc.dynamic_ssl_server_credentials(self._configuration(), renewed, asks_clients)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        material = self.material
        assert material.key is not None
        assert material.certificate is not None
        return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.ca)

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC, on a thread of its own, before each handshake: what is new, or None."""
        with self._lock:
            try:
                signature = signature_of(self._files)
                if signature == self._signature:
                    return None
                self.material = read_material(self._files, self._setting)
            except (ConfigError, OSError) as error:
                self._log.warning("certificate not renewed, the old one stays", problem=str(error))
                return None
            self._signature = signature
            assert self.material.not_after is not None
            self._log.info("certificate renewed", setting=self._setting, expires=self.material.not_after.isoformat())
            return self._configuration()


def _read(path: Path | None, setting: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: {path} can't be read ({error.strerror}); {REMEDY}") from None


def _check_ca(ca: bytes, files: CertificateFiles, setting: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{setting}.ca: {files.ca} holds no CA certificate in PEM ({error}); {REMEDY}") from None


def _check_pair(files: CertificateFiles, setting: str) -> None:
    def no_password() -> str:
        raise ConfigError(
            f"{setting}.key: {files.key} is encrypted; give a key without a password, readable by you alone"
        )

    assert files.certificate is not None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            told = f"is not the key of {files.certificate}; give the two that belong together"
            raise ConfigError(f"{setting}.key: {files.key} {told}") from None
        told = f"{files.certificate} with key {files.key} can't be used ({error.reason or error})"
        raise ConfigError(f"{setting}: {told}; both must be PEM") from None
