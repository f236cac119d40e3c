"""A policy by name."""

from __future__ import annotations

from collections.abc import Mapping

from scheduler_svc.core.policies.base import BrokenPolicy, Policy, UnknownPolicy
from scheduler_svc.core.policies.guard import told
from scheduler_svc.core.policies.options import PolicyError
from scheduler_svc.core.types import PolicySettings


def make_policy(policies: Mapping[str, type[Policy]], name: str, settings: PolicySettings) -> Policy:
    """The policy `name` of `policies` under these settings.

    Raises:
        UnknownPolicy: none of this name; the message lists the known ones.
        BadOption: an option that it does not have, or a value outside its range.
        BrokenPolicy: a plug-in that cannot be made.
    """
    if name not in policies:
        raise UnknownPolicy(f"unknown policy {name!r}; known: {', '.join(sorted(policies))}")
    try:
        policy = policies[name](settings)
    except PolicyError:
        raise
    except Exception as error:
        raise BrokenPolicy(f"policy {name!r} cannot be made: {told(error)}") from error
    if getattr(policy, "settings", None) is not settings:
        raise BrokenPolicy(f"policy {name!r} does not keep its settings; its __init__ calls super().__init__(settings)")
    return policy
