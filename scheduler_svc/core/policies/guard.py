"""Asks a policy and contains its mistakes: what held before holds on, and the mistake is counted by name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scheduler_svc.core.policies.base import MAX_TIER, Pace, Policy, Room
from scheduler_svc.core.types import Job, PolicyFault, Rules

MAX_DETAIL_CHARS = 300
MAX_PLAN_HEAD = 1024


class Nonsense(ValueError):
    """A policy answered with something that is no answer."""


def told(error: Exception) -> str:
    """An error in a few words, even if its own words fail."""
    try:
        words = str(error)
    except Exception:
        words = "(no words)"
    return f"{type(error).__name__}: {words}"[:MAX_DETAIL_CHARS]


class PolicyGuard:
    """The only way by which the core asks a policy.

    Args:
        policy: asked.

    Attributes:
        faults: mistakes so far.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.faults = 0
        self._new: dict[str, tuple[str, int]] = {}

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:
        """As the policy says; no where it fails."""
        try:
            return bool(self.policy.wants_prediction(job, generated_tokens))
        except Exception as error:
            self.note("wants_prediction", error)
            return False

    def cost(self, job: Job, pace: Pace) -> float:
        """As the policy says, finite; the job's last one where it fails."""
        try:
            return _finite(self.policy.cost(job, pace))
        except Exception as error:
            self.note("cost", error)
            return job.cost

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """As the policy says, a pair of finite numbers; the job's last one where it fails."""
        try:
            tier, value = self.policy.key(job, now_ms)
            if type(tier) is float and type(value) is float and 0.0 <= tier <= MAX_TIER and math.isfinite(value):
                if type(job.review_at) is float:
                    return (tier, value)
                job.review_at = float(job.review_at)
            return _as_key(tier, value)
        except Exception as error:
            self.note("key", error)
            if type(job.review_at) is not float:
                job.review_at = math.inf
            return job.key

    def plan(self, waiting: Sequence[Job], room: Room, now_ms: float) -> Sequence[Job]:
        """As the policy says, if it is an order of `waiting`; none where it fails."""
        try:
            return _whole_order(list(self.policy.plan(waiting, room, now_ms)), waiting)
        except Exception as error:
            self.note("plan", error)
            return ()

    def plan_head(self) -> int:
        """How many jobs it plans together, within bounds."""
        head = self.policy.plan_head
        return head if type(head) is int and 0 <= head <= MAX_PLAN_HEAD else 0

    def plan_every_ms(self) -> float:
        """Least time between two plans; a second where the policy names none."""
        every_ms = self.policy.plan_every_ms
        return every_ms if type(every_ms) is float and every_ms >= 0 else 1000.0

    def rules(self) -> Rules:
        """As the policy says; those of first come, first served where it fails."""
        try:
            return _rules(self.policy.rules())
        except Exception as error:
            self.note("rules", error)
            return Rules(step_seats=self.policy.settings.step_seats)

    def note(self, hook: str, error: Exception) -> None:
        """Counts a mistake."""
        self.faults += 1
        detail, count = self._new.get(hook) or (told(error), 0)
        self._new[hook] = (detail, count + 1)

    def take_faults(self) -> list[PolicyFault]:
        """What went wrong since the last time, one for each method."""
        if not self._new:
            return []
        faults = [PolicyFault(self.policy.name, hook, detail, count) for hook, (detail, count) in self._new.items()]
        self._new.clear()
        return faults


def _finite(value: object) -> float:
    if isinstance(value, (str, bytes)):
        raise Nonsense(f"{value!r} is no number")
    number = float(value)  # pyright: ignore[reportArgumentType]: raises where it is no number
    if not math.isfinite(number):
        raise Nonsense(f"{number!r} is not finite")
    return number


def _as_key(tier: object, value: object) -> tuple[float, float]:
    first, second = _finite(tier), _finite(value)
    if not 0.0 <= first <= MAX_TIER:
        raise Nonsense(f"tier {first!r} is not in 0 to {MAX_TIER:g}")
    return (first, second)


def _whole_order(order: list[Job], waiting: Sequence[Job]) -> list[Job]:
    ids = {job.job_id for job in waiting}
    if len(order) != len(ids) or {job.job_id for job in order} != ids:
        raise Nonsense(f"{len(order)} jobs in its plan, which are not the {len(ids)} once each")
    return order


def _rules(rules: object) -> Rules:
    if type(rules) is not Rules:
        raise Nonsense(f"rules are of type {type(rules).__name__}")
    return rules
