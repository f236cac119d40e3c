"""The policies that reorder, by name on real vLLM: one engine start, switched through the admin service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.policies_live import BASELINE, POLICIES, Served, faults, requests_of, serve_all
from fairlead.cli.problems import wide_console


@pytest.mark.live
def test_each_policy_gives_the_same_answers_in_an_order_of_its_own(tmp_path: Path) -> None:
    asked = requests_of(20)
    found = asyncio.run(serve_all((BASELINE, *POLICIES), asked, "vllm", tmp_path, wide_console()))
    assert [served.policy for served in found] == [BASELINE, *POLICIES]
    wrong = {served.policy: said for served in found if (said := faults(served, found[0], asked))}
    assert not wrong


def test_what_is_wrong_is_told() -> None:
    asked = requests_of(8)
    texts = {each.index: "text" for each in asked}
    order = [each.index for each in asked]
    baseline = Served(BASELINE, order, order, texts)
    assert faults(baseline, baseline, asked) == []
    assert faults(Served("slo", order, order[:-1], {0: "text"}), baseline, asked) == ["1 of 8 finished"]
    assert faults(Served("isrtf", order, order, {**texts, 3: "other"}), baseline, asked) == [
        "answers [3] are not those of fcfs",
        "the order is that of fcfs",
        "short requests end only 0% of all places earlier than under fcfs",
    ]
    be_first = [0, 3, 4, 7, 1, 2, 5, 6]
    assert faults(Served("slo", be_first, order, texts), baseline, asked) == [
        "LS begins only -50% of all places before BE"
    ]
