"""Options: typed, documented, refused by name and range; from the configuration and from an operator."""

from __future__ import annotations

import dataclasses

import pytest

from fairlead.config import ConfigError, SchedulerConfig
from fairlead.rpc import Refusal
from fairlead.v1 import admin_pb2
from scheduler_svc.core.policies import BUILT_IN, BadOption, UnknownPolicy
from scheduler_svc.core.policies.options import as_texts, describe
from scheduler_svc.core.types import OptionValue, PolicySettings
from scheduler_svc.policy_settings import configured, overlaid, told
from tests.unit.policy_cases import core_of, policy_of

WITH_OPTIONS = sorted(name for name, policy in BUILT_IN.items() if describe(policy.Options))


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_every_option_has_a_meaning_a_range_and_a_default_within_it(name: str) -> None:
    policy = BUILT_IN[name]
    for info in describe(policy.Options):
        assert info.text, info.name
        assert info.allowed != "a number", f"{info.name} has no range"
        given = policy(PolicySettings(options=((info.name, info.default),)))
        assert getattr(given.options, info.name) == info.default


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_what_is_told_of_a_policy_can_be_given_back(name: str) -> None:
    policy = policy_of(name)
    again = BUILT_IN[name](PolicySettings(options=tuple(as_texts(policy.options).items())))
    assert again.options == policy.options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantum": 5}, "policy 'rank' has no option 'quantum'; it has quantum_tokens, threshold_ms"),
        ({"quantum_tokens": 0}, "'quantum_tokens' of policy 'rank' must be a whole number from 1 to 1000000, got '0'"),
        ({"quantum_tokens": 2.5}, "must be a whole number"),
        ({"quantum_tokens": True}, "must be a whole number"),
        ({"threshold_ms": "soon"}, "must be a number from 100 to 86400000, got 'soon'"),
        ({"threshold_ms": "nan"}, "must be a number"),
        ({"threshold_ms": float("inf")}, "must be a number"),
    ],
)  # fmt: skip
def test_a_bad_option_is_named_with_what_is_allowed(options: dict[str, OptionValue], message: str) -> None:
    with pytest.raises(BadOption) as refused:
        policy_of("rank", **options)
    assert message in str(refused.value)


def test_texts_become_what_the_option_is() -> None:
    assert policy_of("rank", quantum_tokens="7", threshold_ms="1e3").options == BUILT_IN["rank"].Options(1000.0, 7)
    for text, value in (("on", True), ("False", False), ("yes", True), ("0", False)):
        assert policy_of("edf", preempt=text).options.preempt is value
    with pytest.raises(BadOption, match="must be true or false, got 'maybe'"):
        policy_of("edf", preempt="maybe")
    with pytest.raises(BadOption, match="one of tokens, requests, got 'money'"):
        policy_of("goodput", earns="money")


def test_a_policy_without_options_says_so() -> None:
    with pytest.raises(BadOption, match="policy 'fcfs' has no option 'x'; it has none"):
        policy_of("fcfs", x=1)


def test_options_reach_the_policy_in_force() -> None:
    assert core_of("mlfq", quantum_ms=25).policy.options.quantum_ms == 25.0


def test_options_are_configured_by_policy() -> None:
    config = SchedulerConfig(
        policy="rank", policy_options={"rank": {"quantum_tokens": 9}, "mlfq": {"quantum_ms": "20"}}
    )
    settings = configured(config, BUILT_IN)
    assert settings.options == (("quantum_tokens", 9),)
    assert BUILT_IN["rank"](settings).options.quantum_tokens == 9


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SchedulerConfig(policy="fsfc"), "scheduler.policy: unknown policy 'fsfc'; known: anneal, "),
        (SchedulerConfig(policy_options={"runk": {}}), "scheduler.policy_options: unknown policy 'runk'; known: "),
        (SchedulerConfig(policy_options={"rank": {"quantum_tokens": -1}}), "scheduler.policy_options.rank: option "),
    ],
)  # fmt: skip
def test_a_wrong_configuration_names_its_field(config: SchedulerConfig, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configured(config, BUILT_IN)
    assert message in str(refused.value)


def test_an_operator_gives_options_over_what_is_configured_for_that_policy() -> None:
    base = PolicySettings(options=(("quantum_ms", 50.0),))  # of the policy that was configured, not of this one
    given = admin_pb2.PolicySettings(window_tokens=20, options={"quantum_tokens": "5"})
    settings = overlaid("rank", given, base, {"rank": {"threshold_ms": 500, "quantum_tokens": 7}})
    policy = BUILT_IN["rank"](settings)
    assert (policy.options.threshold_ms, policy.options.quantum_tokens) == (500.0, 5)
    assert policy.settings.window_tokens == 20
    assert dict(told(policy).options) == {"threshold_ms": "500.0", "quantum_tokens": "5"}


@pytest.mark.parametrize("field", ["step_seats", "window_tokens", "be_share"])
def test_an_operator_s_bad_setting_is_refused_by_name(field: str) -> None:
    given = admin_pb2.PolicySettings(**{field: 1 if field == "be_share" else 0})
    with pytest.raises(Refusal, match=f"settings.{field}"):
        overlaid("fcfs", given, PolicySettings(), {})


def test_too_many_options_are_refused() -> None:
    given = admin_pb2.PolicySettings(options={f"o{n}": "1" for n in range(65)})
    with pytest.raises(Refusal, match=r"settings\.options"):
        overlaid("fcfs", given, PolicySettings(), {})


def test_an_unknown_policy_lists_the_known_ones() -> None:
    with pytest.raises(UnknownPolicy, match="unknown policy 'sol'; known: .*" + ", ".join(sorted(BUILT_IN)[-3:])):
        core_of("sol")


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy_of("rank").options.quantum_tokens = 1
