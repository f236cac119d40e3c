"""Decisions explained, on a real scheduler with real workers: the truth of a constructed situation, and who may ask."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.client import Admin, InvalidRequest, NotFound, PermissionDenied
from fairlead.v1 import admin_pb2
from simulator.decision_log import open_recording
from simulator.from_log import as_recorded, recorded_choice, replay
from simulator.recorded import read_traffic
from simulator.verify import verify
from tests.live.scheduler_suite import Suite, running_suite, until, worker_config

pytestmark = pytest.mark.live
SMALL = worker_config(simulated_step_ms=(5.0, 0.0, 0.0, 0.0), step_seats=1, slots=2)
SECRET = "tangerine dirigible"
Kind = admin_pb2.MomentKind


def start(suite: Suite, tenant: str, request_id: str, tokens: int = 2000, **options: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(
        suite.client(tenant).complete(
            SECRET, request_id=request_id, max_tokens=tokens, ignore_eos=True, timeout_s=60.0, **options
        )
    )


async def why(suite: Suite, request_id: str, **options: Any) -> admin_pb2.WhyResponse:
    return await suite.admin(Admin.why, request_id, **options)


async def in_state(suite: Suite, request_id: str, state: admin_pb2.RequestState) -> admin_pb2.WhyResponse:
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await why(suite, request_id)
                if answer.request.state == state:
                    return answer
            except NotFound:
                pass
            await asyncio.sleep(0.02)


async def ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def of_kind(answer: admin_pb2.WhyResponse, kind: admin_pb2.MomentKind) -> list[admin_pb2.Moment]:
    return [moment for moment in answer.moments if moment.kind == kind]


async def command(*arguments: str) -> tuple[int, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env={"COLUMNS": "220"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


async def test_why_tells_the_truth_of_who_was_paused_and_who_waits(tmp_path: Path) -> None:
    """One seat, two slots: `first` runs, `urgent` takes its seat, `last` finds no slot."""
    in_turn = {"slo": {"be_order": "fcfs"}}
    async with running_suite(tmp_path, workers=[SMALL], look_ahead=1, policy_options=in_turn) as suite:
        first = start(suite, "bob", "first")
        await in_state(suite, "first", admin_pb2.REQUEST_STATE_RUNNING)
        urgent = start(suite, "alice", "urgent", ttft_ms=500, tpot_ms=5.0)
        paused = await in_state(suite, "first", admin_pb2.REQUEST_STATE_PAUSED)
        last = start(suite, "bob", "last")
        waiting = await in_state(suite, "last", admin_pb2.REQUEST_STATE_WAITING)

        (pause,) = of_kind(paused, Kind.MOMENT_KIND_PAUSED)
        assert [each.request_id for each in pause.others] == ["urgent"]
        assert [each.request_id for each in paused.standing.first_ahead] == ["urgent"]
        assert (paused.standing.ahead, paused.standing.seats) == (1, 1)
        assert paused.standing.rank.tier == 1
        assert paused.request.pauses == 1
        assert paused.times.first_token_ms > 0
        runs = await why(suite, "urgent")
        assert [each.request_id for each in of_kind(runs, Kind.MOMENT_KIND_DISPLACED)[0].others] == ["first"]
        assert of_kind(runs, Kind.MOMENT_KIND_ASSIGNED)[0].others[0].request_id == "first"
        assert "ttft_left_ms" in runs.standing.inputs

        (hindrance,) = waiting.standing.hindrances
        assert hindrance.reason == admin_pb2.HINDRANCE_REASON_SLOTS
        assert of_kind(waiting, Kind.MOMENT_KIND_WAITS)[0].hindrance == admin_pb2.HINDRANCE_REASON_SLOTS
        assert not waiting.times.HasField("assigned_ms")
        assert waiting.policies[0].policy == "slo"
        assert waiting.rules.class_tiers
        predicted = of_kind(paused, Kind.MOMENT_KIND_PREDICTED)
        assert predicted[0].figures["p50_tokens"] > 0
        assert predicted[0].figures["asked_at_tokens"] == 0

        await ended(urgent)
        resumed = await in_state(suite, "first", admin_pb2.REQUEST_STATE_RUNNING)
        assert of_kind(resumed, Kind.MOMENT_KIND_RESUMED)
        placed = await in_state(suite, "last", admin_pb2.REQUEST_STATE_PLACED)
        let_in = of_kind(placed, Kind.MOMENT_KIND_ASSIGNED)[0]
        assert let_in.text.startswith("others left the worker")
        assert let_in.others[0].request_id == "urgent"
        gone = await in_state(suite, "urgent", admin_pb2.REQUEST_STATE_ENDED)
        assert gone.times.ended_ms > gone.times.first_token_ms
        assert SECRET not in str([paused, waiting, runs, gone])
        await ended(first, last)


async def test_only_operators_are_told_and_ids_are_found_across_tenants(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=[SMALL], why_finished=1) as suite:
        for tenant in ("alice", "bob"):
            await suite.client(tenant).complete("hello", request_id="same", max_tokens=3)
        await until(lambda: not suite.scheduler.shell.book.live, "both to end")
        for call, arguments in ((Admin.why, ("same",)), (Admin.requests, ())):
            with pytest.raises(PermissionDenied):
                await suite.admin(call, *arguments, key="alice-key")
        with pytest.raises(InvalidRequest, match="tenant"):
            await why(suite, "same")
        assert (await why(suite, "same", tenant="bob")).request.tenant == "bob"
        with pytest.raises(NotFound, match="why_finished"):
            await why(suite, "same", tenant="alice")
        with pytest.raises(NotFound, match="unheard"):
            await why(suite, "unheard")
        with pytest.raises(InvalidRequest, match="page_size"):
            await suite.admin(Admin.requests, page_size=1001)
        with pytest.raises(InvalidRequest, match="page_token"):
            await suite.admin(Admin.requests, page_token="x")
        code, text = await command("top", "--once", "--address", suite.scheduler.address, "--key", "alice-key")
        assert code == 1
        assert "operator" in text


async def test_live_requests_are_listed_page_by_page_and_filtered(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=[SMALL], look_ahead=0, overload="queue") as suite:
        tasks = [start(suite, "bob" if index % 2 else "alice", f"r{index}") for index in range(6)]
        jobs = suite.scheduler.shell.core.live_jobs()
        await until(lambda: len(jobs) == 6 and any(job.seated for job in jobs.values()), "six requests")
        seen: list[str] = []
        token = ""
        while True:
            page = await suite.admin(Admin.requests, page_size=2, page_token=token)
            seen += [each.request_id for each in page.requests]
            token = page.next_page_token
            if not token:
                break
        assert sorted(seen) == [f"r{index}" for index in range(6)]
        assert sum(each.requests for each in page.counts) == 6
        for filters, expected in (
            ({"tenant": "bob"}, {"r1", "r3", "r5"}),
            ({"service_class": "ls"}, {"r0", "r2", "r4"}),
            ({"worker_id": "elsewhere"}, set[str]()),
        ):
            page = await suite.admin(Admin.requests, **filters)
            assert {each.request_id for each in page.requests} == expected
        page = await suite.admin(Admin.requests, state=admin_pb2.REQUEST_STATE_WAITING)
        assert {each.state for each in page.requests} == {admin_pb2.REQUEST_STATE_WAITING}
        await ended(*tasks)


async def test_top_prints_a_frame_and_data_of_a_live_suite(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=[SMALL]) as suite:
        tasks = [start(suite, "bob", "batch"), start(suite, "alice", "urgent"), start(suite, "bob", "behind")]
        await in_state(suite, "urgent", admin_pb2.REQUEST_STATE_RUNNING)
        access = ("--address", suite.scheduler.address, "--key", "op-key")
        code, text = await command("top", "--once", *access)
        assert code == 0, text
        for words in ("policy slo", "history", "urgent", "batch", "behind", "alice", "bob"):
            assert words in text, words
        assert SECRET not in text
        file = tmp_path / "frame.json"
        code, _ = await command("top", "--json", str(file), "--of", "alice", *access)
        frame = json.loads(file.read_text())
        assert code == 0
        assert [each["request_id"] for each in frame["requests"]] == ["urgent"]
        (worker,) = frame["workers"]
        assert (worker["seats_used"], worker["step_seats"], worker["slots"]) == (1, 1, 2)
        assert worker["steps_per_s"] > 0
        assert worker["step_ms"] > 0
        assert next(each for each in frame["classes"] if each["tenant"] == "alice")["tokens_per_s"] > 0
        code, text = await command("why", "batch", *access)
        assert code == 0, text
        assert "what happened" in text
        code, text = await command("why", "batch", "--json", "-", *access)
        assert json.loads(text)["request"]["request_id"] == "batch"
        await ended(*tasks)


async def test_top_on_a_terminal_redraws_and_leaves_at_q(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=[SMALL]) as suite:
        task = start(suite, "alice", "watched")
        await in_state(suite, "watched", admin_pb2.REQUEST_STATE_RUNNING)
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fairlead.cli.main", "top", "--address", suite.scheduler.address, "--key", "op-key",
            "--refresh-s", "0.2", stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "COLUMNS": "160", "LINES": "50", "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)
        try:
            assert "by age" in await asyncio.to_thread(read_until, ours, "watched")
            os.write(ours, b"s")
            await asyncio.to_thread(read_until, ours, "by rank")
            os.write(ours, b"q")
            await asyncio.to_thread(read_until, ours, None)
            async with asyncio.timeout(10):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(ours)
        await ended(task)


def read_until(terminal: int, words: str | None) -> str:
    """What a terminal shows until these words come; None: until its program ends."""
    seen = b""
    while words is None or words.encode() not in seen:
        if not select.select([terminal], [], [], 15.0)[0]:
            raise AssertionError(f"waited in vain for {words!r}: {seen[-2000:]!r}")
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
    return seen.decode(errors="replace")


async def test_a_live_recording_replays_the_same_and_answers_what_another_policy_would_do(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    workers = [worker_config(simulated_step_ms=(2.0, 0.01, 0.05, 0.0), step_seats=3, slots=6) for _ in range(2)]
    async with running_suite(tmp_path, workers=workers, decision_log=folder) as suite:
        tasks = []
        for index in range(60):
            tasks.append(start(suite, "alice" if index % 2 else "bob", f"r{index}", tokens=20 + index))
            await asyncio.sleep(0.01)
            if index == 30:
                await suite.admin(Admin.set_policy, "hrrn")
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found = verify(open_recording(folder))
    assert found.difference is None
    assert found.decisions > 150
    text = next(folder.iterdir()).read_text()
    assert SECRET not in text
    assert "alice" not in text
    traffic = read_traffic(open_recording(folder))
    lengths = [request.answer_tokens for request in traffic.offered if request.spec.max_tokens != 23]
    assert lengths == [20 + index for index in range(60) if index != 3]
    assert len(traffic.workers) == 2
    rows = [
        *as_recorded(traffic, 2048),
        *(row for name in ("hybrid_slo", "slo") for row in replay(traffic, recorded_choice(name, traffic), 2048, 0)),
    ]
    assert {row.policy for row in rows} == {"recorded (slo)", "hybrid_slo", "slo"}
    assert all(row.jct_mean_s for row in rows)
