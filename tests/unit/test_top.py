"""Frames of `fairlead top`: rates from two answers, order, filters and keys; what `fairlead why` says in short."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fairlead.cli.main import app
from fairlead.cli.top import turn
from fairlead.cli.top_data import Frame, Sample, frame_of
from fairlead.cli.top_view import SORTS, Shown, view
from fairlead.cli.why_view import print_why, summary
from fairlead.v1 import admin_pb2, types_pb2

LS, BE = types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE, types_pb2.SERVICE_CLASS_BEST_EFFORT


def sample(at_s: float, *, steps: int, tokens: int, offered: int, met: int) -> Sample:
    status = admin_pb2.GetStatusResponse(
        policy="slo",
        uptime_s=at_s,
        workers=[
            admin_pb2.WorkerStatus(
                worker_id="box", address="a:1", connected=True, assigned=5, slots=8, step_seats=4, seats_used=3,
                kv_blocks=100, kv_blocks_used=25, steps=steps, step_ms=7.5,
            ),
            admin_pb2.WorkerStatus(address="b:1", problem="not reached yet"),
        ],
        classes=[
            admin_pb2.ClassStatus(
                service_class=LS, tenant="alice", accepted=tokens // 10, waiting=1, running=4, output_tokens=tokens,
                slo_offered=offered, slo_met=met,
            )
        ],
        predictor=admin_pb2.PredictorStatus(connected=True, predictor="encoder", answered=90, late_or_missing=10),
    )  # fmt: skip
    views = [
        admin_pb2.RequestView(
            request_id=f"r{index}", tenant="alice" if index % 2 else "bob", service_class=LS if index % 2 else BE,
            state=admin_pb2.REQUEST_STATE_PAUSED if index == 3 else admin_pb2.REQUEST_STATE_RUNNING, worker_id="box",
            age_ms=1000 * index, output_tokens=10 - index, mean_remaining_tokens=index * 7, predictions=index % 2,
            pauses=index, rank=admin_pb2.RankKey(tier=index % 2, value=index),
        )
        for index in range(5)
    ]  # fmt: skip
    counts = [
        admin_pb2.StateCount(state=admin_pb2.REQUEST_STATE_WAITING, requests=30),
        admin_pb2.StateCount(state=admin_pb2.REQUEST_STATE_RUNNING, requests=4),
    ]
    return Sample(at_s, status, admin_pb2.ListRequestsResponse(requests=views, counts=counts))


BEFORE = sample(10.0, steps=100, tokens=1000, offered=10, met=9)
NOW = sample(12.0, steps=300, tokens=1500, offered=14, met=11)


def printed(frame: Frame, shown: Shown, rows: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(view(frame, shown, rows=rows, keys=True))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_rates_are_of_the_time_between_two_answers() -> None:
    frame = frame_of(NOW, BEFORE)
    (worker, _), (alice,) = frame.workers, frame.classes
    assert (frame.over_s, worker.steps_per_s, alice.tokens_per_s, alice.accepted_per_s) == (2.0, 100, 250, 25)
    assert (alice.attainment, alice.attainment_now) == (11 / 14, 0.5)


def test_one_answer_alone_and_a_restart_give_no_rates() -> None:
    for frame in (frame_of(NOW, None), frame_of(BEFORE, sample(9.0, steps=900, tokens=9000, offered=0, met=0))):
        assert frame.workers[0].steps_per_s is None
        assert frame.classes[0].tokens_per_s is None


def test_a_frame_shows_workers_tenants_predictor_and_requests() -> None:
    text = printed(frame_of(NOW, BEFORE), Shown())
    for words in (
        "policy slo", "encoder: 90 answered, late or missing 10.0%", "30 waiting, 4 running", "3/4", "5/8",
        "25/100 25%",
        "7.5", "not reached yet", "250.0", "78.6%", "50.0%", "paused", "q quit", "by age: 5 of 34",
    ):  # fmt: skip
        assert words in text, words


def test_requests_are_sorted_and_cut_to_the_screen() -> None:
    frame = frame_of(NOW, BEFORE)
    first = {name: sorted(frame.requests, key=SORTS[name])[0].request_id for name in SORTS}
    assert first == {
        "age": "r4", "rank": "r0", "state": "r3", "tenant": "r3", "tokens": "r0", "left": "r4", "pauses": "r4"
    }  # fmt: skip
    text = printed(frame, Shown("left"), rows=2)
    assert "2 of 34" in text
    assert "r4" in text
    assert "r0" not in text


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("s", {"sort": "rank"}),
        ("sssssss", {"sort": "age"}),
        ("ff", {"state": "placed"}),
        ("t", {"tenant": "alice"}),
        ("tt", {"tenant": ""}),
        ("c", {"service_class": "ls"}),
        ("w", {"worker": "box"}),
        ("fcwtr", {"state": "", "service_class": "", "worker": "", "tenant": ""}),
        (" ", {"held": True}),
        ("  ", {"held": False}),
        ("x", {"sort": "age"}),
    ],
)
def test_keys_change_what_is_shown(keys: str, expected: dict[str, Any]) -> None:
    shown, frame = Shown(), frame_of(NOW, BEFORE)
    for key in keys:
        turn(shown, key, frame)
    assert {name: getattr(shown, name) for name in expected} == expected


def test_why_says_the_gist_first() -> None:
    answer = admin_pb2.WhyResponse(
        request=admin_pb2.RequestView(
            request_id="x", tenant="bob", service_class=BE, state=admin_pb2.REQUEST_STATE_WAITING, age_ms=2500
        ),
        standing=admin_pb2.Standing(
            ahead=41,
            standing=50,
            inputs={"waited_ms": 2500.0, "cost": 3.0},
            ahead_by_class={"alice ls": 41},
            first_ahead=[
                admin_pb2.OtherRequest(request_id="y[/]", tenant="alice", service_class=LS, rank=admin_pb2.RankKey())
            ],
            hindrances=[admin_pb2.Hindrance(worker_id="box", reason=admin_pb2.HINDRANCE_REASON_KV_PEAK)],
        ),
        moments=[admin_pb2.Moment(kind=admin_pb2.MOMENT_KIND_WAITS, text="[red]", figures={"ahead": 41.0})],
    )
    assert summary(answer) == (
        "It waits for 2500 ms now: the predicted KV peak with it would exceed the cache; 41 are ahead of it."
    )
    console = Console(file=io.StringIO(), width=160)
    print_why(console, answer)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "number 42 of 50 in the pool" in text
    assert "41 alice ls; first y[/] (alice ls)" in text
    assert "waited 2500 ms" in text
    assert "[red]" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sort", "length"), "--sort"),
        (("--state", "asleep"), "--state"),
        (("--address", "127.0.0.1:1"), "fairlead up"),
    ],
)
def test_top_says_what_is_wrong(arguments: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(app, ["top", "--once", "--key", "k", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code in (1, 2)
    assert words in result.output
