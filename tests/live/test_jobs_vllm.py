"""A durable job on real vLLM: its lines have the engine's own answers, also over a scheduler that is killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from fairlead.client import AsyncClient
from fairlead.config import WorkerConfig
from fairlead.rpc import free_port
from tests.fault.job_load import JobLoad
from tests.live.scheduler_suite import running_process, running_worker
from tests.live.test_jobs import ALICE, PATIENT
from tests.live.tiny_model import write_tiny_llama

pytestmark = [pytest.mark.live, pytest.mark.vllm]
PROMPTS = [f"prompt {index}" for index in range(8)]
SAMPLING: dict[str, Any] = {"max_tokens": 60, "min_tokens": 20, "temperature": 0.0}
LINES = 60


async def test_each_line_has_the_answer_of_the_engine_over_a_killed_scheduler(tmp_path: Path) -> None:
    config = WorkerConfig(
        listen="127.0.0.1:0", engine="vllm", model=str(write_tiny_llama(tmp_path / "tiny")), slots=16, step_seats=8,
        max_context_tokens=512,
    )  # fmt: skip
    listen = f"127.0.0.1:{free_port()}"
    async with running_worker(config) as worker, AsyncClient(listen, "alice-key", retry=PATIENT) as client:
        section = {"listen": listen, "workers": [worker.address], "predictor": None, "state_dir": str(tmp_path / "s")}
        sections = {"scheduler": section, "tenants": ALICE}
        async with running_process(tmp_path, "scheduler_svc", **sections) as scheduler:
            answers = [await client.complete(each, return_token_ids=True, **SAMPLING) for each in PROMPTS]
            job = JobLoad(client, LINES, PROMPTS, SAMPLING, [list(answer.token_ids) for answer in answers])
            running = asyncio.create_task(job.run(lambda: True))
            while job.ended < LINES // 6 and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await scheduler.end(signal.SIGKILL)
        assert not running.done()
        held: Any = worker.service._ledger
        assert len(held), "the kill hit no line in mid-answer"
        async with running_process(tmp_path, "scheduler_svc", **sections):
            await running
    assert not job.wrong
    assert (job.jobs, job.ended) == (1, LINES)
