"""Policies by entry point: ours, and plug-ins, whose calls are held to a time limit by this process's clock.

The core contains what a policy raises or answers wrongly; it has no clock, so that what takes too long is stopped here.
A plug-in that loops in Python is interrupted; one that hangs in native code cannot be, and ends up with the process.
"""

from __future__ import annotations

import inspect
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from types import FrameType
from typing import Any, cast

from fairlead.telemetry import get_logger
from scheduler_svc.core.placements import BUILT_IN_PLACEMENTS, Placement
from scheduler_svc.core.policies import BUILT_IN, Policy
from scheduler_svc.core.policies.options import describe
from scheduler_svc.core.types import PolicyFault

PLACEMENTS_GROUP = "fairlead.placements"
POLICIES_GROUP = "fairlead.policies"
CALL_LIMIT_S = 0.05
"""Longest that one call of a plug-in may take; ours take microseconds, a plan some milliseconds."""
SUSPENDED_S = 10.0
"""How long a plug-in is not asked after it took too long."""
SHARE = 0.25
"""Part of each second that a plug-in's calls may take together."""
LOG_EVERY_S = 10.0
HOOKS = ("__init__", "wants_prediction", "cost", "key", "plan", "rules")


class PolicyTooSlow(RuntimeError):
    """A call of a plug-in took too long, or the plug-in is suspended because one did."""


class _Overrun(BaseException):
    """Raised into a call that takes too long; no `except Exception` of the plug-in holds it up."""


class TimeLimit:
    """Holds the calls of one plug-in to a limit each and to a share of the time together.

    Args:
        clock_s: monotonic.
        call_limit_s: of one call.

    In the main thread a call past its limit is interrupted by an interval timer; elsewhere it is only noticed.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic, call_limit_s: float = CALL_LIMIT_S) -> None:
        self._clock_s = clock_s
        self._call_limit_s = call_limit_s
        self._armed = False
        self._inside = False
        self._suspended_until_s = 0.0
        self._second = 0
        self._spent_s = 0.0

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`. Raises PolicyTooSlow."""
        if self._inside:  # a method of the plug-in calls another
            return function(*args)
        begin_s = self._clock_s()
        if begin_s < self._suspended_until_s:
            raise PolicyTooSlow("not asked, since it took too long a moment ago")
        self._inside = True
        try:
            answer = self._timed(function, *args)
        except _Overrun:
            self._suspended_until_s = self._clock_s() + SUSPENDED_S
            raise PolicyTooSlow(
                f"took longer than {self._call_limit_s * 1000:.0f} ms; not asked for {SUSPENDED_S:.0f} s"
            ) from None
        finally:
            self._inside = False
        self._account(begin_s, self._clock_s())
        return answer

    def _account(self, begin_s: float, end_s: float) -> None:
        """Suspends it where one call, or all calls of this second, took too long."""
        if int(end_s) != self._second:
            self._second, self._spent_s = int(end_s), 0.0
        self._spent_s += end_s - begin_s
        if end_s - begin_s > self._call_limit_s or self._spent_s > SHARE:
            self._suspended_until_s = end_s + SUSPENDED_S

    def _timed(self, function: Callable[..., Any], *args: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return function(*args)
        before = signal.signal(signal.SIGALRM, self._interrupt)
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, self._call_limit_s, self._call_limit_s)
        try:
            return function(*args)
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._armed:
            raise _Overrun


def within_time(policy: type[Policy], limit: TimeLimit) -> type[Policy]:
    """`policy` with every method that the core calls held to `limit`."""

    def limited(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Policy, *args: Any) -> Any:
            return limit.run(function, self, *args)

        return call

    methods = {hook: limited(getattr(policy, hook)) for hook in HOOKS}
    return cast("type[Policy]", type(policy.__name__, (policy,), methods))


def find_policies(entries: Iterable[EntryPoint] | None = None) -> dict[str, type[Policy]]:
    """Policies by name: ours, and every plug-in that can be loaded; one that cannot is logged and left out.

    Args:
        entries: of the group `fairlead.policies`; None: those of the installed distributions.
    """
    found = dict(BUILT_IN)
    for entry in entry_points(group=POLICIES_GROUP) if entries is None else entries:
        if entry.name in found:
            if not entry.value.startswith("scheduler_svc."):
                _log_left_out(entry, "there is a policy of this name already; choose another name")
            continue
        try:
            found[entry.name] = within_time(_checked(entry), TimeLimit())
        except Exception as error:  # whatever a plug-in's module does when it is imported
            _log_left_out(entry, f"{type(error).__name__}: {error}")
    return found


def find_placements(entries: Iterable[EntryPoint] | None = None) -> dict[str, type[Placement]]:
    """Placements by name: ours, and every plug-in that can be loaded; one that cannot is logged and left out.

    Args:
        entries: of the group `fairlead.placements`; None: those of the installed distributions.
    """
    found = dict(BUILT_IN_PLACEMENTS)
    for entry in entry_points(group=PLACEMENTS_GROUP) if entries is None else entries:
        if entry.name in found:
            continue
        try:
            found[entry.name] = _checked_placement(entry)
        except Exception as error:  # whatever a plug-in's module does when it is imported
            _log_left_out(entry, f"{type(error).__name__}: {error}")
    return found


def _checked_placement(entry: EntryPoint) -> type[Placement]:
    """The class that an entry point names. Raises TypeError where it is no placement, or what its import raises."""
    placement = entry.load()
    if not (isinstance(placement, type) and issubclass(placement, Placement)):
        raise TypeError(f"{entry.value} is not a class made from Placement")
    return placement


class FaultLog:
    """Counts what went wrong in policies and tells of it, of each method once in a while.

    Attributes:
        counts: by policy, since the start.
    """

    def __init__(self, clock_ms: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._clock_ms = clock_ms
        self._untold: Counter[tuple[str, str]] = Counter()
        self._told_ms: dict[tuple[str, str], float] = {}
        self._log = get_logger("policies")

    def note(self, fault: PolicyFault) -> None:
        """One decision of the core that says so."""
        self.counts[fault.policy] += fault.count
        what = (fault.policy, fault.hook)
        self._untold[what] += fault.count
        now_ms = self._clock_ms()
        if now_ms - self._told_ms.get(what, -LOG_EVERY_S * 1000) >= LOG_EVERY_S * 1000:
            self._told_ms[what] = now_ms
            self._log.warning(
                "policy failed, the last order stands",
                policy=fault.policy,
                hook=fault.hook,
                error=fault.detail,
                errors=self._untold.pop(what),
            )


def _checked(entry: EntryPoint) -> type[Policy]:
    """The class that an entry point names. Raises TypeError where it is no policy, and whatever its import raises."""
    policy = entry.load()
    if not (inspect.isclass(policy) and issubclass(policy, Policy)):
        raise TypeError(f"{entry.value} is no subclass of scheduler_svc.core.policies.Policy")
    named = getattr(policy, "name", None)
    if named != entry.name:
        raise TypeError(f"its name is {named!r}, the entry point's {entry.name!r}; they must be the same")
    if not isinstance(getattr(policy, "summary", None), str):
        raise TypeError("it has no summary: one line that `fairlead policy list` prints")
    describe(policy.Options)
    return policy


def _log_left_out(entry: EntryPoint, why: str) -> None:
    get_logger("policies").warning("policy plug-in not loaded", policy=entry.name, value=entry.value, error=why)
