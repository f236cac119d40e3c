"""Options of a policy: a frozen dataclass whose fields say default, range, unit and meaning; values come as text too.

The same text works everywhere: `scheduler.policy_options` in YAML, `fairlead policy set NAME --option key=value`, and
`NAME@key=value` in the simulator.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from scheduler_svc.core.types import OptionValue

T = TypeVar("T", bool, int, float, str)

_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))


class PolicyError(ValueError):
    """A policy cannot be put in force; the message says which, why, and what would do."""


class BadOption(PolicyError):
    """An option that the policy does not have, or a value outside its range; the message names both."""


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Of a policy that has none."""


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """One option, for people and programs.

    Attributes:
        name: as it is set; numbers end in their unit.
        default: its value if nothing is said.
        allowed: the range or the choices, in words.
        text: what it does.
    """

    name: str
    default: OptionValue
    allowed: str
    text: str


def option(
    default: T, text: str, *, least: float = -math.inf, most: float = math.inf, choices: Sequence[str] = ()
) -> T:
    """A field of an `Options` dataclass.

    Args:
        default: the value if nothing is said; its type is the option's: bool, int, float or str.
        text: what it does, one line.
        least, most: bounds of a number, both allowed; no number is infinite.
        choices: of a text.
    """
    return dataclasses.field(default=default, metadata={"text": text, "least": least, "most": most, "choices": choices})


def describe(options: type[Any]) -> list[OptionInfo]:
    """Every option of an `Options` dataclass, in the order of its fields."""
    return [
        OptionInfo(field.name, cast("OptionValue", field.default), _allowed(field), str(field.metadata.get("text", "")))
        for field in dataclasses.fields(options)
    ]


def read_options(policy: str, options: type[Any], given: Iterable[tuple[str, OptionValue]]) -> Any:
    """An instance of `options` with the given values in place of the defaults; the last of two wins.

    Raises:
        BadOption: an unknown name, a value of another kind, or one outside its range.
    """
    fields = {field.name: field for field in dataclasses.fields(options)}
    values: dict[str, OptionValue] = {}
    for name, value in given:
        if name not in fields:
            known = f"it has {', '.join(sorted(fields))}" if fields else "it has none"
            raise BadOption(f"policy {policy!r} has no option {name!r}; {known}")
        try:
            values[name] = _converted(fields[name], value)
        except ValueError:
            raise BadOption(
                f"option {name!r} of policy {policy!r} must be {_allowed(fields[name])}, got {str(value)[:80]!r}"
            ) from None
    return options(**values)


def _converted(field: dataclasses.Field[Any], value: OptionValue) -> OptionValue:
    """`value` as the field's kind. Raises ValueError."""
    kind = type(field.default)
    if kind is bool:
        word = str(value).strip().lower()
        if word not in _TRUE | _FALSE:
            raise ValueError
        return word in _TRUE
    if kind is str:
        if value not in field.metadata["choices"]:
            raise ValueError
        return value
    number = math.nan if isinstance(value, bool) else float(value)
    if not field.metadata["least"] <= number <= field.metadata["most"] or math.isinf(number):  # NaN is not
        raise ValueError
    if kind is int:
        if not number.is_integer():
            raise ValueError
        return int(number)
    return number


def _allowed(field: dataclasses.Field[Any]) -> str:
    kind = type(field.default)
    if kind is bool:
        return "true or false"
    if kind is str:
        return "one of " + ", ".join(field.metadata["choices"])
    least, most = field.metadata["least"], field.metadata["most"]
    what = "a whole number" if kind is int else "a number"
    if math.isinf(least) and math.isinf(most):
        return what
    if math.isinf(most):
        return f"{what}, at least {least:.15g}"
    return f"{what} from {least:.15g} to {most:.15g}"


def as_texts(options: Any) -> dict[str, str]:
    """Every option of an instance and its value, as text that `read_options` takes."""
    if not dataclasses.is_dataclass(options):
        return {}
    return {field.name: as_text(getattr(options, field.name)) for field in dataclasses.fields(options)}


def as_text(value: object) -> str:
    """A value of an option, as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
