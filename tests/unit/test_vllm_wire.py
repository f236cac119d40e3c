"""What travels to and from EngineCore survives the trip; needs no vLLM."""

from __future__ import annotations

import json
from typing import Any

from worker_svc.engines.base import ChangeKind
from worker_svc.engines.vllm_wire import RequestNote, StepRecord, pack_rules, unpack_rules
from worker_svc.step_types import StepModel, StepRules


def sent(value: Any) -> Any:
    """As plain data arrives at the other side: tuples become lists."""
    return json.loads(json.dumps(value))


def test_request_note() -> None:
    note = RequestNote(7, True, 123.5, 1000.0, 50.0, 3)
    assert RequestNote.unpacked(sent(note.packed())) == note


def test_step_record() -> None:
    record = StepRecord(
        5,
        1.25,
        12,
        3,
        4,
        [(7, ChangeKind.EVICTED), (8, ChangeKind.STARTED)],
        StepModel(1.0, 2.0, 3.0, 4.0),
        0.1,
        ["I4: x"],
    )
    assert StepRecord.unpacked(sent(record.packed())) == record
    bare = StepRecord(1, 2.0, 3, 4, 5)
    assert StepRecord.unpacked(sent(bare.packed())) == bare


def test_statistics_without_a_record() -> None:
    assert StepRecord.unpacked(None) is None
    assert StepRecord.unpacked({"connector": 1}) is None


def test_rules() -> None:
    rules = StepRules(class_tiers=True, be_share=0.05, step_seats=8)
    assert unpack_rules(sent(pack_rules(rules))) == rules
    assert unpack_rules(pack_rules(None)) is None
