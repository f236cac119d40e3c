"""Durable jobs on a real scheduler and real workers (simulated engine): nothing accepted is lost or comes twice."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from fairlead.client import (
    AlreadyExists,
    AsyncClient,
    InvalidRequest,
    Job,
    JobResult,
    JobState,
    NotFound,
    Outcome,
    Overloaded,
    PermissionDenied,
    Retry,
    Unauthenticated,
)
from fairlead.rpc import free_port, make_channel, read_details
from fairlead.v1 import jobs_pb2, jobs_pb2_grpc
from tests.live.scheduler_suite import (
    expected,
    running_process,
    running_suite,
    running_worker,
    until,
    worker_config,
    worker_section,
)

pytestmark = pytest.mark.live
PATIENT = Retry(attempts=200, first_delay_s=0.02, max_delay_s=0.2, reattach_attempts=200)
ALICE = [
    {"name": "alice", "key": "alice-key", "default_class": "be"},
    {"name": "op", "key": "op-key", "operator": True},
]


def lines(number: int, **values: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"c{index}", "prompt": f"prompt {index}", **values} for index in range(1, number + 1)]


async def results_of(client: AsyncClient, job_id: str, from_line: int = 1) -> list[JobResult]:
    return [result async for result in client.jobs.results(job_id, from_line)]


async def ended(client: AsyncClient, job_id: str) -> Job:
    """The job once it has ended."""
    last = [job async for job in client.jobs.watch(job_id, interval_s=0.1)][-1]
    assert last.state.ended
    return last


def check_answers(found: list[JobResult], number: int) -> None:
    """Each line once, in order, with the engine's own answer."""
    assert [result.line for result in found] == list(range(1, number + 1))
    for result in found:
        assert result.outcome.complete, result
        assert result.custom_id == f"c{result.line}"
        assert result.text == expected(f"prompt {result.line}", result.usage.output_tokens), result


async def test_a_job_runs_to_its_end_and_its_results_come_in_order(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        client = suite.client("bob")
        job = await client.jobs.submit(lines(150, max_tokens=12), name="first", return_token_ids=True)
        assert (job.lines, job.name, job.model, job.existed) == (150, "first", "demo", False)
        found = await results_of(client, job.job_id)  # begun while lines run
        check_answers(found, 150)
        assert all(len(result.token_ids) == result.usage.output_tokens for result in found)
        last = await ended(client, job.job_id)
        assert (last.state, last.ended_lines, last.failed_lines) == (JobState.COMPLETED, 150, 0)
        assert last.usage.output_tokens == sum(result.usage.output_tokens for result in found)
        assert await results_of(client, job.job_id, from_line=149) == found[148:]
        await suite.all_free()
        assert [one.job_id async for one in client.jobs.list()] == [job.job_id]
        await client.jobs.delete(job.job_id)
        with pytest.raises(NotFound):
            await client.jobs.get(job.job_id)


async def test_a_thousand_lines_over_kills_of_the_scheduler(tmp_path: Path) -> None:
    """Each line has exactly one result, the engine's own, however often the scheduler dies; the client only waits."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    listen = f"127.0.0.1:{free_port()}"
    async with running_worker(worker_config()) as worker:
        section = {"listen": listen, "workers": [worker.address], "predictor": None, "state_dir": str(tmp_path / "s")}
        sections = {"scheduler": section, "tenants": ALICE}
        async with AsyncClient(listen, "alice-key", retry=PATIENT) as client:
            job, reading, kills = None, None, 0
            while reading is None or not reading.done():
                async with running_process(tmp_path, "scheduler_svc", **sections) as scheduler:
                    if job is None:
                        job = await client.jobs.submit(lines(1000, max_tokens=30), idempotency_key="once")
                        reading = asyncio.create_task(results_of(client, job.job_id))
                    assert reading is not None
                    if kills == 4:
                        await reading
                        break
                    before = (await client.jobs.get(job.job_id)).ended_lines
                    more = before + rng.randint(60, 200)
                    async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
                        if seen.ended_lines >= more:
                            break
                    await scheduler.end(signal.SIGKILL)
                    kills += 1
            assert kills >= 3
    assert reading is not None
    check_answers(await reading, 1000)


async def test_a_finished_line_is_not_run_again_after_a_kill(tmp_path: Path) -> None:
    """Counted at the worker: what it ran after the restart are the lines that had no result on disk."""
    listen = f"127.0.0.1:{free_port()}"
    async with running_worker(worker_config()) as worker:
        admitted: Counter[str] = Counter()
        engine: Any = worker._engine  # type: ignore[attr-defined]
        admit = engine.admit

        async def counted(request: Any) -> None:
            admitted[" ".join(map(str, request.token_ids))] += 1
            await admit(request)

        engine.admit = counted
        section = {
            "listen": listen, "workers": [worker.address], "predictor": None, "state_dir": str(tmp_path / "s"),
            "jobs": {"lines_in_flight": 8},
        }  # fmt: skip
        sections = {"scheduler": section, "tenants": ALICE}
        async with AsyncClient(listen, "alice-key", retry=PATIENT) as client:
            async with running_process(tmp_path, "scheduler_svc", **sections) as scheduler:
                job = await client.jobs.submit(lines(120, max_tokens=30))
                async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
                    if seen.ended_lines >= 50:
                        break
                await scheduler.end(signal.SIGKILL)
            async with running_process(tmp_path, "scheduler_svc", **sections):
                check_answers(await results_of(client, job.job_id), 120)
        again = sum(number - 1 for number in admitted.values())
        assert len(admitted) == 120
        assert again <= 8, "more lines ran twice than were in flight"
        assert max(admitted.values()) == 2 or again == 0


async def test_a_drain_leaves_lines_for_the_next_start(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with running_worker(worker_config()) as worker:
        section = {"listen": listen, "workers": [worker.address], "predictor": None, "state_dir": str(tmp_path / "s")}
        sections = {"scheduler": section, "tenants": ALICE}
        async with AsyncClient(listen, "alice-key", retry=PATIENT) as client:
            async with running_process(tmp_path, "scheduler_svc", **sections) as first:
                job = await client.jobs.submit(lines(300, max_tokens=30))
                async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
                    if seen.ended_lines >= 20:
                        break
                assert await first.end(signal.SIGTERM) == 0
            async with running_process(tmp_path, "scheduler_svc", **sections):
                check_answers(await results_of(client, job.job_id), 300)
                assert (await client.jobs.get(job.job_id)).state is JobState.COMPLETED


async def test_a_cancelled_job_frees_the_engine_and_gives_each_line_one_outcome(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        client = suite.client("bob")
        job = await client.jobs.submit(lines(400, max_tokens=2000, ignore_eos=True))
        engine: Any = suite.workers[0]._engine  # type: ignore[attr-defined]
        await until(lambda: len(engine._core.sequences) >= 8, "lines to run")
        told = await client.jobs.cancel(job.job_id)
        assert told.state in (JobState.CANCELLING, JobState.CANCELLED)
        last = await ended(client, job.job_id)
        assert last.state is JobState.CANCELLED
        assert dict(last.outcomes) == {Outcome.CANCELLED_BY_CLIENT: 400}
        await suite.all_free()
        found = await results_of(client, job.job_id)
        assert [result.line for result in found] == list(range(1, 401))
        begun = [result for result in found if result.attempts]
        assert begun
        assert all(result.text == expected(f"prompt {result.line}", result.usage.output_tokens) for result in begun)
        assert (await client.jobs.cancel(job.job_id)).state is JobState.CANCELLED  # again: nothing happens


async def test_a_job_whose_time_is_over_ends_expired(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        client = suite.client("bob")
        job = await client.jobs.submit(lines(40, max_tokens=4000, ignore_eos=True), lifetime_s=1.0)
        last = await ended(client, job.job_id)
        assert last.state is JobState.EXPIRED
        assert set(last.outcomes) <= {Outcome.EXPIRED, Outcome.LENGTH}
        assert last.outcomes[Outcome.EXPIRED] > 0
        await suite.all_free()


async def test_one_key_one_job_however_many_submit_at_once(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        retry = Retry(attempts=50, max_delay_s=1.0)  # two submissions of a tenant at once, the others come again
        async with AsyncClient(suite.scheduler.address, "bob-key", retry=retry) as client:
            made = await asyncio.gather(
                *(client.jobs.submit(lines(20, max_tokens=3), idempotency_key="k") for _ in range(6))
            )
            assert len({job.job_id for job in made}) == 1
            assert sorted(job.existed for job in made) == [False] + [True] * 5
            check_answers(await results_of(client, made[0].job_id), 20)
            with pytest.raises(AlreadyExists) as other:
                await client.jobs.submit(lines(21, max_tokens=3), idempotency_key="k")
            assert other.value.reason == "KEY_IN_USE"
            assert made[0].job_id in other.value.message
            with pytest.raises(AlreadyExists):  # the same lines under other options are another job
                await client.jobs.submit(lines(20, max_tokens=3), idempotency_key="k", temperature=0.5)


async def test_bad_lines_are_named_by_their_numbers_and_nothing_is_accepted(tmp_path: Path) -> None:
    file = b"\n".join(
        [
            b'{"prompt": "good"}',
            b"",
            b'{"prompt": "x", "top_p": 2}',
            b"not json",
            b'{"prompt": "x", "custom_id": "a"}',
            b'{"prompt": "y", "custom_id": "a"}',
            b'{"prompt": "x", "temprature": 1}',
            b'{"prompt": "x", "model": "gpt-9"}',
            b'{"custom_id":"b","method":"POST","url":"/v1/chat/completions","body":{"prompt":"x"}}',
        ]
    )
    async with running_suite(tmp_path) as suite:
        client = suite.client("bob")
        with pytest.raises(InvalidRequest) as bad:
            await client.jobs.submit(file)
        assert bad.value.fields == {
            "line 3: top_p": "must be above 0, at most 1",
            "line 4": "is not JSON: expected ident at line 1 column 2",
            "line 6: custom_id": "'a' is that of line 5 already",
            "line 7: temprature": "is not supported; leave it out",
            "line 8: model": "'gpt-9' is not served; served now: demo",
            "line 9": "/v1/chat/completions takes body.messages",
        }
        assert "line 3: top_p: must be above 0, at most 1 (and 5 more bad lines)" in bad.value.message
        with pytest.raises(InvalidRequest, match="the file holds no request"):
            await client.jobs.submit(b"\n\n")
        assert [job async for job in client.jobs.list()] == []


async def test_a_line_that_no_engine_takes_fails_alone(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        client = suite.client("bob")
        long = {"custom_id": "long", "prompt": "word " * 5000}
        job = await client.jobs.submit([*lines(3, max_tokens=4), long, *lines(0)])
        found = await results_of(client, job.job_id)
        assert [result.outcome.complete for result in found] == [True, True, True, False]
        assert found[3].outcome is Outcome.FAILED_ENGINE
        assert "4096" in found[3].detail
        last = await ended(client, job.job_id)
        assert (last.state, last.failed_lines) == (JobState.COMPLETED, 1)


async def test_jobs_wait_for_a_worker_and_say_so(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=0, addresses=["127.0.0.1:1"]) as suite:
        client = suite.client("bob")
        job = await client.jobs.submit(lines(5, max_tokens=3))
        async for seen in client.jobs.watch(job.job_id, interval_s=0.1):
            if seen.held_up_by:
                assert "no worker is connected" in seen.held_up_by
                assert seen.state in (JobState.QUEUED, JobState.RUNNING)
                break
        await client.jobs.cancel(job.job_id)
        assert dict((await ended(client, job.job_id)).outcomes) == {Outcome.CANCELLED_BY_CLIENT: 5}


async def test_another_tenants_job_is_unknown_in_every_call(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite, make_channel(suite.scheduler.address) as channel:
        job = await suite.client("bob").jobs.submit(lines(3, max_tokens=3), idempotency_key="mine")
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        one = job.job_id
        calls = {
            "GetJob": jobs_pb2.GetJobRequest(job_id=one),
            "WatchJob": jobs_pb2.WatchJobRequest(job_id=one),
            "CancelJob": jobs_pb2.CancelJobRequest(job_id=one),
            "FetchResults": jobs_pb2.FetchResultsRequest(job_id=one),
            "StreamResults": jobs_pb2.StreamResultsRequest(job_id=one),
            "DeleteJob": jobs_pb2.DeleteJobRequest(job_id=one),
        }
        rpcs = set(jobs_pb2.DESCRIPTOR.services_by_name["JobService"].methods_by_name)
        assert rpcs == {*calls, "SubmitJob", "ListJobs"}, "a call that this test does not know"
        for name, message in calls.items():
            for key, code in (("alice-key", grpc.StatusCode.NOT_FOUND), ("wrong", grpc.StatusCode.UNAUTHENTICATED)):
                call = getattr(stub, name)(message, metadata=(("authorization", f"Bearer {key}"),))
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await (call.read() if hasattr(call, "read") else call)
                assert refused.value.code() is code, name
        assert [job async for job in suite.client("alice").jobs.list()] == []
        mine = await suite.client("alice").jobs.submit(lines(3, max_tokens=3), idempotency_key="mine")
        assert mine.job_id != one
        with pytest.raises(Unauthenticated):
            async with AsyncClient(suite.scheduler.address, "wrong") as stranger:
                await stranger.jobs.submit(lines(1))
        check_answers(await results_of(suite.client("bob"), one), 3)


async def test_bounds_are_typed_refusals(tmp_path: Path) -> None:
    jobs = {"max_lines": 10, "max_job_mb": 0.01, "max_line_bytes": 2000, "max_jobs_per_tenant": 2}
    async with running_suite(tmp_path, jobs=jobs) as suite:
        client = suite.client("bob")
        with pytest.raises(InvalidRequest, match=r"more than 10 lines \(scheduler.jobs.max_lines\)"):
            await client.jobs.submit(lines(11))
        with pytest.raises(InvalidRequest, match=r"more than 0.01 MB \(scheduler.jobs.max_job_mb\)"):
            await client.jobs.submit(lines(10, prompt="x" * 1900))
        with pytest.raises(InvalidRequest, match=r"line 2: has more than 2000 bytes"):
            await client.jobs.submit(b'{"prompt": "x"}\n{"prompt": "' + b"x" * 3000 + b'"}')
        for _ in range(2):
            await client.jobs.submit(lines(1, max_tokens=1))
        with pytest.raises(Overloaded) as full:
            await client.jobs.submit(lines(1))
        assert (full.value.reason, full.value.retry_after_ms) == ("TENANT_JOBS_FULL", 10_000)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([], "options"),
        ([{"jsonl": b'{"prompt": "x"}'}], "options"),
        ([{"options": {}}, {"options": {}}], "jsonl"),
        ([{"options": {}}], "jsonl"),
        ([{"options": {"idempotency_key": "\n"}}], "options.idempotency_key"),
        ([{"options": {"name": "x" * 129}}], "options.name"),
        ([{"options": {"lifetime": {"seconds": -1}}}], "options.lifetime"),
    ],
)
async def test_a_stream_that_is_no_submission(parts: list[dict[str, Any]], field: str, tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite, make_channel(suite.scheduler.address) as channel:
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        messages = iter([jobs_pb2.SubmitJobRequest(**part) for part in parts])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SubmitJob(messages, metadata=(("authorization", "Bearer bob-key"),))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(read_details(refused.value).fields) == [field]


async def test_a_tenant_without_the_be_class_has_no_jobs(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        section = {"listen": "127.0.0.1:0", "workers": [worker.address], "predictor": None, "state_dir": str(tmp_path)}
        tenants = [{"name": "chat", "key": "k", "classes": ["ls"], "default_class": "ls"}]
        async with running_process(tmp_path, "scheduler_svc", scheduler=section, tenants=tenants) as scheduler:
            async with AsyncClient(scheduler.address, "k") as client:
                with pytest.raises(PermissionDenied) as refused:
                    await client.jobs.submit(lines(1))
            assert refused.value.reason == "CLASS_NOT_ALLOWED"


async def test_pages_of_results(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite, make_channel(suite.scheduler.address) as channel:
        job = await suite.client("bob").jobs.submit(lines(25, max_tokens=3))
        await ended(suite.client("bob"), job.job_id)
        stub = jobs_pb2_grpc.JobServiceStub(channel)
        seen: list[int] = []
        request = jobs_pb2.FetchResultsRequest(job_id=job.job_id, page_size=10)
        while True:
            page = await stub.FetchResults(request, metadata=(("authorization", "Bearer bob-key"),))
            seen += [result.line for result in page.results]
            request.from_line = page.next_line
            if page.complete:
                break
        assert seen == list(range(1, 26))


async def test_two_tenants_share_what_may_be_in_flight(tmp_path: Path) -> None:
    """The one who came later with little is not behind the one who came first with much."""
    async with running_suite(tmp_path, jobs={"lines_in_flight": 16}) as suite:
        big = await suite.client("alice").jobs.submit(lines(400, max_tokens=60, ignore_eos=True))
        small = await suite.client("bob").jobs.submit(lines(40, max_tokens=60, ignore_eos=True))
        await ended(suite.client("bob"), small.job_id)
        assert (await suite.client("alice").jobs.get(big.job_id)).ended_lines < 200
        await suite.client("alice").jobs.cancel(big.job_id)
        await ended(suite.client("alice"), big.job_id)


async def test_a_lost_worker_costs_no_line(tmp_path: Path) -> None:
    async with (
        running_process(tmp_path, "worker_svc", worker=worker_section()) as lost,
        running_worker(worker_config()) as other,
        running_suite(tmp_path / "state", workers=0, addresses=[lost.address, other.address]) as suite,
    ):
        await suite.connected(2)
        client = suite.client("bob")
        job = await client.jobs.submit(lines(120, max_tokens=60, ignore_eos=True))
        seeded = await client.jobs.submit(lines(30, max_tokens=60, ignore_eos=True, seed=3))
        async for seen in client.jobs.watch(seeded.job_id, interval_s=0.1):
            if seen.ended_lines or seen.lines_in_flight >= 4:
                break
        await lost.end(signal.SIGKILL)
        check_answers(await results_of(client, job.job_id), 120)
        again = await results_of(client, seeded.job_id)
        assert all(one.outcome.complete for one in again)
        assert all(one.text == expected(f"prompt {one.line}", 60, seed=3) for one in again)
