"""`fairlead keys`: the tenants' keys that can be read from here."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fairlead.cli.options import ConfigFile, access_of
from fairlead.cli.problems import fail, wide_console


def keys(
    tenant: Annotated[str | None, typer.Argument(help="Print this tenant's key alone, for a script.")] = None,
    config: ConfigFile = None,
) -> None:
    """Print the API keys of the running suite, or of the configuration that --config or FAIRLEAD_CONFIG names.

    Example: FAIRLEAD_KEY=$(fairlead keys interactive) fairlead generate "Hello."
    """
    known = access_of(None, None, config).keys
    if tenant is not None:
        if tenant not in known:
            fail(f"no key is known for tenant {tenant!r} (known: {', '.join(sorted(known)) or 'none'})")
        print(known[tenant])
        return
    if not known:
        fail("no key is known here; start a suite with `fairlead up`, or name a configuration: --config")
    table = Table("tenant", "key")
    for name, key in known.items():
        table.add_row(name, key)
    wide_console().print(table)
