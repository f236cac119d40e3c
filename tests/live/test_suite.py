"""The whole suite as real processes over the simulated engine, used as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.client import (
    Accepted,
    Admin,
    Client,
    Delta,
    FairleadError,
    Finished,
    InvalidRequest,
    NotFound,
    Outcome,
    Unauthenticated,
)
from fairlead.v1 import admin_pb2
from tests.live.suite_process import END_S, Up, environment, eventually, up

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("suite"), "--workers", "2", "--seats", "4") as running:
        yield running


@pytest.fixture
def client(suite: Up) -> Iterator[Client]:
    with Client(suite.address, suite.session.keys["interactive"]) as connected:
        yield connected


@pytest.fixture
def admin(suite: Up) -> Iterator[Admin]:
    connected = Admin(suite.address, suite.session.keys["operator"])
    yield connected
    connected.close()


def idle(status: admin_pb2.GetStatusResponse) -> bool:
    nothing_left = all(not each.waiting and not each.running for each in status.classes)
    return nothing_left and all(not worker.kv_blocks_used for worker in status.workers)


def test_ready_line_names_the_address_and_an_example_that_works(suite: Up) -> None:
    assert f"fairlead ready at {suite.address}" in suite.ready_line
    assert 'fairlead generate "' in suite.ready_line
    assert set(suite.session.keys) == {"interactive", "batch", "operator"}
    assert any("names no tenants" in line for line in suite.errors)
    done = suite.cli("generate", "Say hello.", "--tenant", "interactive", "--max-tokens", "5", "--stats")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "TTFT at the scheduler" in done.stderr


def test_stream_is_whole_and_says_what_was_decided(client: Client) -> None:
    events = list(client.generate("Count to ten.", service_class="ls", ttft_ms=500, tpot_ms=80, max_tokens=40))
    assert isinstance(events[0], Accepted)
    assert (events[0].tenant, events[0].service_class, events[0].ttft_ms) == ("interactive", "ls", 500)
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.outcome.complete
    deltas = [event for event in events if isinstance(event, Delta)]
    assert sum(delta.token_count for delta in deltas) == last.usage.output_tokens <= 40
    assert last.decision.worker_id
    assert last.decision.ttft_ms is not None


def test_models_are_listed_with_both_workers(client: Client) -> None:
    (model,) = client.list_models()
    assert model.workers == 2


def test_attach_gives_the_same_answer_again(client: Client) -> None:
    first = list(client.generate("Tell a story.", request_id="again", max_tokens=30, min_tokens=30, ignore_eos=True))
    text = "".join(event.text for event in first if isinstance(event, Delta))
    again = list(client.attach("again"))
    assert "".join(event.text for event in again if isinstance(event, Delta)) == text
    assert isinstance(again[-1], Finished)
    with Client(client.address, None) as nobody, pytest.raises(Unauthenticated):
        list(nobody.attach("again"))


def test_other_tenants_request_is_not_found(suite: Up, client: Client) -> None:
    client.complete("hello", request_id="mine", max_tokens=3)
    with Client(suite.address, suite.session.keys["batch"]) as other, pytest.raises(NotFound):
        list(other.attach("mine"))


def test_cancelled_request_ends_so_and_frees_the_engine(client: Client, admin: Admin) -> None:
    outcome = None
    for event in client.generate("Long.", request_id="cut", max_tokens=400, min_tokens=400, ignore_eos=True):
        if isinstance(event, Delta) and event.first_token == 0:
            assert client.cancel("cut")
        elif isinstance(event, Finished):
            outcome = event.outcome
    assert outcome is Outcome.CANCELLED_BY_CLIENT
    assert not client.cancel("cut")
    eventually(lambda: idle(admin.status()), "KV was not freed after a cancellation")


def test_ctrl_c_of_generate_cancels_the_request(suite: Up, admin: Admin) -> None:
    asking = suite.start("generate", "A very long story.", "--max-tokens", "500", "--tenant", "batch")
    assert asking.stdout is not None
    assert asking.stdout.read(1)
    asking.send_signal(signal.SIGINT)
    _, errors = asking.communicate(timeout=END_S)
    assert asking.returncode == 130
    assert "cancelled" in errors
    eventually(lambda: idle(admin.status()), "KV was not freed after Ctrl-C")


def test_policy_changes_under_running_requests(suite: Up, client: Client, admin: Admin) -> None:
    events = client.generate("Long.", max_tokens=150, min_tokens=150, ignore_eos=True)
    next(events)
    assert suite.cli("policy", "set", "fcfs", "--seats", "3").returncode == 0
    assert admin.status().policy == "fcfs"
    assert suite.cli("policy", "get").stdout.splitlines()[:2] == ["fcfs", "step_seats: 3"]
    assert client.complete("hello", max_tokens=3).decision.policy == "fcfs"
    assert suite.cli("policy", "set", "slo").returncode == 0
    last = list(events)[-1]
    assert isinstance(last, Finished)
    assert last.usage.output_tokens == 150
    listed = suite.cli("policy", "list").stdout
    assert all(name in listed for name in ("fcfs", "isrtf", "slo"))
    wrong = suite.cli("policy", "set", "fastest")
    assert wrong.returncode == 1
    assert "isrtf" in wrong.stderr
    with pytest.raises(InvalidRequest):
        admin.set_policy("fastest")


def test_only_operators_change_the_policy(suite: Up) -> None:
    done = suite.cli("policy", "set", "fcfs", "--tenant", "interactive")
    assert done.returncode == 1
    assert "operator" in done.stderr
    wrong = suite.cli("generate", "hi", key="wrong")
    assert wrong.returncode == 1
    assert "give a key that the scheduler knows" in wrong.stderr


def test_small_replay_measures_every_request(suite: Up, tmp_path: Path) -> None:
    done = suite.cli(
        "replay", "--mix", "--rate", "20", "--requests", "40", "--policy", "slo", "--seed", "3", "--ttft-ms", "2000",
        "--json", str(tmp_path / "r.json"), "--plots", str(tmp_path / "plots"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "r.json").read_text())
    groups = {(group["tenant"], group["service_class"]): group for group in told["groups"]}
    assert groups["all", "all"]["offered"] == groups["all", "all"]["finished"] == 40
    assert groups["interactive", "ls"]["offered"] == groups["batch", "be"]["offered"] == 20
    assert groups["interactive", "ls"]["scheduler_ttft_ms"]["p50"] > 0
    assert (tmp_path / "plots" / "ls_ttft_cdf.png").stat().st_size > 0


def test_trace_replay_has_the_lengths_of_the_trace(suite: Up, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text(
        "arrival_s,input_tokens,output_tokens\n" + "".join(f"{i / 10},{20 + i},{5 + i}\n" for i in range(10))
    )
    done = suite.cli("replay", "--trace", str(trace), "--json", str(tmp_path / "r.json"))
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["groups"][-1]["output_tokens"] == sum(range(5, 15))


def test_status_shows_workers_and_tenants(suite: Up, client: Client) -> None:
    client.complete("hello", max_tokens=3)
    shown = suite.cli("status").stdout
    assert "worker-0" in shown
    assert "worker-1" in shown
    assert "interactive" in shown


def test_killed_predictor_is_named_and_the_suite_goes_on(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        (pid,) = running.processes("predictor_svc")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: any("predictor was ended by SIGKILL" in line for line in running.errors), "it was not named")
        with Client(running.address, running.session.keys["batch"]) as client:
            assert client.complete("hello", max_tokens=5).outcome.complete
        running.interrupt()
        assert running.process.wait(END_S) == 1
        assert running.processes() == []


def test_killed_worker_ends_the_suite_with_its_name_and_last_lines(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        (pid,) = running.processes("worker_svc")
        os.kill(pid, signal.SIGKILL)
        assert running.process.wait(END_S) == 1
        assert running.processes() == []
    said = "\n".join(running.errors)
    assert "worker-0 was ended by SIGKILL; its last lines:" in said
    assert "the suite cannot go on without it" in said


def test_ctrl_c_lets_accepted_requests_finish_and_leaves_no_process(tmp_path: Path) -> None:
    with up(tmp_path) as running, Client(running.address, running.session.keys["interactive"]) as client:
        events = client.generate("Long.", max_tokens=200, min_tokens=200, ignore_eos=True)
        next(events)
        running.interrupt()
        last = list(events)[-1]
        assert isinstance(last, Finished)
        assert (last.outcome, last.usage.output_tokens) == (Outcome.LENGTH, 200)
        assert running.process.wait(END_S) == 0, running.errors
        assert running.processes() == []
    assert not (running.state / "fairlead" / "suite.json").exists()


def test_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with up(tmp_path, "--drain-s", "600") as running, Client(running.address, running.session.keys["batch"]) as client:
        events = client.generate("Long.", max_tokens=500, min_tokens=500, ignore_eos=True)
        next(events)
        running.interrupt()
        eventually(lambda: any("draining" in line for line in running.errors), "the first Ctrl-C was not answered")
        running.interrupt()
        assert running.process.wait(END_S) != 0
        assert running.processes() == []
        with pytest.raises(FairleadError):
            list(client.generate("hello"))


def test_demo_runs_through_on_the_simulated_engine(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo.run_demo", "--engine", "simulated", "--predictor", "history", "--quick",
         "--out", str(tmp_path / "demo")],
        env=environment(tmp_path / "state"), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert {"engine", "model", "seeds", "seats", "slo"} <= set(told)
    needed = {
        "ls_ttft_p50_ms", "ls_ttft_p99_ms", "ls_attainment", "be_jct_mean_ms", "all_jct_mean_ms", "tokens_per_s",
        "requests", "finished", "preemptions",
    }  # fmt: skip
    assert set(told["policies"]) == {"fcfs", "isrtf", "slo", "fcfs_default_seats"}
    for figures in told["policies"].values():
        assert needed <= set(figures)
        assert figures["requests"] == figures["finished"] > 0
    assert {path.name for path in (tmp_path / "demo").glob("*.png")} == {
        "ls_ttft_cdf.png",
        "jct.png",
        "finishing_order.png",
    }
    assert "slo: LS TTFT p99" in done.stdout
