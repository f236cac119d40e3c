"""Fidelity: errors from records made by hand, and a recording made by hand read and simulated again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.fidelity.again import simulate_again, whole
from bench.fidelity.errors import compare, figures
from bench.fidelity.recorded import RecordedRun, RecordingError, Seen, idle_delay_ms, read_runs
from fairlead.lengths import LengthDistribution
from fairlead.steps import StepModel
from scheduler_svc.core import codec
from scheduler_svc.core.types import (
    Arrived,
    AskPrediction,
    Decision,
    End,
    Event,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Stepped,
    WorkerUp,
    WorkerUpdated,
)
from simulator.worker import Network

MODEL = StepModel(10.0, 0.1, 1.0, 0.0)
SPEC = Arrived(0, "t", "m", True, 1000.0, 50.0, 100, 512)
UP = WorkerUp("w/1", "m", 8, 4, 100, 32, 16, MODEL)


def seen(job_id: int, arrival_ms: float, ttft_ms: float, jct_ms: float, tokens: int = 10, *, ls: bool = True) -> Seen:
    spec = replace(SPEC, job_id=job_id, latency_sensitive=ls)
    return Seen(spec, arrival_ms, tokens, arrival_ms + ttft_ms, arrival_ms + jct_ms, finished=True)


def test_figures_of_requests() -> None:
    found = figures([seen(0, 0.0, 100.0, 1000.0), seen(1, 1000.0, 300.0, 3000.0, 30)])
    assert found["ttft_p50_ms"] == pytest.approx(200.0)
    assert found["jct_p99_ms"] == pytest.approx(1000.0 + 0.99 * 2000.0)
    assert found["tokens_per_s"] == pytest.approx(40 / 4.0)
    assert figures([]) == {}


def test_errors_are_relative_to_the_live_run_and_held_to_their_aims() -> None:
    live = [seen(0, 0.0, 100.0, 1000.0), seen(1, 0.0, 100.0, 1000.0, ls=False)]
    simulated = [seen(0, 0.0, 109.0, 850.0), seen(1, 0.0, 109.0, 850.0, ls=False)]
    own = [seen(0, 0.0, 101.0, 1000.0), seen(1, 0.0, 101.0, 1000.0, ls=False)]
    found = {(each.class_, each.figure): each for each in compare("fcfs", live, simulated, own)}
    ttft, jct, tail = (found["all", name] for name in ("ttft_p50_ms", "jct_p50_ms", "jct_p99_ms"))
    assert (ttft.error, ttft.within) == (pytest.approx(0.09), True)
    assert (jct.error, jct.within) == (pytest.approx(-0.15), False)
    assert (tail.error, tail.aim, tail.within) == (pytest.approx(-0.15), 0.2, True)
    assert found["ls", "ttft_p90_ms"].within is None
    assert ttft.own_pace_error == pytest.approx(0.01)
    assert {name for name, _ in found} == {"all", "ls", "be"}


def test_the_delay_of_messages_is_what_idle_requests_had_beyond_their_step() -> None:
    run = RecordedRun("fcfs", PolicySettings(), 2, [UP])
    # Alone each: a prefill of 100 tokens takes 20 ms, so 4, 6 and 8 ms are two messages of 2, 3 and 4.
    for index, beyond_ms in enumerate((4.0, 6.0, 8.0)):
        run.requests[index] = seen(index, index * 1000.0, 20.0 + beyond_ms, 500.0)
    run.requests[3] = seen(3, 3000.0, 90.0, 500.0)  # another comes before its first token
    run.requests[4] = seen(4, 3050.0, 90.0, 500.0)  # and that one is not alone either
    assert idle_delay_ms([run], MODEL) == (pytest.approx(2.2), pytest.approx(3.8))
    del run.requests[1]
    with pytest.raises(RecordingError, match="--network-ms"):
        idle_delay_ms([run], MODEL)


def recording(folder: Path) -> Path:
    """Two runs: one request under fcfs, then two under isrtf, the first of them with a prediction."""
    settings = PolicySettings()
    header = {
        "fairlead_decision_log": codec.VERSION, "release": "0", "recording": "r", "segment": 1,
        "started_at": "2026-01-01T00:00:00.000+00:00", "ms": 0.0, "tenants": "names", "policy": "fcfs",
        "settings": codec.settings_value(settings), "look_ahead": 2, "workers": [],
    }  # fmt: skip
    law = LengthDistribution.from_point(20.0)
    lines: list[tuple[float, Event | Decision]] = [
        (1.0, UP),
        (10.0, replace(SPEC, job_id=1)),
        (40.0, Stepped("w/1", ((1, 1, 1),))),
        (140.0, Stepped("w/1", ((1, 1, 9),))),
        (140.0, End(1, Outcome.STOP, "")),
        (150.0, WorkerUpdated("w/1", replace(MODEL, c0_ms=12.0))),
        (200.0, PolicyChanged("isrtf", settings)),
        (300.0, replace(SPEC, job_id=2)),
        (300.0, AskPrediction(2, 0)),
        (307.0, Predicted(2, 0, law)),
        (310.0, replace(SPEC, job_id=3, latency_sensitive=False)),
        (330.0, Stepped("w/1", ((2, 1, 1), (3, 1, 1)))),
        (430.0, Stepped("w/1", ((2, 1, 19),))),
        (430.0, End(2, Outcome.STOP, "")),
        (440.0, End(3, Outcome.CANCELLED_BY_CLIENT, "")),
    ]
    path = folder / "decisions-20260101T000000-r-000001.jsonl"
    with path.open("w") as file:
        file.write(json.dumps(header) + "\n")
        for ms, each in lines:
            decided = isinstance(each, AskPrediction | End)
            value = codec.tick_value(ms, [each]) if decided else codec.event_value(each, ms)  # type: ignore[arg-type]
            file.write(json.dumps(value) + "\n")
    return folder


def test_a_recording_is_cut_where_the_policy_changed(tmp_path: Path) -> None:
    first, second = read_runs(recording(tmp_path))
    assert (first.policy, second.policy) == ("fcfs", "isrtf")
    one = first.requests[1]
    assert (one.arrival_ms, one.first_ms, one.last_ms, one.tokens, one.finished) == (10.0, 40.0, 140.0, 10, True)
    assert [(asked, delay_ms) for asked, delay_ms, _ in second.requests[2].answers] == [(0, 7.0)]
    assert [each.spec.job_id for each in whole(second)] == [2]  # the other one was cancelled
    assert first.mean_model().c0_ms == 10.0
    assert second.mean_model().c0_ms == 12.0  # told before, and not again


def test_a_recorded_run_is_simulated_with_its_lengths(tmp_path: Path) -> None:
    run = read_runs(recording(tmp_path))[1]
    found = simulate_again(run, MODEL, token_budget=2048, network=Network(1.0, 1.0), seed=0)
    assert [(each.tokens, each.finished) for each in found] == [(20, True)]
    # Two messages of 1 ms round a prefill of 10 + 0.1 x 100 ms, then 19 steps of 11 ms.
    assert found[0].first_ms == pytest.approx(22.0)
    assert found[0].last_ms == pytest.approx(22.0 + 19 * 11.0)
