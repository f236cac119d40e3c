"""The decision log: what is written comes back, within its bounds; a bad file is named; recordings replay the same."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.config import ConfigError
from fairlead.lengths import LengthDistribution
from scheduler_svc import decision_log
from scheduler_svc.core import codec
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    AdmitRefusal,
    Arrived,
    AssignRefused,
    CancelRequested,
    Change,
    Decision,
    Event,
    ExecutionEnded,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    StepCost,
    Stepped,
    TenantsChanged,
    TenantTerms,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)
from scheduler_svc.decision_log import DecisionLog, LogSettings
from simulator.decision_log import LogError, open_recording
from simulator.from_log import replay
from simulator.policies import parse_choice
from simulator.recorded import read_traffic
from simulator.verify import verify
from tests.property import world

LAW = LengthDistribution.lognormal(101.7, 0.61, source="encoder").truncated(512)
EVENTS: list[Event] = [
    Arrived(1, "alice", "m", True, 1000.0, 50.0, 7, 512, expires_ms=12.3456789012345, length_hint_tokens=3),
    Predicted(1, 0, LAW),
    Predicted(1, 50, None),
    Stepped("w/1", ((1, 1, 3), (2, 1, 1)), ((1, 1, Change.PAUSED),)),
    ExecutionEnded("w/1", 1, 1, Outcome.STOP),
    AssignRefused("w/1", 1, 1, AdmitRefusal.FULL),
    CancelRequested(1, Outcome.EXPIRED),
    WorkerUp("w/1", "m", 4, 2, 100, 16, 8, StepCost(0.1, 0.2, 0.3, 0.4)),
    WorkerUpdated("w/1", StepCost(1.5), True, 0.1),
    WorkerLost("w/1"),
    PolicyChanged("slo", PolicySettings(step_seats=3, options=(("be_order", "fcfs"), ("x", 1.5), ("y", True)))),
    TenantsChanged((TenantTerms("alice", 2.5, tokens_per_minute=600.0), TenantTerms("bob", max_in_flight=3))),
]


def as_text(value: object) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_comes_back_as_it_was(event: Event) -> None:
    back, at_ms = codec.read_event(as_text(codec.event_value(event, 5439.171503)))
    assert (back, at_ms) == (event, 5439.171503)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20), st.floats(0, 1e12))
def test_numbers_come_back_to_the_last_digit(tokens: list[float], at_ms: float) -> None:
    levels = [(index + 1) / (len(tokens) + 1) for index in range(len(tokens))]
    law = LengthDistribution.from_quantiles(levels, sorted(tokens))
    back, back_ms = codec.read_event(as_text(codec.event_value(Predicted(1, 0, law), at_ms)))
    assert isinstance(back, Predicted)
    assert (back.distribution, back_ms) == (law, at_ms)


def test_no_text_is_written() -> None:
    told = [
        codec.event_value(ExecutionEnded("w", 1, 1, Outcome.FAILED_ENGINE, "secret"), 0.0),
        codec.event_value(CancelRequested(1, Outcome.EXPIRED, "secret"), 0.0),
        codec.event_value(AssignRefused("w", 1, 1, AdmitRefusal.INVALID, "secret"), 0.0),
    ]
    assert "secret" not in json.dumps(told)


class Recorded:
    """A core whose events and ticks are recorded, driven by hand."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.now_ms = 0.0
        limits = Limits(look_ahead=1)
        self.core = SchedulerCore("slo", PolicySettings(window_tokens=20), limits)
        self.log = DecisionLog(LogSettings(folder, **settings), self.core, limits, lambda: self.now_ms)

    def tell(self, *events: Event, after_ms: float = 7.3) -> list[Decision]:
        self.now_ms += after_ms
        for event in events:
            self.log.saw(event, self.now_ms)
            self.core.handle(event, self.now_ms)
        decisions = self.core.tick(self.now_ms)
        self.log.ticked(self.now_ms, decisions)
        return decisions

    def busy(self, jobs: int, first: int = 1) -> None:
        """So many requests, one after the other, each answered; some are cut."""
        if first == 1:
            self.tell(WorkerUp("box:1/abc", "m", 4, 2, 200, 16, 16, StepCost(5.0, 0.0, 0.0, 0.0)))
            self.tell(WorkerUpdated("box:1/abc", StepCost(6.0, 0.01, 0.1, 0.001)))
        for job_id in range(first, first + jobs):
            spec = Arrived(job_id, f"tenant-{job_id % 3}", "m", job_id % 2 == 0, 1000.0, 50.0, 40, 256, expires_ms=1e9)
            self.tell(spec, after_ms=40.0)
            self.tell(Predicted(job_id, 0, LengthDistribution.lognormal(20.0 + job_id % 7, 0.4, source="p")))
            for _ in range(3):
                live = self.core.live_jobs()
                self.tell(
                    Stepped(
                        "box:1/abc",
                        tuple((job.job_id, job.attempt, 8) for job in live.values() if job.worker is not None),
                        tuple(
                            (job.job_id, job.attempt, Change.STARTED)
                            for job in live.values()
                            if job.worker is not None and not job.seated
                        ),
                    ),
                    after_ms=20.0,
                )
            ended = self.core.job(job_id)
            if ended is not None and ended.worker is not None:
                self.tell(ExecutionEnded("box:1/abc", job_id, ended.attempt, Outcome.STOP))
            elif ended is not None:
                self.tell(CancelRequested(job_id, Outcome.CANCELLED_BY_CLIENT, "my secret"))

    def close(self) -> None:
        self.log.close()


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("decisions-*"))


def test_a_recording_replays_to_the_very_same_decisions(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.busy(60)
    recorded.tell(PolicyChanged("hrrn", PolicySettings()))
    recorded.busy(20, first=61)
    recorded.close()
    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o077 == 0
    found = verify(open_recording(tmp_path))
    assert found.difference is None
    assert found.decisions > 200
    text = path.read_text()
    assert "tenant-1" not in text
    assert "secret" not in text


def test_names_are_written_only_if_configured(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, tenant_names=True)
    recorded.busy(3)
    recorded.close()
    assert "tenant-1" in files(tmp_path)[0].read_text()


def test_files_are_closed_at_their_size_gzipped_and_read_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "WRITE_EVERY_S", 0.01)
    recorded = Recorded(tmp_path, segment_bytes=30_000)
    recorded.busy(120)
    recorded.close()
    names = [path.name for path in files(tmp_path)]
    assert len(names) > 3
    assert all(name.endswith(".gz") for name in names[:-1])
    assert names[-1].endswith(".jsonl")
    whole = open_recording(tmp_path)
    assert [header.segment for header in whole.headers] == list(range(1, len(names) + 1))
    assert verify(whole).difference is None
    # A file from the middle knows its workers, but not what came before.
    middle = open_recording(tmp_path / names[1])
    assert [up.worker for up in middle.headers[0].workers] == ["box:1/abc"]
    assert middle.headers[0].workers[0].cost == StepCost(6.0, 0.01, 0.1, 0.001)
    assert read_traffic(middle).offered
    with pytest.raises(LogError, match="file 2 of its recording"):
        verify(open_recording(tmp_path / names[1]))
    (tmp_path / names[1]).unlink()
    with pytest.raises(LogError, match="file 1 of its recording, the next is 3"):
        open_recording(tmp_path)


def test_the_oldest_files_go_at_the_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "WRITE_EVERY_S", 0.01)
    old = tmp_path / "decisions-20200101T000000-0-000001.jsonl.gz"
    old.write_bytes(b"x")
    os.utime(old, (time.time() - 1000, time.time() - 1000))
    stranger = tmp_path / "notes.txt"
    stranger.write_text("mine")
    recorded = Recorded(tmp_path, segment_bytes=30_000, max_bytes=15_000, keep_s=500.0)
    recorded.busy(150)
    recorded.close()
    assert not old.exists()
    assert stranger.exists()
    assert sum(path.stat().st_size for path in files(tmp_path)[:-1]) <= 15_000
    assert not open_recording(tmp_path).whole


def test_what_is_lost_is_said_and_forbids_verifying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "MAX_QUEUED", 40)
    monkeypatch.setattr(decision_log, "WRITE_EVERY_S", 30.0)
    recorded = Recorded(tmp_path)
    recorded.busy(20)
    recorded.close()
    recording = open_recording(tmp_path)
    assert any("lines were lost" in note for note in read_traffic(recording).notes)
    assert recording.lost > 0
    with pytest.raises(LogError, match="were lost"):
        verify(open_recording(tmp_path))


def test_a_folder_that_cannot_be_written_to_is_refused_by_name(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match=r"scheduler\.decision_log"):
        Recorded(blocked / "log")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    recorded = Recorded(tmp_path / "log")
    recorded.busy(12)
    recorded.close()
    return files(tmp_path / "log")[0]


def test_a_half_last_line_is_tolerated_and_said(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'{"e":"Arri')
    recording = open_recording(log)
    assert verify(recording).difference is None
    assert "half a line" in recording.notes[0]
    assert str(log) in recording.notes[0]


def changed(log: Path, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    lines = log.read_text().splitlines()
    value = json.loads(lines[number - 1])
    new = change(value)
    lines[number - 1] = new if isinstance(new, str) else json.dumps(value)
    log.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("number", "change", "words"),
    [
        (1, lambda value: value.update(fairlead_decision_log=2), "line 1: is of version 2"),
        (1, lambda value: value.pop("fairlead_decision_log"), "line 1: is not the header"),
        (1, lambda value: value.pop("policy") and None, "line 1: policy is missing"),
        (1, lambda value: value.update(policy="nonsense"), "line 1: .*nonsense"),
        (5, lambda _: '{"e": "Arri', "line 5: not JSON"),
        (5, lambda _: "[1]", "line 5: not an object"),
        (5, lambda _: '{"x": 1}', "line 5: is neither an event"),
        (6, lambda value: value.update(prompt_tokens="many"), "line 6: Arrived.prompt_tokens"),
        (6, lambda value: value.update(e="Departed"), "line 6: e: 'Departed' is no event"),
        (6, lambda value: value.update(ms=None), "line 6: ms"),
        (11, lambda value: value.update(t=True), "line 11: t"),
    ],
)
def test_a_bad_line_is_named(log: Path, number: int, change: Any, words: str) -> None:
    changed(log, number, change)
    with pytest.raises(LogError, match=words) as told:
        verify(open_recording(log))
    assert str(log) in str(told.value)


def test_a_truncated_gzip_is_named(log: Path) -> None:
    packed = log.with_name(log.name + ".gz")
    packed.write_bytes(gzip.compress(log.read_bytes())[:-200])
    with pytest.raises(LogError, match=r"line \d+: can't be read"):
        verify(open_recording(packed))


def test_a_decision_that_differs_is_found(log: Path) -> None:
    lines = log.read_text().splitlines()
    number = next(index for index, line in enumerate(lines, start=1) if '"Assign"' in line)
    changed(log, number, lambda value: value["d"][0].update(generated_tokens=77))
    found = verify(open_recording(log))
    assert found.difference is not None
    assert f"line {number}: decision 1" in found.difference


def test_recorded_traffic_has_true_lengths_and_says_what_it_guessed(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.busy(1)
    recorded.tell(Arrived(70, "a", "m", False, 1000.0, 50.0, 40, 256))
    recorded.tell(Predicted(70, 0, LengthDistribution.from_point(90)))
    recorded.tell(Arrived(71, "a", "m", False, 1000.0, 50.0, 40, 256))
    recorded.close()
    traffic = read_traffic(open_recording(tmp_path))
    assert [request.answer_tokens for request in traffic.offered] == [24, 90]
    assert traffic.answers[1][0][2] is not None
    assert traffic.offered[1].arrival_ms == pytest.approx(40 + 7.3 * 3 + 60 - 40 + 7.3 - 7.3)
    assert any("1 answers were cut" in note for note in traffic.notes)
    assert any("1 requests left out" in note for note in traffic.notes)


def test_weights_of_tenants_hold_in_a_replay_as_they_were_recorded(tmp_path: Path) -> None:
    """Two tenants send the same at once; the one with eight times the weight is served first, where it is known."""
    recorded = Recorded(tmp_path)
    recorded.tell(TenantsChanged((TenantTerms("heavy", 8.0, max_in_flight=1), TenantTerms("light", 1.0))))
    recorded.tell(WorkerUp("box:1/abc", "m", 4, 2, 400, 16, 16, StepCost(5.0, 0.0, 0.0, 0.0)))
    for job_id in range(200):
        tenant = "light" if job_id % 2 else "heavy"
        recorded.tell(
            Arrived(job_id, tenant, "m", False, 1000.0, 50.0, 40, 256), after_ms=0.1 if job_id < 80 else 200.0
        )
        recorded.tell(Predicted(job_id, 0, LengthDistribution.from_point(200)), after_ms=0.1)
    recorded.close()
    traffic = read_traffic(open_recording(tmp_path))
    assert [sorted(each.weight for each in terms) for _, terms in traffic.terms] == [[], [1.0, 8.0]]
    weighted = replay(traffic, parse_choice("slo"), 512, 0)
    traffic.terms = []
    alike = replay(traffic, parse_choice("slo"), 512, 0)
    assert all(row.rejected == 0 for row in weighted), "limits of that time refuse nobody"
    assert weighted[0].jain is not None
    assert alike[0].jain is not None
    assert weighted[0].jain < 0.8 < alike[0].jain


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def test_the_command_verifies_and_replays(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "log")
    recorded.busy(80)
    recorded.close()
    code, text = run("--from-log", str(tmp_path / "log"), "--verify")
    assert (code, "the same" in text) == (0, True), text
    rows_file = tmp_path / "rows.json"
    code, text = run(
        "--from-log", str(tmp_path / "log"), "--policy", "hybrid_slo,slo,recorded", "--json", str(rows_file)
    )
    assert code == 0, text
    rows = json.loads(rows_file.read_text())
    assert [row["policy"] for row in rows if row["class"] == "all"] == [
        "recorded (slo)", "hybrid_slo", "slo", "slo again"
    ]  # fmt: skip
    assert {row["requests"] for row in rows if row["class"] == "all"} == {72}
    assert all(row["jct_mean_s"] for row in rows if row["class"] == "be" and row["policy"] == "slo")
    assert "6 ms + 0.01/prefill token" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--verify",), "--verify needs --from-log"),
        (("--from-log", "/nonexistent"), "there is no such file or folder"),
        (("trace.csv", "--from-log", "x"), "leave it out"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], words: str) -> None:
    code, text = run(*arguments)
    assert code == 2
    assert words in text


@pytest.mark.parametrize("seed", [3, 4])
def test_random_worlds_replay_the_same(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrivals, cancellations, deadlines, changes of policy, lost workers: recorded and given to a core again (I9)."""
    logs: list[DecisionLog] = []

    class Witnessed(SchedulerCore):
        def __init__(self, policy: str, settings: PolicySettings, limits: Limits) -> None:
            super().__init__(policy, settings, limits)
            logs.append(DecisionLog(LogSettings(tmp_path), self, limits, lambda: 0.0))

        def handle(self, event: Event, now_ms: float) -> None:
            logs[0].saw(event, now_ms)
            super().handle(event, now_ms)

        def tick(self, now_ms: float) -> list[Decision]:
            decisions = super().tick(now_ms)
            logs[0].ticked(now_ms, decisions)
            return decisions

    monkeypatch.setattr(world, "SchedulerCore", Witnessed)
    world.World(seed).run(until_steps=2_000)
    logs[0].close()
    found = verify(open_recording(tmp_path))
    assert found.difference is None, f"seed {seed}"
    assert found.decisions > 250
