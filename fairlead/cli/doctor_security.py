"""`fairlead doctor`, certificates and keys: whether they can be used, how long still, and who can read them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

from fairlead.cli.doctor_findings import Finding, State
from fairlead.config import CertificateFiles, Config, ConfigError, ServiceName
from fairlead.rpc import check_listen, is_loopback, scheduler_only
from fairlead.rpc.certificates import read_material

SOON = timedelta(days=14)
SERVICES: tuple[ServiceName, ...] = get_args(ServiceName)


def security(config: Config) -> Iterator[Finding]:
    """What each service would say of its port at its start, and what it would not."""
    for service in SERVICES:
        listen: str = getattr(config, service).listen
        try:
            check_listen(listen, f"{service}.listen", service, config.security)
            if service != "scheduler":
                scheduler_only(config.security, service, listen)
        except ConfigError as error:
            yield Finding("security", State.FAIL, str(error))
            continue
        files = config.security.files(service)
        if files.certificate is None:
            yield _plain(service, listen)
        else:
            yield from _certificate(service, files)
    for path in _secrets(config):
        if path.exists() and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            told = f"{path} can be read by others than its owner (mode {path.stat().st_mode & 0o777:o})"
            yield Finding("security", State.WARN, told, f"chmod 600 {path}")


def _plain(service: str, listen: str) -> Finding:
    if not is_loopback(listen):
        remedy = "set security.folder (`fairlead certs make`) and take security.allow_insecure out"
        return Finding("security", State.WARN, f"{service}: plain text at {listen}, by security.allow_insecure", remedy)
    return Finding("security", State.OK, f"{service}: plain text at {listen}, on this machine alone")


def _certificate(service: str, files: CertificateFiles) -> Iterator[Finding]:
    not_after = read_material(files, f"security.{service}").not_after
    assert not_after is not None, "a certificate has an end"
    told = f"{service}: {files.certificate} holds until {not_after:%Y-%m-%d %H:%M} UTC"
    if not_after - datetime.now(UTC) < SOON:
        yield Finding("security", State.WARN, told, "renew it: `fairlead certs renew`, or whatever made it")
    else:
        yield Finding("security", State.OK, told)


def _secrets(config: Config) -> Iterator[Path]:
    for service in SERVICES:
        key = config.security.files(service).key
        if key is not None:
            yield key
    if config.security.service_key_file is not None:
        yield config.security.service_key_file
    for tenant in config.tenants:
        if tenant.key_file is not None:
            yield tenant.key_file
