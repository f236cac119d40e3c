"""`fairlead why`: why a request ran when it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict

from fairlead.cli.admin import operator
from fairlead.cli.options import Address, Asked, ConfigFile, Key, TenantName
from fairlead.cli.problems import wide_console


def why(
    request_id: Annotated[
        str, typer.Argument(help="As the client gave it, or `accepted` told it; `fairlead top` lists.")
    ],
    of: Annotated[
        str | None, typer.Option("--of", help="The tenant whose request it is, where several have this id.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything here as JSON; - is standard output.")
    ] = None,
    tenant: TenantName = None,
    key: Key = None,
    address: Address = None,
    config: ConfigFile = None,
) -> None:
    """Tell why a request, live or ended lately, ran when it did: for operators.

    Its place in the order and what its key is made from, what it waited for and who was ahead, whom it displaced and
    who displaced it, each prediction, each placement, and the policy in force. Never what it asked or was answered.
    The scheduler keeps the newest scheduler.why_events moments of each request and scheduler.why_finished ended ones.

    Example: fairlead why 7f3c --json why.json. What each word means: docs/decisions.md
    """
    from fairlead.cli.why_view import print_why  # noqa: PLC0415 - only when it is called

    with operator(Asked(tenant=tenant, key=key, address=address, config=config)) as admin:
        answer = admin.why(request_id, of)
    if json_file is not None:
        text = json.dumps(MessageToDict(answer, preserving_proto_field_name=True), indent=1)
        if str(json_file) == "-":
            print(text)
            return
        json_file.write_text(text + "\n")
    print_why(wide_console(), answer)
