"""What a machine may lack: a test that needs it skips with the reason, or fails where it must be there.

`FAIRLEAD_REQUIRE=prometheus,docker,node,data,postgres` (any of them) turns the skip into a failure, so that CI can't
pass by leaving out what it promises to run.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def required(name: str) -> bool:
    """Whether FAIRLEAD_REQUIRE names it."""
    return name in {part.strip() for part in os.environ.get("FAIRLEAD_REQUIRE", "").split(",")}


def lacking(name: str, reason: str) -> NoReturn:
    """Ends the present test: skipped with the reason, or failed where FAIRLEAD_REQUIRE names what is lacking."""
    if required(name):
        pytest.fail(f"{reason}, but FAIRLEAD_REQUIRE names {name!r}")
    pytest.skip(reason)
