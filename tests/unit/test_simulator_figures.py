"""Figures against cases worked out by hand."""

from __future__ import annotations

import pytest

from scheduler_svc.core.types import Arrived, Outcome
from simulator.figures import Origin, alone_ms, attainment, met, middle_of, rows_of, tpot_ms, ttft_ms
from simulator.gaps import Gaps
from simulator.world import MODEL, Request
from worker_svc.ordering import StepModel

STEP = StepModel(10.0, 0.1, 1.0, 0.01)


def request(
    job_id: int,
    *,
    ls: bool = True,
    arrival_ms: float = 0.0,
    first_ms: float | None = 500.0,
    last_ms: float | None = 900.0,
    tokens: int = 11,
    outcome: Outcome | None = Outcome.STOP,
    **changes: object,
) -> Request:
    made = Request(Arrived(job_id, "t", MODEL, ls, 1000.0, 50.0, 100, 1024), tokens, arrival_ms=arrival_ms)
    made.first_ms, made.last_ms, made.outcome = first_ms, last_ms, outcome
    made.received = tokens if outcome is Outcome.STOP else 0
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_ttft_and_tpot() -> None:
    one = request(0, arrival_ms=100.0)
    assert ttft_ms(one) == 400.0
    assert tpot_ms(one) == 40.0  # 400 ms over the 10 tokens after the first
    assert tpot_ms(request(1, tokens=1)) is None


@pytest.mark.parametrize(
    ("changes", "within"),
    [
        ({}, True),
        ({"first_ms": 1000.0, "last_ms": 1100.0}, True),
        ({"first_ms": 1001.0, "last_ms": 1100.0}, False),
        ({"last_ms": 1000.0}, True),
        ({"last_ms": 1001.0}, False),
        ({"tokens": 1, "last_ms": 500.0}, True),
        ({"outcome": Outcome.CANCELLED_BY_CLIENT}, False),
        ({"outcome": None, "refused": True, "first_ms": None, "last_ms": None}, False),
    ],
)
def test_who_met_the_targets(changes: dict[str, object], within: bool) -> None:
    assert met(request(0, **changes)) is within  # type: ignore[arg-type]


def test_what_was_refused_counts_as_missed() -> None:
    refused = request(1, outcome=None, refused=True, first_ms=None, last_ms=None)
    assert attainment([request(0), refused, request(2), request(3), request(4, ls=False, last_ms=9e9)]) == 0.75
    assert attainment([request(0, ls=False)]) is None


def test_jct_alone_on_an_idle_worker() -> None:
    # Prefill of 250 in chunks of 100: 10 + 10, then 20 + 1 with 100 in the cache, then 15 + 2 with 200; then two
    # decodes with 250 and 251 tokens in the cache: 11 + 2.50, 11 + 2.51.
    assert alone_ms(250, 3, STEP, 100) == pytest.approx(20 + 21 + 17 + 13.50 + 13.51)
    assert alone_ms(100, 1, STEP, 2048) == pytest.approx(20.0)


def test_rows_leave_out_the_outer_arrivals_and_keep_the_whole_run_for_throughput() -> None:
    requests = [
        request(i, ls=i % 2 == 0, arrival_ms=i * 10.0, first_ms=i * 10.0 + 5, last_ms=i * 10.0 + 45) for i in range(40)
    ]
    requests[0].last_ms = requests[0].first_ms = 10_000.0  # an outer one: no percentile sees it
    requests[20].pauses, requests[20].evictions, requests[20].recomputed_tokens = 2, 1, 77
    requests[21].refused, requests[21].outcome, requests[21].received = True, None, 0
    assert [each.spec.job_id for each in middle_of(requests)] == list(range(2, 38))
    rows = {row.class_: row for row in rows_of(Origin("t", "p", 1.0), requests, STEP, 2048)}
    assert {name: row.requests for name, row in rows.items()} == {"ls": 18, "be": 18, "all": 36}
    assert rows["all"].ttft_p99_ms == pytest.approx(5.0)
    assert rows["all"].jct_mean_s == pytest.approx(0.045)
    assert rows["all"].tokens_per_s == pytest.approx(39 * 11 / 10.0)
    assert (rows["ls"].preemptions, rows["ls"].recomputed_tokens, rows["be"].rejected) == (3, 77, 1)
    assert rows["be"].attainment is None
    assert rows["ls"].attainment == rows["all"].attainment == 1.0
    value = rows["ls"].to_json()
    assert value["class"] == "ls"
    assert "goodput" not in value


def test_gaps_between_tokens() -> None:
    gaps = Gaps()
    gaps.began(1, 10.0)
    gaps.stepped(10.0, 10.0)  # ended with the first token: no gap yet
    gaps.stepped(13.0, 3.0)
    gaps.stepped(18.0, 5.0)
    gaps.began(2, 18.0)
    gaps.stepped(20.0, 2.0)
    gaps.paused(2, 20.0)
    gaps.stepped(24.0, 4.0)
    gaps.resumed([1, 2], 29.0)
    gaps.stepped(29.0, 5.0)
    assert gaps.ended(1) == 5.0
    assert gaps.ended(2) == 9.0
    gaps.began(3, 29.0)
    assert gaps.ended(3) == 0.0
