"""Certificates in memory: ECDSA P-256, signed with SHA-256, names in the subject alternative name alone (RFC 5280)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLOCK_SKEW = timedelta(minutes=5)
"""A certificate holds from so long before it was made: not every machine's clock is right."""
_USAGES = dict.fromkeys(
    ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
    False,
)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Authority:
        """From PEM, the first certificate of it. Raises ValueError where it is none, or the key is another's."""
        found = x509.load_pem_x509_certificates(certificate)[0]
        secret = serialization.load_pem_private_key(key, None)
        if not isinstance(secret, ec.EllipticCurvePrivateKey) or found.public_key() != secret.public_key():
            raise ValueError("the key does not belong to the certificate")
        return cls(found, secret)

    def pem(self) -> Issued:
        """As it is kept."""
        return Issued(self.certificate.public_bytes(serialization.Encoding.PEM), _key_pem(self.key))

    def issue(
        self, common_name: str, names: Sequence[str], lifetime: timedelta, *, server: bool, now: datetime
    ) -> Issued:
        """A certificate for one holder, under a new key.

        Args:
            common_name: for people; nothing is checked by it.
            names: DNS names and IP addresses it stands for.
            lifetime: of the certificate; never beyond the CA's own end.
            server: it may be shown by a server too, not by a client alone.
            now: in UTC.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
        issuer = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        made = (
            _begun(common_name, key, now, min(now + lifetime, self.certificate.not_valid_after_utc))
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **_USAGES), critical=True
            )
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Issued(made.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def new_authority(lifetime: timedelta, now: datetime) -> Authority:
    """A CA that can sign holders' certificates and no further CA. `now` in UTC."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"fairlead CA {now:%Y-%m-%d} {x509.random_serial_number() & 0xFFFFFF:06x}"
    made = (
        _begun(name, key, now, now + lifetime)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **_USAGES), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(made, key)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and IP addresses that a certificate stands for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def is_server(certificate: x509.Certificate) -> bool:
    """Whether a server may show it."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def _begun(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
