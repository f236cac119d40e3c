"""The tables of `bench.predict`: made from whatever sets are measured, and put into a page between its marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.predict_report import put_into, written


def scored(predictor: str, generated: int | str, tau: float, pinball: float) -> dict[str, Any]:
    shares = {f"coverage_{share}": share / 100 for share in (50, 80, 90, 95)}
    head = {"dataset": "chats", "predictor": predictor, "generated": generated}
    return {**head, "kendall_tau": tau, "pinball": pinball, "r2_log": 0.4, "ms_per_prediction": 1.0, **shares}


def measured(out: Path) -> None:
    compared = {
        "predictor": "ensemble", "kendall_tau": 0.5, "best_baseline": "ridge", "difference": 0.1,
        "difference_low": 0.08, "difference_high": 0.12,
    }  # fmt: skip
    result = {
        "dataset": "chats",
        "model": "",
        "split": "random",
        "answers": 1200,
        "rows": [
            scored(name, at, tau, pinball)
            for at in (0, "all")
            for name, tau, pinball in (("history", 0.1, 0.2), ("ensemble", 0.5, 0.15))
        ],
        "compared": [compared],
    }
    (out / "sets").mkdir()
    (out / "sets" / "chats-random.json").write_text(json.dumps(result))


def test_a_row_says_how_many_answers_and_what_was_not_measured(tmp_path: Path) -> None:
    measured(tmp_path)
    table = written(tmp_path, "ensemble")
    assert "| chats | 1200 | 0.400 ridge | 0.100 | - | - | - | - | - | 0.500 | +0.100 (+0.080..+0.120) |" in table
    assert "| 0.750 | 0.750 |" in table, "pinball over that of history, at the first question and pooled"
    assert (tmp_path / "table.md").read_text() == table


def test_the_tables_go_between_the_marks_of_a_page_again_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    for table in ("first\n", "second\n"):
        put_into(page, table)
        assert page.read_text() == f"before\n<!-- table -->\n{table}<!-- end of table -->\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(ValueError, match="has no <!-- table -->"):
        put_into(page, "third\n")
    assert page.read_text() == "no marks\n"
