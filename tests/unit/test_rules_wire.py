"""Every rule that a policy sets must reach the engine: core to wire to worker to EngineCore, nothing lost."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

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


@pytest.mark.parametrize("policy", sorted(BUILT_IN))
def test_the_rules_of_every_policy_arrive(policy: str) -> None:
    settings = PolicySettings(step_seats=5, be_share=0.25, max_itl_factor=3.0)
    sent = BUILT_IN[policy](settings).rules()
    arrived = step_rules(rules_to_wire(sent), slots=8)
    assert asdict(arrived) == asdict(sent)
    assert unpack_rules(pack_rules(arrived)) == arrived
