"""The client in TypeScript, generated from the contract and run on Node: what CI promises to run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.foreign_client import Example, build, check_mutual_tls, check_streams_cancels_and_reads_refusals, run
from tests.live.scheduler_suite import running_suite
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


async def test_node_submits_a_job_and_reads_its_results(example: Example, tmp_path: Path) -> None:
    lines = [{"custom_id": name, "prompt": f"Say {name}.", "max_tokens": 5} for name in ("a", "b", "c")]
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text("\n".join(json.dumps(line) for line in lines))
    bad.write_text("\n".join(json.dumps({**line, "temperature": -1}) for line in lines))

    def submitting(file: Path) -> Example:
        return Example(example.folder, ("npm", "--silent", "run", "jobs", "--", str(file), f"key of {file.name}"))

    async with running_suite(tmp_path / "state", predictor=None) as suite:
        code, out, errors = await run(submitting(good), suite.scheduler.address, "alice-key")
        assert code == 0, out + errors
        assert ": 3 lines" in errors
        results = [json.loads(line) for line in out.splitlines()]
        assert [(each["line"], each["customId"]) for each in results] == [(1, "a"), (2, "b"), (3, "c")]
        assert all(each["text"] and each["outcome"] in ("OUTCOME_STOP", "OUTCOME_LENGTH") for each in results)
        code, again, errors = await run(submitting(good), suite.scheduler.address, "alice-key")
        assert (code, again, "submitted before" in errors) == (0, out, True)
        code, out, errors = await run(submitting(bad), suite.scheduler.address, "alice-key")
        assert (code, out) == (1, "")
        assert "INVALID" in errors
        assert "line 1" in errors
