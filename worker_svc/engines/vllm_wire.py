"""What travels between the front end and vLLM's EngineCore process besides vLLM's own messages: plain lists.

Down: a note with each request (in `SamplingParams.extra_args`) and the order (a utility call). Up: one record a step,
inside vLLM's own output message, so that tokens and state of a step arrive together and cost no second round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from worker_svc.engines.base import ChangeKind
from worker_svc.step_types import StepModel, StepRules

EXTRA_KEY = "fairlead"
"""Our key in vLLM's free-form dictionaries."""

_KINDS = tuple(ChangeKind)
_KIND_CODES = {kind: code for code, kind in enumerate(_KINDS)}


@dataclass(frozen=True, slots=True)
class RequestNote:
    """What the hook needs to know of a request; times in ms on this host's monotonic clock."""

    handle: int
    latency_sensitive: bool
    arrival_ms: float
    ttft_ms: float
    tpot_ms: float
    rank: int

    def packed(self) -> dict[str, Any]:
        """As `SamplingParams.extra_args`."""
        return {EXTRA_KEY: list(astuple(self))}

    @classmethod
    def unpacked(cls, extra_args: dict[str, Any]) -> RequestNote:
        """From `SamplingParams.extra_args`."""
        return cls(*extra_args[EXTRA_KEY])


@dataclass(slots=True)
class StepRecord:
    """One engine step, as the hook saw it.

    Attributes:
        step_count: steps that computed something so far; step_ms: the last one's time.
        kv_blocks_used, running, waiting: state after the step.
        changes: (handle, what happened), in order.
        model, relative_error: the step-time fit; None where it has not changed since the last record.
        violations: broken invariants that the step checks found.
    """

    step_count: int
    step_ms: float
    kv_blocks_used: int
    running: int
    waiting: int
    changes: list[tuple[int, ChangeKind]] = field(default_factory=list[tuple[int, ChangeKind]])
    model: StepModel | None = None
    relative_error: float | None = None
    violations: list[str] = field(default_factory=list[str])

    def packed(self) -> dict[str, Any]:
        """As a free-form statistics dictionary of vLLM."""
        fit = None if self.model is None else [*astuple(self.model), self.relative_error]
        changes = [(handle, _KIND_CODES[kind]) for handle, kind in self.changes]
        state = (self.step_count, self.step_ms, self.kv_blocks_used, self.running, self.waiting)
        return {EXTRA_KEY: [*state, changes, fit, self.violations]}

    @classmethod
    def unpacked(cls, stats: dict[str, Any] | None) -> StepRecord | None:
        """From vLLM's statistics dictionary; None where it carries no record."""
        if not stats or EXTRA_KEY not in stats:
            return None
        step_count, step_ms, blocks, running, waiting, changes, fit, violations = stats[EXTRA_KEY]
        record = cls(step_count, step_ms, blocks, running, waiting, violations=violations)
        record.changes = [(handle, _KINDS[code]) for handle, code in changes]
        if fit is not None:
            record.model, record.relative_error = StepModel(*fit[:4]), fit[4]
        return record


def pack_rules(rules: StepRules | None) -> list[Any] | None:
    """Rules for the utility call."""
    return None if rules is None else list(astuple(rules))


def unpack_rules(packed: Sequence[Any] | None) -> StepRules | None:
    """Rules from the utility call."""
    return None if packed is None else StepRules(*packed)
