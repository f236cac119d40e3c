"""What an operator says about a policy, from the configuration and from the admin service, as the core takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fairlead.config import ConfigError, SchedulerConfig
from fairlead.rpc import invalid
from fairlead.v1 import admin_pb2
from scheduler_svc.core.checks import CHOICES, BadChoice, as_text, read_choice
from scheduler_svc.core.policies import Policy, PolicyError, UnknownPolicy, make_policy
from scheduler_svc.core.policies.options import as_texts
from scheduler_svc.core.types import OptionValue, PolicySettings

MAX_WINDOW_TOKENS = 1_000_000
MAX_OPTIONS = 64

Options = Mapping[str, Mapping[str, OptionValue]]
"""By policy and name."""


def configured(config: SchedulerConfig, policies: Mapping[str, type[Policy]]) -> PolicySettings:
    """What is configured for `scheduler.policy`, once the options of every policy named there are found to be right.

    Raises:
        ConfigError: an unknown policy, or an option that it does not take.
    """
    settings = PolicySettings(
        step_seats=config.step_seats,
        window_tokens=config.window_tokens,
        be_share=config.be_share,
        max_itl_factor=config.max_itl_factor,
        repredict=config.repredict,
        **{name: getattr(config, name) for name in CHOICES},
    )
    for name in {config.policy: None, **config.policy_options}:
        try:
            make_policy(policies, name, with_options(settings, config.policy_options.get(name, {})))
        except UnknownPolicy as error:
            field = "policy" if name == config.policy else "policy_options"
            raise ConfigError(f"scheduler.{field}: {error}") from None
        except PolicyError as error:
            raise ConfigError(f"scheduler.policy_options.{name}: {error}") from None
    return with_options(settings, config.policy_options.get(config.policy, {}))


def with_options(settings: PolicySettings, options: Mapping[str, OptionValue]) -> PolicySettings:
    """`settings` with these options and no others."""
    return replace(settings, options=tuple(options.items()))


def overlaid(policy: str, given: admin_pb2.PolicySettings, base: PolicySettings, options: Options) -> PolicySettings:
    """What an operator gives for `policy`, over what is configured. Raises Refusal."""
    settings = base
    if given.HasField("step_seats"):
        if given.step_seats < 1:
            raise invalid("settings.step_seats", "must be at least 1; leave it out for what is configured")
        settings = replace(settings, step_seats=given.step_seats)
    if given.HasField("window_tokens"):
        if not 1 <= given.window_tokens <= MAX_WINDOW_TOKENS:
            raise invalid("settings.window_tokens", f"must be 1 to {MAX_WINDOW_TOKENS}")
        settings = replace(settings, window_tokens=given.window_tokens)
    if given.HasField("be_share"):
        if not 0 <= given.be_share < 1:  # NaN is not
            raise invalid("settings.be_share", "must be at least 0 and below 1")
        settings = replace(settings, be_share=given.be_share)
    if len(given.choices) > len(CHOICES):
        raise invalid("settings.choices", f"at most {len(CHOICES)} of them")
    for name, text in given.choices.items():
        try:
            settings = replace(settings, **{name: read_choice(name, text)})
        except BadChoice as error:
            raise invalid(f"settings.choices.{error.setting}", str(error)) from None
    if len(given.options) > MAX_OPTIONS:
        raise invalid("settings.options", f"at most {MAX_OPTIONS} of them")
    return with_options(settings, {**options.get(policy, {}), **given.options})


def told(policy: Policy) -> admin_pb2.PolicySettings:
    """What is in force, for operators."""
    return admin_pb2.PolicySettings(
        step_seats=policy.settings.step_seats,
        window_tokens=policy.settings.window_tokens,
        be_share=policy.settings.be_share,
        options=as_texts(policy.options),
        choices=as_text(policy.settings),
    )
