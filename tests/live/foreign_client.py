"""Examples in other languages, built from a copy of what is committed and run against a real scheduler."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fairlead.certs import CertStore
from fairlead.config import SecurityConfig
from tests.live.scheduler_suite import Suite, running_suite, worker_config

ROOT = Path(__file__).resolve().parents[2]
BUILD_WITHIN_S = 300.0
RUN_WITHIN_S = 60.0
_BUILT = ("node_modules", "generated", "build", "gopath", "example", "classes")


@dataclass(frozen=True)
class Example:
    """A built example: where it lies and what runs it."""

    folder: Path
    command: tuple[str, ...]


def build(language: str, into: Path, *commands: tuple[str, ...]) -> Path:
    """Copies contract and examples to `into`, runs the commands in the language's folder, and returns that folder."""
    shutil.copytree(ROOT / "protos", into / "protos")
    shutil.copytree(ROOT / "examples", into / "examples", ignore=shutil.ignore_patterns(*_BUILT))
    folder = into / "examples" / language
    for command in commands:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=BUILD_WITHIN_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return folder


async def run(example: Example, address: str, key: str, more: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Runs it; exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *example.command, cwd=example.folder,
        env={**os.environ, "FAIRLEAD_ADDRESS": address, "FAIRLEAD_KEY": key, **(more or {})},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RUN_WITHIN_S):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def check_streams_cancels_and_reads_refusals(example: Example, state: Path) -> None:
    """What every example promises, over a worker whose long answer takes seconds."""
    slow = worker_config(simulated_step_ms=(4.0, 0.0, 0.0, 0.0))
    async with running_suite(state, workers=[slow]) as suite:
        code, out, errors = await run(example, suite.scheduler.address, "alice-key")
        assert code == 0, out + errors
        streamed, cancelled, refused = (part.strip().splitlines() for part in out.split("== ")[1:])
        assert streamed[1] == "accepted: tenant alice, model demo"
        assert streamed[3].startswith("finished: OUTCOME_")
        tokens = int(streamed[3].split(", ")[1].split()[0])
        assert len(streamed[2].split()) == tokens > 0
        assert cancelled[1] == "finished: OUTCOME_CANCELLED_BY_CLIENT after some of 2000 tokens"
        assert "INVALID_FIELD: sampling.temperature: must be at least 0" in refused[1]
        assert refused[2].startswith("field: sampling.temperature must be at least 0")
        await suite.all_free()
        await _check_wrong_key(example, suite)
    async with running_suite(state, workers=[], predictor=None) as suite:
        code, _, errors = await run(example, suite.scheduler.address, "alice-key")
        assert code == 1
        assert "NO_WORKER" in errors
        assert "retry after: 1000 ms" in errors


async def _check_wrong_key(example: Example, suite: Suite) -> None:
    code, _, errors = await run(example, suite.scheduler.address, "wrong")
    assert code == 1
    assert "UNAUTHENTICATED: no tenant has this key" in errors


async def check_mutual_tls(example: Example, folder: Path) -> None:
    """It believes the suite's CA and shows a certificate; without one it is not let in."""
    store, now, days = CertStore(folder / "certs"), datetime.now(UTC), timedelta(days=9)
    store.make_authority(days, now)
    for service in ("scheduler", "predictor", "worker"):
        store.issue_service(service, [], days, now)
    store.issue_client("alice", days, now)
    ca, own = store.folder / "ca" / "ca.crt", store.folder / "clients" / "alice"
    security = SecurityConfig(folder=store.folder, client_ca=ca)
    slow = worker_config(simulated_step_ms=(4.0, 0.0, 0.0, 0.0))
    async with running_suite(folder / "state", workers=[slow], predictor=None, security=security) as suite:
        trusting = {"FAIRLEAD_CA": str(ca)}
        shown = {"FAIRLEAD_CERT": str(own / "tls.crt"), "FAIRLEAD_CERT_KEY": str(own / "tls.key")}
        code, out, errors = await run(example, suite.scheduler.address, "alice-key", trusting | shown)
        assert code == 0, out + errors
        assert "accepted: tenant alice, model demo" in out
        code, _, errors = await run(example, suite.scheduler.address, "alice-key", trusting)
        assert code == 1
        assert "error: unavailable" in errors.lower()
