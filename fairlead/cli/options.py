"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.problems import EXIT_USAGE, fail
from fairlead.cli.session import Access, find_access
from fairlead.client import InsecureAddress
from fairlead.client_connection import chosen_tls
from fairlead.config import ConfigError

Address = Annotated[str | None, typer.Option(help="host:port of the scheduler; FAIRLEAD_ADDRESS too.")]
Key = Annotated[str | None, typer.Option(help="API key; FAIRLEAD_KEY too.")]
TenantName = Annotated[
    str | None, typer.Option(help="Tenant to ask as; its key comes from the configuration or `fairlead up`.")
]
ConfigFile = Annotated[
    Path | None, typer.Option(help="YAML configuration with address and tenants; FAIRLEAD_CONFIG too.")
]


def access_of(address: str | None, key: str | None, config: Path | None) -> Access:
    """Whom to ask and as whom; ends the command where the configuration can't be read."""
    try:
        access = find_access(address, key, config)
        tls = chosen_tls(access.address, access.tls)
        if tls is not None:
            tls.credentials()
    except (ConfigError, InsecureAddress) as error:
        fail(str(error), EXIT_USAGE)
    return access


def key_of(access: Access, tenant: str | None, *, operator: bool = False) -> str | None:
    """The key to use; ends the command where `tenant` is named and has none."""
    try:
        return access.key(tenant, operator=operator)
    except ConfigError as error:
        if tenant is None:
            return None
        fail(str(error), EXIT_USAGE)
