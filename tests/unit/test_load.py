"""The load generator: when it sends, what it reads from traces, and the figures it makes of records."""

from __future__ import annotations

import gzip
import itertools
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.client import AsyncClient, Retry, ServiceClass
from fairlead.load.measure import NotMeasured, measure_capacity, measure_idle, sustained
from fairlead.load.metrics import figures
from fairlead.load.plan import Mixture, Planned, arrivals, at_rate, plan_mix, plan_trace
from fairlead.load.plots import plot_all
from fairlead.load.run import GIVEN_UP, Load, Record
from fairlead.load.traces import TraceError, TraceRow, read_trace, spread_ticks
from tests.unit.scripted_server import Scripted, Stream, serve

LS, BE = ServiceClass.LATENCY_SENSITIVE, ServiceClass.BEST_EFFORT


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_gaps_have_the_rate_and_the_variation_asked_for(cv: float, seed: int) -> None:
    times = arrivals(5.0, 40_000, seed, cv)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = statistics.fmean(gaps)
    assert mean == pytest.approx(0.2, rel=0.08), f"seed {seed}"
    assert statistics.pstdev(gaps) / mean == pytest.approx(cv, rel=0.08, abs=1e-6), f"seed {seed}"


@given(st.integers(), st.floats(0.1, 100), st.floats(0, 5))
def test_same_seed_same_arrivals_and_another_rate_only_scales_them(seed: int, rate: float, cv: float) -> None:
    times = arrivals(rate, 50, seed, cv)
    assert times == arrivals(rate, 50, seed, cv)
    assert times == sorted(times)
    assert arrivals(2 * rate, 50, seed, cv) == pytest.approx([time / 2 for time in times])


@pytest.mark.parametrize(("rate", "cv"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.5)])
def test_impossible_arrivals_are_refused(rate: float, cv: float) -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        arrivals(rate, 3, 0, cv)


def test_mix_is_seeded_and_deals_classes_exactly() -> None:
    mixture = Mixture(ls_fraction=0.25, ttft_ms=100, tpot_ms=10)
    plan = plan_mix(arrivals(10, 200, 3), mixture, 3)
    assert plan == plan_mix(arrivals(10, 200, 3), mixture, 3)
    assert plan != plan_mix(arrivals(10, 200, 4), mixture, 4)
    assert sum(each.service_class == LS for each in plan) == 50
    assert {(each.tenant, each.ttft_ms) for each in plan} == {("interactive", 100), ("batch", None)}
    assert len({each.seed for each in plan}) == 200


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_trace_is_read_with_its_sessions_and_more_columns_than_needed(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens,kind,session\n0.5,10,20,conv,a\n1.5,30,40,conv,b\n"
    rows = read_trace(write(tmp_path / "t.csv.gz", text))
    assert rows == [TraceRow(0.5, 10, 20, "a"), TraceRow(1.5, 30, 40, "b")]
    assert read_trace(write(tmp_path / "t.csv", text), limit=1) == rows[:1]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("arrival_s,input_tokens\n0,1\n", "row 1: column output_tokens is missing"),
        ("arrival_s,input_tokens,output_tokens\n0,1,1\n0.5,x,1\n", "row 3: invalid literal"),
        ("arrival_s,input_tokens,output_tokens\n0,1,1\n0.5,1\n", "row 3"),
        ("arrival_s,input_tokens,output_tokens\n1,1,1\n0.5,1,1\n", "row 3: arrival_s 0.5 is not a time at or after"),
        ("arrival_s,input_tokens,output_tokens\nnan,1,1\n", "row 2: arrival_s nan"),
        ("arrival_s,input_tokens,output_tokens\n0,0,1\n", "row 2: input_tokens and output_tokens must be at least 1"),
        ("arrival_s,input_tokens,output_tokens\n", "has no rows"),
    ],
)
def test_bad_trace_is_named_by_row(tmp_path: Path, body: str, told: str) -> None:
    with pytest.raises(TraceError, match=told):
        read_trace(write(tmp_path / "t.csv", body))


def test_missing_and_broken_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no such file"):
        read_trace(tmp_path / "none.csv")
    (tmp_path / "t.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "t.csv.gz")


def test_coarse_stamps_are_spread_over_their_tick() -> None:
    rows = [TraceRow(0, 1, 1), TraceRow(0, 2, 1), TraceRow(0, 3, 1), TraceRow(3, 4, 1)]
    assert [row.arrival_s for row in spread_ticks(rows, 3.0)] == [0, 1, 2, 3]


def test_trace_plan_forces_lengths_and_cuts_them_to_the_context() -> None:
    rows = [TraceRow(10, 5, 7), TraceRow(12, 900, 400), TraceRow(16, 3, 4)]
    plan, cut = plan_trace(rows, Mixture(), seed=1, context_tokens=512)
    assert cut == 1
    assert [(each.arrival_s, len(each.prompt), each.max_tokens) for each in plan] == [
        (0, 5, 7),
        (2, 256, 256),
        (6, 3, 4),
    ]
    assert plan[0].options().get("ignore_eos")
    assert plan[0].options().get("min_tokens") == 7
    assert [each.arrival_s for each in at_rate(plan, 2 / 3)] == pytest.approx([0, 1, 3])


def record(index: int, service_class: ServiceClass, arrival: float, first: float | None, last: float | None,
           tokens: int, outcome: str = "STOP", accepted: bool = True) -> Record:  # fmt: skip
    return Record(
        index, "t", service_class, arrival, 100.0, 10.0, sent_s=arrival, first_s=first, last_s=last,
        output_tokens=tokens, outcome=outcome, accepted=accepted, scheduler_ttft_ms=first and (first - arrival) * 900,
        pauses=1,
    )  # fmt: skip


def test_figures_of_a_load_worked_out_by_hand() -> None:
    records = [
        record(0, LS, 0.0, 0.05, 0.13, 10),  # TTFT 50, TPOT 8.9: both met
        record(1, LS, 1.0, 1.105, 1.105, 1),  # TTFT 105 > 100 at the client, 94.5 at the scheduler
        record(2, LS, 2.0, 2.05, 2.27, 12),  # TPOT 20 > 10: missed
        record(3, LS, 3.0, None, None, 0, "RESOURCE_EXHAUSTED", accepted=False),
        record(4, BE, 0.0, 2.0, 4.0, 27),
        record(5, BE, 1.0, 3.0, 3.5, 5, "FAILED_ENGINE"),
    ]
    found = figures(records)
    ls, be = found.of_class(LS), found.of_class(BE)
    assert (ls.offered, ls.finished, ls.refused, ls.failed) == (4, 3, 1, 0)
    assert (be.offered, be.finished, be.refused, be.failed) == (2, 1, 0, 1)
    assert ls.attainment == pytest.approx(1 / 4)
    assert ls.attainment_at_scheduler == pytest.approx(2 / 4)
    assert be.attainment is None
    assert ls.ttft_ms.p50 == pytest.approx(50)
    assert ls.ttft_ms.p99 == pytest.approx(105 - 0.02 * 55)
    assert be.jct_ms.mean == pytest.approx(4000)
    assert found.all.jct_ms.mean == pytest.approx((130 + 105 + 270 + 4000) / 4)
    assert found.tokens_per_s == pytest.approx(55 / 4)
    assert found.pauses == 6
    assert found.all.outcomes == {"STOP": 4, "RESOURCE_EXHAUSTED": 1, "FAILED_ENGINE": 1}


def test_figures_of_nothing() -> None:
    found = figures([])
    assert (found.tokens_per_s, found.all.offered, found.all.ttft_ms.p99) == (0.0, 0, None)


def planned(index: int, arrival_s: float) -> Planned:
    return Planned(index, arrival_s, "hi", "t", LS)


async def test_open_loop_sends_at_arrival_times_although_nothing_is_answered() -> None:
    servicer = Scripted(*[Stream([], "hang") for _ in range(5)])
    server = await serve(servicer)
    async with AsyncClient(server.address, retry=Retry(attempts=1)) as client:
        records = await Load({"t": client}).run_open([planned(i, i * 0.02) for i in range(5)], finish_s=0.5)
    await server.stop(0)
    assert len(servicer.calls) == 5
    assert [each.outcome for each in records] == [GIVEN_UP] * 5
    assert figures(records).of_class(LS).attainment == 0.0


async def test_records_hold_what_came_back() -> None:
    servicer = Scripted(Stream([(0, 1), (1, 2)]), Stream([(0, 1)], "drop", accept=False))
    server = await serve(servicer)
    seen: list[int] = []
    async with AsyncClient(server.address, retry=Retry(attempts=1)) as client:
        load = Load({"t": client}, watch=lambda request, _: seen.append(request.index))
        first, second = await load.run_open([planned(0, 0), planned(1, 0.2)], finish_s=5)
    await server.stop(0)
    assert (first.outcome, first.output_tokens, first.finished, first.scheduler_ttft_ms) == ("STOP", 3, True, 12.5)
    assert first.first_s is not None
    assert first.last_s is not None
    assert first.arrival_s <= first.sent_s <= first.first_s <= first.last_s
    assert second.detail
    assert seen.count(0) == 4
    assert (load.progress.sent, load.progress.ended, load.progress.failed) == (2, 2, int(not second.finished))


async def test_idle_and_capacity_are_measured_or_said_to_be_missing() -> None:
    servicer = Scripted(*[Stream([(0, 2), (2, 2)]) for _ in range(40)])
    server = await serve(servicer)
    async with AsyncClient(server.address, retry=Retry(attempts=1)) as client:
        idle = await measure_idle({"t": client}, [planned(i, 0) for i in range(8)])
        found = await measure_capacity({"t": client}, [planned(i, 0) for i in range(20)], in_flight=4, submit_s=5)
        assert (idle.requests, found.requests, found.mean_answer_tokens) == (5, 20, 4)
        assert found.tokens_per_s == pytest.approx(4 * found.requests_per_s)
    await server.stop(0)
    async with AsyncClient("127.0.0.1:1", retry=Retry(attempts=1)) as client:
        with pytest.raises(NotMeasured, match="UNAVAILABLE"):
            await measure_idle({"t": client}, [planned(0, 0)])


def test_sustained_capacity_counts_the_tokens_of_its_window_alone() -> None:
    whole = record(0, LS, 0.0, 2.0, 6.0, 40)  # 10 tokens a second from 2 to 6 s
    late = record(1, BE, 0.0, 7.0, 9.0, 20)
    found = sustained([whole, late], from_s=4.0, until_s=8.0)
    assert found.tokens_per_s == pytest.approx((20 + 10) / 4.0)
    assert (found.mean_answer_tokens, found.requests_per_s) == (30, pytest.approx(7.5 / 30))
    with pytest.raises(NotMeasured, match="no request finished in 8 s"):
        sustained([], from_s=4.0, until_s=8.0)


def test_pictures_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    records = [record(i, LS if i % 2 else BE, i, i + 0.1, i + 1.0, 5) for i in range(20)]
    names = {path.name for path in plot_all({"fcfs": records, "slo": records}, tmp_path, ttft_target_ms=100)}
    assert names == {"ls_ttft_cdf.png", "jct.png", "finishing_order.png"}
    assert plot_all({"fcfs": []}, tmp_path) == []
