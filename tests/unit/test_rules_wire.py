"""Every rule that a policy sets must reach the engine: core to wire to worker to EngineCore, nothing lost."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from fairlead.rpc import Refusal
from fairlead.v1 import worker_pb2
from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.types import PolicySettings, Rules
from scheduler_svc.wire import rules_to_wire
from worker_svc.convert import step_rules
from worker_svc.engines.vllm_wire import pack_rules, unpack_rules

SWITCHES = [field.name for field in fields(Rules) if isinstance(getattr(Rules(), field.name), bool)]


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_arrives_alone(switch: str) -> None:
    sent = Rules(**{switch: True})
    assert asdict(step_rules(rules_to_wire(sent), slots=8)) == asdict(sent)


@pytest.mark.parametrize(
    "sent",
    [
        Rules(relegate_late=False),
        Rules(hold_be_decodes=False),
        Rules(min_chunk_tokens=0),
        Rules(chunking="slack"),
        Rules(chunking="fixed", chunk_tokens=256),
        Rules(credit_batching=True),
        Rules(borrow_tpots=2.5),
    ],
)
def test_each_ingredient_arrives(sent: Rules) -> None:
    arrived = step_rules(rules_to_wire(sent), slots=8)
    assert arrived == sent
    assert unpack_rules(pack_rules(arrived)) == sent


def test_an_older_schedulers_rules_mean_what_they_meant() -> None:
    assert step_rules(worker_pb2.StepRules(), slots=8) == Rules()


def test_rules_that_make_no_sense_name_the_field() -> None:
    for rules, field in (
        (worker_pb2.StepRules(chunk_tokens=0), "ranks.rules.chunk_tokens"),
        (worker_pb2.StepRules(chunking=7), "ranks.rules.chunking"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(Refusal, match=field):
            step_rules(rules, slots=8)


@pytest.mark.parametrize("policy", sorted(BUILT_IN))
def test_the_rules_of_every_policy_arrive(policy: str) -> None:
    settings = PolicySettings(step_seats=5, be_share=0.25, max_itl_factor=3.0)
    sent = BUILT_IN[policy](settings).rules()
    arrived = step_rules(rules_to_wire(sent), slots=8)
    assert asdict(arrived) == asdict(sent)
    assert unpack_rules(pack_rules(arrived)) == arrived
