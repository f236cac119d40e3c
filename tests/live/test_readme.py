"""The programs of the README, taken out of it and run as they stand against a real scheduler."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.live.foreign_client import Example, build, run
from tests.live.scheduler_suite import running_suite
from tests.requirements import lacking

pytestmark = pytest.mark.live
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:7600"
ANSWERED = re.compile(r"\w+( \w+)+")


def program(language: str, address: str) -> str:
    """The README's one block in that language, at the address of the test's scheduler."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert ADDRESS in code
    assert len(code.strip().splitlines()) <= 11, "ten lines, and an empty one"
    return code.replace(ADDRESS, address)


async def test_the_ten_lines_of_python(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        (tmp_path / "ten_lines.py").write_text(program("python", suite.scheduler.address))
        example = Example(tmp_path, (sys.executable, "ten_lines.py"))
        code, out, errors = await run(example, suite.scheduler.address, "alice-key")
        assert code == 0, errors
        answer, last = out.strip().rsplit("\n", 1)
        assert ANSWERED.match(answer)
        assert re.fullmatch(r"STOP, \d+ tokens, queued \d+ ms", last)
        code, _, errors = await run(example, suite.scheduler.address, "wrong-key")
        assert code != 0
        assert "no tenant has this key" in errors


async def test_the_ten_lines_of_node(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        lacking("node", "node and npm are not installed (Debian: apt-get install nodejs npm)")
    quiet = ("--no-audit", "--no-fund", "--prefer-offline")
    folder = await asyncio.to_thread(build, "node", tmp_path / "node", ("npm", "ci", *quiet))
    async with running_suite(tmp_path) as suite:
        (folder / "ten_lines.mjs").write_text(program("js", suite.scheduler.address))
        example = Example(folder, (node, "ten_lines.mjs"))
        code, out, errors = await run(example, suite.scheduler.address, "alice-key")
        assert (code, errors) == (0, "")
        assert ANSWERED.match(out)
        code, _, errors = await run(example, suite.scheduler.address, "wrong-key")
        assert "no tenant has this key" in errors
