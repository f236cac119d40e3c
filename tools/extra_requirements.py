"""Prints what an install of this project with some extras asks for, from pyproject.toml alone.

An image installs that before it copies the source, so that a change of the source does not install everything again.

    python tools/extra_requirements.py pyproject.toml predictor telemetry    (no extra: the light install)
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_OWN_EXTRA = re.compile(r"fairlead\[([a-z,-]+)\]")


def requirements(project: dict[str, object], extras: list[str]) -> list[str]:
    """Requirement lines of the extras; of the light install where none is named.

    Raises:
        SystemExit: there is no such extra.
    """
    if not extras:
        return list(project["dependencies"])
    known = dict(project["optional-dependencies"])
    found: list[str] = []
    for extra in extras:
        if extra not in known:
            raise SystemExit(f"pyproject.toml has no extra {extra!r}; it has {', '.join(known)}")
        for line in known[extra]:
            own = _OWN_EXTRA.fullmatch(line)
            found += requirements(project, own[1].split(",")) if own else [line]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print("\n".join(requirements(tomllib.loads(Path(sys.argv[1]).read_text())["project"], sys.argv[2:])))
