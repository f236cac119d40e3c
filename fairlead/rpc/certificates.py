"""Certificates from files: read, and checked before they are used."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from fairlead.config import CertificateFiles, ConfigError

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
