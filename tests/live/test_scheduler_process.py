"""The scheduler as a process: what it says at the start, how it ends, and what a crash costs its clients."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.client import AsyncClient, Delta, Finished, NotFound, Outcome, Retry, Unavailable
from fairlead.rpc import free_port
from tests.live.scheduler_suite import (
    WITHIN_S,
    Process,
    expected,
    running_process,
    running_worker,
    until,
    worker_config,
)

pytestmark = pytest.mark.live
TENANTS = [{"name": "me", "key": "k", "operator": True, "default_class": "ls"}]


def sections(state_dir: Path, worker: str, listen: str = "127.0.0.1:0") -> dict[str, Any]:
    scheduler = {"listen": listen, "workers": [worker], "predictor": None, "state_dir": str(state_dir)}
    return {"scheduler": scheduler, "tenants": TENANTS}


async def told_at_start(folder: Path, *options: str, **config: Any) -> tuple[int, str]:
    """Exit code and standard error of a scheduler that does not start."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scheduler_svc", "--config", str(path), *options, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(WITHIN_S):
        _, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, error.decode()


async def serves(client: AsyncClient) -> None:
    """Waits until a worker is connected."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                if await client.list_models():
                    return
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_it_says_when_it_is_ready_and_finishes_what_it_accepted(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        config = sections(tmp_path / "state", worker.address)
        async with running_process(tmp_path, "scheduler_svc", "--policy", "isrtf", **config) as scheduler:
            assert scheduler.ready == f"scheduler ready at {scheduler.address} policy=isrtf"
            async with AsyncClient(scheduler.address, "k", retry=Retry(attempts=1)) as client:
                await serves(client)
                stream = client.generate("to the end", max_tokens=1000, ignore_eos=True)
                await anext(stream)
                scheduler.process.send_signal(signal.SIGTERM)
                events = [event async for event in stream]
            assert isinstance(events[-1], Finished)
            assert events[-1].outcome is Outcome.LENGTH
            assert "".join(event.text for event in events if isinstance(event, Delta)) == expected("to the end", 1000)
            assert await scheduler.process.wait() == 0
        await until(lambda: not worker.service._ledger._held, "the worker to forget")  # type: ignore[attr-defined]


async def test_what_is_not_finished_in_time_ends_by_the_operator(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        config = sections(tmp_path / "state", worker.address)
        async with running_process(tmp_path, "scheduler_svc", "--drain-timeout-s", "0.1", **config) as scheduler:
            async with AsyncClient(scheduler.address, "k", retry=Retry(attempts=1)) as client:
                await serves(client)
                stream = client.generate("cut", max_tokens=4000, ignore_eos=True)
                await anext(stream)
                scheduler.process.send_signal(signal.SIGINT)
                events = [event async for event in stream]
            assert isinstance(events[-1], Finished)
            assert events[-1].outcome is Outcome.CANCELLED_BY_OPERATOR
            assert await scheduler.process.wait() == 0


async def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        config = sections(tmp_path / "state", worker.address)
        async with running_process(tmp_path, "scheduler_svc", **config) as scheduler:
            client = AsyncClient(scheduler.address, "k", retry=Retry(attempts=1))
            await serves(client)
            stream = client.generate("never mind", max_tokens=4000, ignore_eos=True)
            await anext(stream)
            scheduler.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WITHIN_S):
                with pytest.raises(Unavailable):  # from when the first signal was taken
                    while True:
                        await client.complete("refused", max_tokens=1)
            assert await scheduler.end(signal.SIGTERM) == 128 + signal.SIGTERM
            await stream.aclose()
            await client.close()


async def test_a_crash_costs_no_token_of_a_client_that_keeps_them(tmp_path: Path) -> None:
    """The client sends its request again under the same id, with the tokens that it has."""
    listen = f"127.0.0.1:{free_port()}"
    async with running_worker(worker_config()) as worker:
        config = sections(tmp_path / "state", worker.address, listen)
        retry = Retry(attempts=100, first_delay_s=0.02, max_delay_s=0.2, reattach_attempts=100)
        async with AsyncClient(listen, "k", retry=retry) as client:
            async with running_process(tmp_path, "scheduler_svc", **config) as first:
                await serves(client)
                stream = client.generate(
                    "crash proof", max_tokens=1500, ignore_eos=True, return_token_ids=True, request_id="r"
                )
                events = [await anext(stream) for _ in range(20)]
                await first.end(signal.SIGKILL)
            async with running_process(tmp_path, "scheduler_svc", **config):
                events += [event async for event in stream]
                deltas = [event for event in events if isinstance(event, Delta)]
                assert [delta.first_token for delta in deltas] == _offsets(deltas)
                assert "".join(delta.text for delta in deltas) == expected("crash proof", 1500)
                assert isinstance(events[-1], Finished)
                assert events[-1].usage.output_tokens == 1500
                with pytest.raises(NotFound):
                    await anext(client.attach("of the first"))
        assert (tmp_path / "state" / "epoch").read_text() == "2\n"


def _offsets(deltas: list[Delta]) -> list[int]:
    return [sum(delta.token_count for delta in deltas[:index]) for index in range(len(deltas))]


async def test_help_teaches() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scheduler_svc", "--help", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    for word in (b"--worker", b"--predictor", b"--policy", b"dns:///", b"fairlead up", b"tenants:"):
        assert word in out


@pytest.mark.parametrize(
    ("options", "config", "says"),
    [
        ((), {}, "tenants: none is configured"),
        (("--policy", "best"), {"tenants": TENANTS}, "known: anneal, "),
        (("--worker", "nowhere"), {"tenants": TENANTS}, "neither host:port nor dns:///name:port"),
        (("--listen", "256.0.0.1:1"), {"tenants": TENANTS}, "security.allow_insecure"),
        (
            ("--listen", "256.0.0.1:1"),
            {"tenants": TENANTS, "security": {"allow_insecure": True}},
            "cannot listen on 256.0.0.1:1",
        ),
        ((), {"tenants": TENANTS, "scheduler": {"polcy": "slo"}}, "polcy"),
    ],
)
async def test_what_cannot_work_is_told_with_its_remedy_and_exit_code_2(
    options: tuple[str, ...], config: dict[str, Any], says: str, tmp_path: Path
) -> None:
    code, error = await told_at_start(tmp_path, *options, **config)
    assert code == 2
    assert says in error
    assert "Traceback" not in error


async def test_a_corrupt_epoch_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("seven")
    scheduler = {"state_dir": str(tmp_path), "listen": "127.0.0.1:0"}
    code, error = await told_at_start(tmp_path, tenants=TENANTS, scheduler=scheduler)
    assert code == 2
    assert "write into it a whole number" in error


async def test_prompts_answers_and_keys_stay_out_of_the_logs(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        config = {**sections(tmp_path / "state", worker.address), "log": {"level": "debug", "format": "json"}}
        async with running_process(tmp_path, "scheduler_svc", log_file=tmp_path / "log", **config) as scheduler:
            await _one_answer(scheduler)
        log = (tmp_path / "log").read_text()
        assert "worker connected" in log
        for secret in ("confidential words", "Bearer", '"k"', expected("confidential words", 1)):
            assert secret not in log


async def _one_answer(scheduler: Process) -> None:
    async with AsyncClient(scheduler.address, "k") as client:
        await serves(client)
        await client.complete("confidential words", max_tokens=20)
        await scheduler.end()
