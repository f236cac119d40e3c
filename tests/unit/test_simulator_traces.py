"""Traces: what is read, and how a bad one is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from fairlead.load.traces import TraceError
from simulator.trace_files import find_trace, read_any
from simulator.workload import SYNTHETIC, Targets, deal, load_workload, synthetic_rows

GOOD = "arrival_s,input_tokens,output_tokens,session\n0.0,10,5,a\n0.5,20,7,b\n2.0,30,9,a\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    opener = gzip.open if name.endswith(".gz") else open
    with opener(path, "wt") as file:
        file.write(text)
    return path


def jsonl(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ROW = {"arrival_s": 0.0, "input_tokens": 10, "output_tokens": 5}


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_csv_is_read_as_it_stands(tmp_path: Path, name: str) -> None:
    rows = read_any(write(tmp_path, name, GOOD), None)
    assert [(row.arrival_s, row.input_tokens, row.output_tokens, row.session) for row in rows] == [
        (0.0, 10, 5, "a"),
        (0.5, 20, 7, "b"),
        (2.0, 30, 9, "a"),
    ]


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_jsonl_is_read_up_to_the_limit(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, jsonl(ROW, {**ROW, "arrival_s": 1, "session": "x"}, {**ROW, "arrival_s": 2}))
    rows = read_any(path, 2)
    assert [(row.arrival_s, row.session) for row in rows] == [(0.0, ""), (1.0, "x")]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", GOOD.replace("2.0,30", "0.4,30"), "row 4: arrival_s 0.4"),
        ("t.csv", GOOD.replace("0.5,20", "0.5,-20"), "row 3: input_tokens"),
        ("t.csv", GOOD.replace("0.0,10", "-1.0,10"), "row 2: arrival_s -1.0"),
        ("t.csv", GOOD.replace(",output_tokens", ""), "row 1: column output_tokens is missing"),
        ("t.csv", GOOD.replace("30,9", "30,"), "row 4"),
        ("t.csv", "arrival_s,input_tokens,output_tokens\n", "has no rows"),
        ("t.jsonl", jsonl({**ROW, "arrival_s": 3}, ROW), "row 2: arrival_s 0.0 is before"),
        ("t.jsonl", jsonl(ROW, {"arrival_s": 1, "input_tokens": 3}), "row 2: output_tokens is missing"),
        ("t.jsonl", jsonl({**ROW, "output_tokens": 0}), "row 1: output_tokens is 0"),
        ("t.jsonl", jsonl({**ROW, "arrival_s": True}), "row 1: arrival_s is True"),
        ("t.jsonl", jsonl(ROW) + "{\n", "row 2: not JSON"),
        ("t.jsonl", "3\n", "row 1: not an object"),
    ],
)
def test_a_bad_trace_names_file_row_and_field(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(TraceError) as error:
        read_any(path, None)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_trace_is_found_by_name_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "traces").mkdir()
    write(tmp_path / "traces", "mine.csv.gz", GOOD)
    monkeypatch.setenv("FAIRLEAD_DATA", str(tmp_path))
    assert find_trace("mine").name == "mine"
    with pytest.raises(TraceError, match="known traces: mine"):
        find_trace("other")
    monkeypatch.delenv("FAIRLEAD_DATA")
    with pytest.raises(TraceError, match="FAIRLEAD_DATA"):
        find_trace("mine")


def test_a_coarse_clock_is_spread(tmp_path: Path) -> None:
    text = "arrival_s,input_tokens,output_tokens\n" + "0,10,5\n" * 3 + "3,10,5\n"
    path = write(tmp_path, "mooncake_conversation.csv", text)
    assert [row.arrival_s for row in load_workload(str(path), 10, 0).rows] == [0.0, 1.0, 2.0, 3.0]


def test_dealing_keeps_the_pattern_and_the_share(tmp_path: Path) -> None:
    workload = load_workload(str(write(tmp_path, "t.csv", GOOD)), 10, 0)
    assert workload.rate_per_s == 1.0
    requests = deal(workload, rate_per_s=2.0, ls_fraction=1 / 3, targets=Targets(900.0, 40.0), seed=1)
    assert [request.arrival_ms for request in requests] == [0.0, 250.0, 1000.0]
    assert sum(request.spec.latency_sensitive for request in requests) == 1
    assert {request.spec.ttft_ms for request in requests} == {900.0}
    assert [request.spec.tenant for request in requests] == ["a", "b", "a"]
    assert {request.spec.max_tokens for request in requests} == {16}


def test_the_built_in_mix_repeats_with_its_seed() -> None:
    assert synthetic_rows(50, 3) == synthetic_rows(50, 3) != synthetic_rows(50, 4)
    assert load_workload(SYNTHETIC, 50, 3).rows == tuple(synthetic_rows(50, 3))
