"""Who the other side of a call is: the names in its certificate, or the secret between services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc

from fairlead.config import ConfigError, SecurityConfig, ServiceName
from fairlead.rpc.access import Check
from fairlead.rpc.channels import is_loopback
from fairlead.rpc.refusals import Refusal, ServicerContext
from fairlead.rpc.service_key import ServiceKeys

_SANS = "x509_subject_alternative_name"
_SCHEME = "bearer "
MAX_NAMES = 64


def certificate_names(context: ServicerContext) -> tuple[str, ...]:
    """DNS names and URIs in the certificate that the caller showed and that its CA vouches for; () without one."""
    found: Mapping[str, Iterable[bytes]] = context.auth_context() or {}
    names = [name.decode("utf-8", "replace") for name in found.get(_SANS, ())]
    return tuple(names[:MAX_NAMES])


def scheduler_only(security: SecurityConfig, service: ServiceName, listen: str) -> Check:
    """The check of worker and predictor: only a scheduler may call.

    A certificate with the scheduler's name where TLS asks for one, else the secret between services, else (on loopback,
    or with `security.allow_insecure`) nothing.

    Raises:
        ConfigError: the port is open to others and nothing tells the scheduler from them.
    """
    files = security.files(service)
    if files.certificate is not None and files.ca is not None:
        return _by_certificate(security.scheduler_name)
    if security.service_key_file is not None:
        return _by_key(ServiceKeys(security.service_key_file))
    if is_loopback(listen) or security.allow_insecure:
        return _everyone
    raise ConfigError(
        f"{service}.listen: {listen} is reached from other machines, and nothing would tell the scheduler from others; "
        f"set security.folder (`fairlead certs make`), security.{service}.ca, or security.service_key_file"
    )


def _by_certificate(name: str) -> Check:
    def check(context: ServicerContext) -> None:
        names = certificate_names(context)
        if name not in names:
            told = ", ".join(names[:3]) or "none"
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"only the scheduler may call here: its certificate carries the name {name!r}, this one {told[:200]}; "
                "see security.scheduler_name",
                reason="NOT_SCHEDULER",
            )

    return check


def _by_key(keys: ServiceKeys) -> Check:
    def check(context: ServicerContext) -> None:
        sent = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        value = sent[0] if len(sent) == 1 and isinstance(sent[0], str) else ""
        given = value[len(_SCHEME) :].strip() if value[: len(_SCHEME)].lower() == _SCHEME else ""
        if not keys.has(given):
            raise Refusal(
                grpc.StatusCode.UNAUTHENTICATED,
                "only the scheduler may call here, with the secret of security.service_key_file; give the scheduler "
                "and this service the same file",
                reason="NOT_SCHEDULER",
            )

    return check


def _everyone(_context: ServicerContext) -> None:
    return
