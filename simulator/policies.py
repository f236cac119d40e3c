"""Policies as the command line names them: `name@key=value,key=value`, from the same registry as the service's."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from scheduler_svc.core.checks import CHOICES, BadChoice, check_settings, read_choice
from scheduler_svc.core.placements import BUILT_IN_PLACEMENTS, Placement
from scheduler_svc.core.policies import BUILT_IN, Policy, PolicyError, make_policy
from scheduler_svc.core.types import OptionValue, PolicySettings

POLICIES_GROUP = "fairlead.policies"
PLACEMENTS_GROUP = "fairlead.placements"
LS_ALONE = "ls_alone"
"""The bound for LS: `slo` on the machine with the LS requests alone."""
ORACLE_POLICIES = frozenset(("srpt",))
"""Policies that are told the true length whatever the stated quality of prediction."""
NO_PREDICTION = "none"

T = TypeVar("T")

_SETTINGS = {field.name for field in dataclasses.fields(PolicySettings)} - {"options"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One policy to simulate, with settings of its own.

    Attributes:
        text: as it was given; its name in tables.
        name: of the policy in the registry.
        settings: for the core.
        ls_alone: only LS requests are offered.
        token_budget, seats, slots: of every worker under this policy; None: as for all.
        tau: quality of prediction under this policy; 0: none; None: as for all.
    """

    text: str
    name: str
    settings: PolicySettings
    ls_alone: bool = False
    token_budget: int | None = None
    seats: int | None = None
    slots: int | None = None
    tau: float | None = None


@lru_cache(maxsize=1)
def find_policies() -> dict[str, type[Policy]]:
    """Policies by name: ours, and every plug-in that can be imported."""
    return _with_plugins(BUILT_IN, POLICIES_GROUP)


@lru_cache(maxsize=1)
def find_placements() -> dict[str, type[Placement]]:
    """Placements by name: ours, and every plug-in that can be imported."""
    return _with_plugins(BUILT_IN_PLACEMENTS, PLACEMENTS_GROUP)


def _with_plugins(built_in: Mapping[str, type[T]], group: str) -> dict[str, type[T]]:
    found = dict(built_in)
    for entry in entry_points(group=group):
        if entry.name not in found:
            try:
                found[entry.name] = entry.load()
            except ImportError as error:
                warnings.warn(f"plug-in {entry.name!r} of {group} not loaded: {error}", stacklevel=3)
    return found


def split_choices(text: str) -> list[str]:
    """`a,b@k=1,l=2,c` as `a`, `b@k=1,l=2`, `c`: a piece with = and no @ belongs to the policy before it."""
    found: list[str] = []
    for piece in (part.strip() for part in text.split(",")):
        if found and "=" in piece and "@" not in piece.partition("=")[0]:
            found[-1] += f",{piece}" if "@" in found[-1] else f"@{piece}"
        elif piece:
            found.append(piece)
    return found


def parse_choice(text: str) -> Choice:
    """One policy with its settings.

    Keys are `budget` (tokens in a step), `seats`, `slots`, `tau` (0 to 1, or `none`), a setting that every policy has
    (`window_tokens`, `be_share`, ...), a choice that combines with any (`kv_admission`, `overload`, ...), or an option
    of the policy. `overload` is `queue` where nothing is said.

    Raises:
        PolicyError: no such policy, an unknown key or a bad value; the message names it.
    """
    name, _, rest = text.partition("@")
    pairs = [_pair(text, piece) for piece in rest.split(",")] if rest else []
    registered = "slo" if name == LS_ALONE else name
    if registered not in find_policies():
        known = ", ".join(sorted([*find_policies(), LS_ALONE]))
        raise PolicyError(f"{text}: unknown policy {name!r}; known: {known}")
    sizes: dict[str, int] = {}
    shared: dict[str, Any] = {}
    options: list[tuple[str, OptionValue]] = []
    tau = 1.0 if name in ORACLE_POLICIES else None
    for key, value in pairs:
        if key in ("budget", "seats", "slots"):
            sizes[key] = _whole(text, key, value)
        elif key == "tau":
            tau = read_tau(value)
        elif key in _SETTINGS:
            shared[key] = _setting(text, key, value)
        else:
            options.append((key, value))
    # What is compared is orders: nobody refuses what others must serve, unless the text says so.
    settings = dataclasses.replace(PolicySettings(), **({"overload": "queue"} | shared), options=tuple(options))
    policy = make_policy(find_policies(), registered, settings)
    try:
        check_settings(settings, policy, find_placements())
    except BadChoice as error:
        raise PolicyError(f"{text}: {error}") from None
    return Choice(
        text, registered, settings, name == LS_ALONE, sizes.get("budget"), sizes.get("seats"), sizes.get("slots"), tau
    )


def follows_progress(policy: Policy) -> bool:
    """Whether anything that a core decides under this policy and its choices depends on how far answers have come."""
    settings = policy.settings
    by_memory = settings.kv_admission == "peak" or (settings.kv_admission == "auto" and policy.admits_by_memory)
    fair = settings.fair_shares == "on" or (settings.fair_shares == "auto" and policy.fair_shares)
    return policy.follows_progress or by_memory or fair or settings.wants_lengths or settings.repredict == "always"


def read_tau(text: str) -> float:
    """Kendall's tau of predictions: above 0 to 1, or `none` (0): priors only. Raises PolicyError."""
    if text == NO_PREDICTION:
        return 0.0
    try:
        tau = float(text)
    except ValueError:
        tau = -1.0
    if not 0 <= tau <= 1:
        raise PolicyError(f"tau: {text!r} must be a number from 0 to 1, or {NO_PREDICTION!r}")
    return tau


def _pair(text: str, piece: str) -> tuple[str, str]:
    key, equals, value = piece.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise PolicyError(f"{text}: {piece!r} is not key=value")
    return key.strip(), value.strip()


def _whole(text: str, key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise PolicyError(f"{text}: {key}: {value!r} must be a whole number of at least 1")
    return int(value)


def _setting(text: str, key: str, value: str) -> OptionValue | None:
    """A value of the type that the setting has by default."""
    default = getattr(PolicySettings(), key)
    try:
        if key in CHOICES:
            return read_choice(key, value)
        if key == "step_seats" or (isinstance(default, int) and not isinstance(default, bool)):
            return _whole(text, key, value)
        if isinstance(default, bool):
            return {"true": True, "false": False, "on": True, "off": False, "1": True, "0": False}[value.lower()]
        return float(value) if isinstance(default, float) else value
    except (KeyError, ValueError) as error:
        if isinstance(error, BadChoice):
            raise PolicyError(f"{text}: {error}") from None
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(f"{text}: {key}: {value!r} is not a {type(default).__name__}") from None
