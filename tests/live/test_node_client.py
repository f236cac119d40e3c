"""The client in TypeScript, generated from the contract and run on Node: what CI promises to run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.foreign_client import Example, build, check_mutual_tls, check_streams_cancels_and_reads_refusals
from tests.requirements import lacking

pytestmark = pytest.mark.live
LEAST_NODE = 18


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        lacking("node", "node and npm are not installed (Debian: apt-get install nodejs npm)")
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"v(\d+)", told)
    if version is None or int(version[1]) < LEAST_NODE:
        lacking("node", f"node is {told.strip()}, the example needs {LEAST_NODE} or newer")
    quiet = ("--no-audit", "--no-fund", "--prefer-offline")
    folder = build("node", tmp_path_factory.mktemp("node"), ("npm", "ci", *quiet), ("npm", "run", "build"))
    return Example(folder, ("npm", "--silent", "start"))


async def test_node_streams_cancels_and_reads_typed_refusals(example: Example, tmp_path: Path) -> None:
    await check_streams_cancels_and_reads_refusals(example, tmp_path)


async def test_node_over_mutual_tls(example: Example, tmp_path: Path) -> None:
    await check_mutual_tls(example, tmp_path)
