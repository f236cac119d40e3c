"""The folder of a small CA: `ca/` with its key, and a folder for each holder with `tls.crt`, `tls.key`, `ca.crt`.

The three names are those of a Kubernetes secret of type TLS, so that a folder that cert-manager fills looks the same.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fairlead.certs.issuing import Authority, Issued, is_server, names_of, new_authority
from fairlead.config import SecurityConfig

SERVICES = ("scheduler", "predictor", "worker")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CLIENT_DOMAIN = "clients.fairlead.internal"
RENEW_AT_LEFT = 1 / 3
"""A certificate with less than this share of its lifetime left is due."""
_CLIENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:.]+")


class StoreError(Exception):
    """The folder can't be used as asked; the message names the file and the remedy."""


@dataclass(frozen=True)
class Entry:
    """One certificate of the folder.

    Attributes:
        holder: `ca`, a service, or `clients/NAME`.
        names: DNS names and IP addresses it stands for.
        fingerprint: SHA-256 of the certificate, hex.
    """

    holder: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str

    def left(self, now: datetime) -> timedelta:
        """Time until it expires; negative afterwards."""
        return self.not_after - now

    def due(self, now: datetime) -> bool:
        """Whether it should be renewed."""
        return self.left(now) < (self.not_after - self.not_before) * RENEW_AT_LEFT


class CertStore:
    """A folder with a CA and what it issued.

    Args:
        folder: where; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca_certificate, self._ca_key = folder / "ca" / "ca.crt", folder / "ca" / "ca.key"

    def has_authority(self) -> bool:
        """Whether there is a CA, whole or half."""
        return self._ca_certificate.exists() or self._ca_key.exists()

    def make_authority(self, lifetime: timedelta, now: datetime) -> None:
        """A new CA in place of any that is there. Raises StoreError."""
        made = new_authority(lifetime, now).pem()
        self._write(self._ca_key, made.key, secret=True)
        self._write(self._ca_certificate, made.certificate)

    def replace_authority(self, lifetime: timedelta, now: datetime) -> None:
        """A new CA that signs from now on; the old one is believed until it expires. Raises StoreError."""
        old = [each for each in self._authorities() if each.not_valid_after_utc > now]
        made = new_authority(lifetime, now)
        self._write(self._ca_key, made.pem().key, secret=True)
        bundle = b"".join([made.pem().certificate, *(_pem(each) for each in old)])
        self._write(self._ca_certificate, bundle)

    def issue_service(self, service: str, hosts: Sequence[str], lifetime: timedelta, now: datetime) -> None:
        """A certificate with the service's own name, this machine's, and `hosts`. Raises StoreError."""
        names = [SecurityConfig().name_of(service), *LOOPBACK, *hosts]  # pyright: ignore[reportArgumentType]
        self._issue(service, list(dict.fromkeys(names)), lifetime, now, server=True)

    def issue_client(self, name: str, lifetime: timedelta, now: datetime) -> str:
        """A certificate for a client; returns the name in it. Raises StoreError."""
        if not _CLIENT_NAME.fullmatch(name):
            raise StoreError(f"{name!r}: give lower-case letters, digits, - and _, as in a tenant's name")
        inside = f"{name}.{CLIENT_DOMAIN}"
        self._issue(f"clients/{name}", [inside], lifetime, now, server=False)
        return inside

    def renew(self, holder: str, now: datetime, lifetime: timedelta | None = None) -> None:
        """The same names under a new key; its lifetime as before where none is given. Raises StoreError."""
        old = self._certificate(self._of(holder) / "tls.crt")
        as_before = old.not_valid_after_utc - old.not_valid_before_utc
        self._issue(holder, names_of(old), lifetime or as_before, now, server=is_server(old))

    def lacks(self, service: str, hosts: Sequence[str]) -> bool:
        """Whether a service has no certificate, or one without a name that it should have."""
        path = self._of(service) / "tls.crt"
        return not path.exists() or not set(hosts) <= set(names_of(self._certificate(path)))

    def entries(self) -> list[Entry]:
        """Every certificate of the folder, the CA first. Raises StoreError."""
        holders = [name for name in SERVICES if (self._of(name) / "tls.crt").exists()]
        holders += [f"clients/{path.parent.name}" for path in sorted(self.folder.glob("clients/*/tls.crt"))]
        paths = [("ca", self._ca_certificate), *((holder, self._of(holder) / "tls.crt") for holder in holders)]
        return [_entry(holder, self._certificate(path)) for holder, path in paths if path.exists()]

    def _issue(self, holder: str, names: Sequence[str], lifetime: timedelta, now: datetime, *, server: bool) -> None:
        for name in names:
            if not _HOST.fullmatch(name):
                raise StoreError(f"{name!r} is no host name or IP address; give e.g. --hosts gpu-1,10.0.0.5")
        authority = self._authority(now)
        made = authority.issue(f"fairlead {holder}", names, lifetime, server=server, now=now)
        self._place(holder, made)

    def _place(self, holder: str, made: Issued) -> None:
        """The key before the certificate: a reader that comes between sees that they do not fit, and waits."""
        folder = self._of(holder)
        self._write(folder / "ca.crt", self._ca_certificate.read_bytes())
        self._write(folder / "tls.key", made.key, secret=True)
        self._write(folder / "tls.crt", made.certificate)

    def _authority(self, now: datetime) -> Authority:
        remedy = f"make one with `fairlead certs make --folder {self.folder}`"
        try:
            found = Authority.load(self._ca_certificate.read_bytes(), self._ca_key.read_bytes())
        except OSError as error:
            raise StoreError(
                f"there is no CA in {self.folder} ({error.filename}: {error.strerror}); {remedy}"
            ) from None
        except ValueError as error:
            raise StoreError(f"the CA in {self.folder}/ca can't be used: {error}; {remedy} --force") from None
        if found.certificate.not_valid_after_utc <= now:
            raise StoreError(
                f"the CA in {self.folder}/ca has expired; {remedy} --force, and give its ca.crt to all clients"
            )
        return found

    def _authorities(self) -> list[x509.Certificate]:
        try:
            return x509.load_pem_x509_certificates(self._ca_certificate.read_bytes())
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._ca_certificate} can't be read: {error}") from None

    def _certificate(self, path: Path) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificates(path.read_bytes())[0]
        except OSError as error:
            raise StoreError(f"{path} can't be read ({error.strerror})") from None
        except ValueError as error:
            raise StoreError(f"{path} is no certificate in PEM ({error}); remove it and make it anew") from None

    def _of(self, holder: str) -> Path:
        return self.folder / holder

    def _write(self, path: Path, data: bytes, *, secret: bool = False) -> None:
        """The whole file or none of it; a key is readable by this user alone."""
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            with os.fdopen(
                os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644), "wb"
            ) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise StoreError(
                f"{path} can't be written ({error.strerror}); make the folder writable, or give another with --folder"
            ) from None


def _entry(holder: str, found: x509.Certificate) -> Entry:
    fingerprint = found.fingerprint(hashes.SHA256()).hex()
    return Entry(holder, names_of(found), found.not_valid_before_utc, found.not_valid_after_utc, fingerprint)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
