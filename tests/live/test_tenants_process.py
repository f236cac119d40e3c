"""Tenants by the command line, of a process that reads its file again, and in its metrics."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.client import (
    Admin,
    AsyncClient,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Retry,
)
from fairlead.rpc import REASONS, free_port
from fairlead.v1 import tenants_pb2, types_pb2
from tests.live.scheduler_suite import (
    Suite,
    running_process,
    running_suite,
    running_worker,
    worker_config,
)

pytestmark = pytest.mark.live
LS, BE = types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE, types_pb2.SERVICE_CLASS_BEST_EFFORT
MANY = 3
"""Operators at once: each holds a thread of this process, and the scheduler, which is in it too, needs some."""
LONG: dict[str, Any] = {"max_tokens": 2000, "ignore_eos": True, "timeout_s": 60.0}


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Suite]:
    """A scheduler without workers."""
    async with running_suite(tmp_path, workers=0, predictor=None) as running:
        yield running


async def test_a_process_reads_its_file_again_on_hangup_and_outlives_a_broken_one(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    operator = {"name": "op", "key": "op-key", "operator": True}
    file.write_text(yaml.safe_dump({"tenants": [operator]}))
    section = {
        "listen": "127.0.0.1:0", "workers": ["127.0.0.1:1"], "predictor": None, "state_dir": str(tmp_path / "state"),
        "tenants_file": str(file), "tenants_watch_s": 3600,
    }  # fmt: skip
    async with running_process(tmp_path, "scheduler_svc", scheduler=section) as process:
        admin = Admin(process.address, "op-key")
        try:
            for text, names, says in (
                ("tenants: [", ["op"], "is not YAML"),
                (yaml.safe_dump({"tenants": [operator, {"name": "late", "key": "late-key"}]}), ["late", "op"], ""),
            ):
                file.write_text(text)
                process.process.send_signal(signal.SIGHUP)
                await _seen(admin, names, says)
            assert (await _status(admin)).file_problem == ""
        finally:
            admin.close()
        assert await process.end() == 0


async def _seen(admin: Admin, names: list[str], says: str) -> None:
    async with asyncio.timeout(10):
        while says not in (await _status(admin)).file_problem or await _names(admin) != names:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def _status(admin: Admin) -> tenants_pb2.TenantsStatus:
    return (await asyncio.to_thread(admin.status)).tenants


async def _names(admin: Admin) -> list[str]:
    return [each.name for each in await asyncio.to_thread(lambda: list(admin.tenants()))]


async def test_metrics_tell_of_tenants_clamps_and_refusals_by_the_closed_set(tmp_path: Path) -> None:
    file, page = tmp_path / "tenants.yaml", f"127.0.0.1:{free_port()}"
    file.write_text("tenants: []")
    tenants = [{"name": "op", "key": "op-key", "operator": True}, {"name": "bob", "key": "bob-key", "classes": ["be"]}]
    async with running_worker(worker_config()) as worker:
        section = {
            "listen": "127.0.0.1:0", "workers": [worker.address], "predictor": None,
            "state_dir": str(tmp_path / "state"), "tenants_file": str(file), "tenants_watch_s": 0.05,
        }  # fmt: skip
        telemetry = {"prometheus": {"scheduler": page}}
        async with running_process(
            tmp_path, "scheduler_svc", scheduler=section, telemetry=telemetry, tenants=tenants
        ) as process:
            async with AsyncClient(process.address, "bob-key", retry=Retry(attempts=20)) as bob:
                await bob.complete("urgent", service_class="ls", max_tokens=5)
            async with AsyncClient(process.address, "bob-key", retry=Retry(attempts=1)) as bob:
                with pytest.raises(InvalidRequest):
                    await bob.complete("")
                with pytest.raises(NotFound):
                    await bob.cancel("nothing")
            admin = Admin(process.address, "bob-key")
            with pytest.raises(PermissionDenied):
                await asyncio.to_thread(admin.status)
            admin.close()
            file.write_text("tenants: broken")
            wanted = (
                'fairlead_requests_clamped_total{tenant="bob"} 1',
                'fairlead_requests_refused_total{reason="INVALID_FIELD",tenant="bob"} 1',
                'fairlead_calls_refused_total{reason="UNKNOWN_REQUEST",service="inference"} 1',
                'fairlead_calls_refused_total{reason="NOT_OPERATOR",service="admin"} 1',
                'fairlead_tenants{state="enabled"} 2',
                'fairlead_tenants_problems{what="file"} 1',
                'fairlead_tenants_problems{what="usage"} 0',
                'fairlead_tenants_reloads_total{result="refused"} 1',
            )
            async with asyncio.timeout(10):
                while missing := [line for line in wanted if line not in (text := await _page(page))]:
                    await asyncio.sleep(0.05)
                    print(missing)
    told = set(re.findall(r'refused_total\{reason="([^"]*)"', text))
    assert told <= REASONS


async def _page(address: str) -> str:
    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            return re.sub(r"\.0$", "", answer.read().decode(), flags=re.MULTILINE)

    return await asyncio.to_thread(read)


async def test_the_command_line_does_all_of_it(bare: Suite, tmp_path: Path) -> None:
    async def run(*arguments: str, code: int = 0) -> str:
        options = ["--address", bare.scheduler.address, "--key", "op-key"]
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["tenants", *arguments, *options], env={"COLUMNS": "240"}
        )
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())

    out = tmp_path / "made.json"
    text = await run(
        "create", "reports", "--class", "be", "--weight", "2", "--max-in-flight", "50", "--tokens-per-minute", "1000",
        "--completion-ms", "60000", "--certificate-name", "reports.example", "--json", str(out),
    )  # fmt: skip
    made = json.loads(out.read_text())
    assert made["key"] in text
    assert out.stat().st_mode & 0o077 == 0
    assert "50 in flight, 1,000 tokens/min" in text
    assert made["tenant"]["limits"] == {"max_in_flight": 50, "tokens_per_minute": 1000.0}
    text = await run("update", "reports", "--weight", "3", "--clear", "max-in-flight", "--etag", made["tenant"]["etag"])
    assert "in flight" not in text
    assert "fairlead tenants show reports" in await run(
        "update", "reports", "--weight", "4", "--etag", made["tenant"]["etag"], code=1
    )
    assert "nothing to change" in await run("update", "reports", code=1)
    assert "clears one of" in await run("update", "reports", "--clear", "name", code=2)
    assert "give ls or be" in await run("create", "x", "--class", "fast", code=2)
    assert "name: must have 1 to 63" in await run("create", "UPPER", code=1)
    assert "give a time such as 24h" in await run("rotate-key", "reports", "--overlap", "soon", code=2)
    assert "the keys before it count until" in await run("rotate-key", "reports", "--overlap", "48h")
    assert "disabled; none was live" in await run("disable", "reports")
    assert [each["name"] for each in json.loads(await run("list", "--disabled", "--json", "-"))["tenants"]] == [
        "reports"
    ]
    assert "enabled" in await run("enable", "reports")
    assert "2 of 2" not in await run("list")
    assert "operator" in await run("show", "reports")
    assert "usage from" in await run("usage", "--since", "7d")
    assert "give how long ago" in await run("usage", "--since", "yesterday", code=2)
    text = await run("audit", "reports", "--last", "3")
    assert text.index("EnableTenant") < text.index("DisableTenant") < text.index("RotateKey")
    assert "CreateTenant" not in text
    assert "no tenant 'nobody'" in await run("show", "nobody", code=1)
    assert "is enabled" in await run("delete", "reports", code=1)
    await run("disable", "reports")
    assert "reports: deleted, and 0 ended jobs" in await run("delete", "reports")
    assert "no tenant 'reports'" in await run("show", "reports", code=1)
    stranger = await asyncio.to_thread(
        CliRunner().invoke, app, ["tenants", "list", "--address", bare.scheduler.address, "--key", "bob-key"]
    )
    assert (stranger.exit_code, "operator" in stranger.output) == (1, True)
