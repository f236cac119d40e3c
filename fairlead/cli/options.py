"""Options that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

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

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom a command asks and as whom: what the options of these names say."""

    tenant: str | None
    key: str | None
    address: str | None
    config: Path | None


_ASKED = {"tenant": TenantName, "key": Key, "address": Address, "config": ConfigFile}


def asking(command: Callable[Concatenate[Asked, P], None]) -> Callable[..., None]:
    """A command that takes, after its own options, those of `Asked`, and gets them as its first argument."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in _ASKED.items()]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        asked = Asked(**{name: values.pop(name) for name in _ASKED})
        call: Any = command
        call(asked, **values)

    told: Any = run
    told.__signature__ = inspect.Signature([*own, *shared])
    told.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    return run


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
