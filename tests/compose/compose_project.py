"""One compose project of this repository on a real Docker engine, under a name and a port of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fairlead.rpc import free_port
from tests.requirements import lacking

ROOT = Path(__file__).resolve().parents[2]
BUILD_AND_UP_WITHIN_S = 1500.0
DONE_WITHIN_S = 120.0


def need_docker() -> None:
    """Ends the test where no Docker engine with compose answers."""
    if shutil.which("docker") is None:
        lacking("docker", "docker is not installed")
    for command in (("info",), ("compose", "version")):
        if subprocess.run(["docker", *command], capture_output=True, check=False).returncode:
            lacking("docker", f"`docker {' '.join(command)}` fails: no engine with compose answers here")


class Project:
    """Runs compose and docker commands for one project.

    Attributes:
        name: of the project; every container, network and volume of it carries it.
        port: published on 127.0.0.1.
    """

    def __init__(self) -> None:
        self.name = f"fairlead-test-{secrets.token_hex(4)}"
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def compose(self, *arguments: str, within_s: float = DONE_WITHIN_S, check: bool = True) -> str:
        """`docker compose ARGUMENTS`; its standard output (both outputs where it may fail)."""
        return self._run(["docker", "compose", "--progress", "plain", "-p", self.name, *arguments], within_s, check)

    def docker(self, *arguments: str, check: bool = True) -> str:
        return self._run(["docker", *arguments], DONE_WITHIN_S, check)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What `docker inspect` says of each container of a service."""
        ids = self.compose("ps", "-q", service).split()
        return json.loads(self.docker("inspect", *ids)) if ids else []

    def left(self) -> dict[str, list[str]]:
        """Everything that the engine still holds of this project."""
        mine = f"label=com.docker.compose.project={self.name}"
        return {
            "containers": self.docker("ps", "-aq", "--filter", mine).split(),
            "networks": self.docker("network", "ls", "-q", "--filter", mine).split(),
            "volumes": self.docker("volume", "ls", "-q", "--filter", mine).split(),
        }

    def _run(self, command: list[str], within_s: float, check: bool) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment(), capture_output=True, text=True, timeout=within_s, check=False
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{said[-6000:]}"
        return done.stdout if check else said

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAIRLEAD_", "COMPOSE_"))}
        wheels = os.environ.get("FAIRLEAD_WHEELS") or os.environ.get("PIP_FIND_LINKS", "")
        own = {"FAIRLEAD_PORT": str(self.port), "FAIRLEAD_TAG": "test"}
        return {**kept, **own, **({"FAIRLEAD_WHEELS": wheels} if Path(wheels).is_dir() and wheels else {})}
