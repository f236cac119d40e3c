"""The reasons of refusals are a closed set: in the contract, in the code, and in what is told of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import grpc
import pytest

from fairlead.rpc import REASONS, Refusal, reason_of
from fairlead.v1 import types_pb2
from scheduler_svc.core.admission import RefusalReason

ROOT = Path(__file__).parents[2]
PACKAGES = ("fairlead", "scheduler_svc", "predictor_svc", "worker_svc")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.parts[-2] != "v1")
REMEDY = "add REFUSAL_REASON_... to RefusalReason in protos/fairlead/v1/types.proto and make the stubs anew"


def given_reasons() -> Iterator[tuple[str, ast.expr | None]]:
    """(where, the `reason` given) of every refusal in the code."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Refusal":
                named = [word.value for word in node.keywords if word.arg == "reason"]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", named[0] if named else None


def test_every_refusal_gives_a_reason_of_the_closed_set() -> None:
    found = list(given_reasons())
    assert len(found) > 25
    for where, reason in found:
        assert reason is not None, f"{where}: a refusal without a reason"
        if isinstance(reason, ast.Constant):
            assert reason.value in REASONS, f"{where}: {reason.value!r} is not in the closed set; {REMEDY}"


def test_reasons_that_are_passed_on_come_from_a_closed_set_too() -> None:
    """Those that are no constant: names of parameters, or a value of the core's own enum."""
    passed_on = {ast.unparse(reason) for _, reason in given_reasons() if not isinstance(reason, ast.Constant | None)}
    assert passed_on <= {"reason", "details.reason", "refusal.reason.value"}, f"{passed_on}: check these by hand here"
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        for helper in ("_out_of_order", "_too_many"):
            for reason in re.findall(rf"{helper}\(\s*\"([A-Z_]+)\"", text):
                assert reason in REASONS, f"{path}: {reason}; {REMEDY}"


@pytest.mark.parametrize("reasons", [RefusalReason])
def test_reasons_of_the_core_are_in_the_contract(reasons: type[Enum]) -> None:
    assert {each.value for each in reasons} <= REASONS, REMEDY


def test_the_contract_has_none_that_nobody_gives() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    unused = [reason for reason in REASONS - {"UNSPECIFIED"} if not re.search(rf"\"{reason}\"", text)]
    assert not unused, f"never given: {unused}"


def test_each_reason_is_documented_in_the_contract() -> None:
    """By a comment of its own, or the heading of its group."""
    text = (ROOT / "protos/fairlead/v1/types.proto").read_text()
    block = text[text.index("enum RefusalReason") : text.index("// Service-level objectives")]
    names = re.findall(r"REFUSAL_REASON_([A-Z_]+) =", block)
    assert set(names) == REASONS
    assert len({value.number for value in types_pb2.RefusalReason.DESCRIPTOR.values}) == len(names)


@pytest.mark.parametrize(
    ("given", "told"), [("QUEUE_FULL", "QUEUE_FULL"), ("", "UNSPECIFIED"), ("x" * 99, "UNSPECIFIED")]
)
def test_metrics_are_told_reasons_of_the_closed_set_alone(given: str, told: str) -> None:
    assert reason_of(Refusal(grpc.StatusCode.UNAVAILABLE, "no", reason=given)) == told
