"""A scheduler process in front of lean workers, which cost next to nothing: nothing but the scheduler is loaded."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from fairlead.cli.child import Child
from fairlead.cli.suite import change, child_environment, plain, with_demo_tenants
from fairlead.client import AsyncClient, FairleadError, Retry
from fairlead.config import Config

START_S = 60.0


@dataclass
class Loaded:
    """What was started: where the scheduler listens, a key for it, and processes by role."""

    address: str
    key: str
    scheduler: int
    workers: dict[str, int] = field(default_factory=dict[str, int])


@asynccontextmanager
async def lean_suite(streams: int, tokens_per_s: float, workers: int, policy: str) -> AsyncGenerator[Loaded]:
    """Starts `workers` lean workers for `streams` together, and a scheduler that has reached them."""
    slots = -(-streams // workers)
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(lean_worker(slots, tokens_per_s)) for _ in range(workers)]
        config = change(with_demo_tenants(Config()), "log", level="warning")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-")))
        config = change(
            config, "scheduler", listen="127.0.0.1:0", policy=policy, look_ahead=0, state_dir=str(folder),
            workers=[address for address, _ in started],
        )  # fmt: skip
        config = config.model_copy(update={"scheduler": config.scheduler.model_copy(update={"predictor": None})})
        path = folder / "scheduler.yaml"
        path.write_text(yaml.safe_dump(plain(config)), encoding="utf-8")
        scheduler = Child("scheduler", "scheduler_svc", path, child_environment(os.environ), None)
        await scheduler.start()
        stack.push_async_callback(scheduler.end, 5.0)
        address = await scheduler.wait_ready(START_S)
        key = next(each.key for each in config.tenants if each.name == "interactive")
        assert key is not None
        await _reached(address, key.get_secret_value(), workers)
        pids = {f"worker {index}": pid for index, (_, pid) in enumerate(started)}
        yield Loaded(address, key.get_secret_value(), scheduler.pid, pids)


@asynccontextmanager
async def lean_worker(slots: int, tokens_per_s: float) -> AsyncGenerator[tuple[str, int]]:
    """Its address and pid; it ends with the block, and with this process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.lean_worker", str(slots), str(tokens_per_s),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            address = (await process.stdout.readline()).decode().strip()
        yield address, process.pid
    finally:
        process.stdin.close()
        await process.wait()


async def _reached(address: str, key: str, workers: int) -> None:
    """Returns once the scheduler has reached every worker. Raises TimeoutError."""
    async with asyncio.timeout(START_S), AsyncClient(address, key, retry=Retry(attempts=1)) as client:
        while True:
            try:
                if sum(model.workers for model in await client.list_models()) >= workers:
                    return
            except FairleadError:
                pass
            await asyncio.sleep(0.1)
