"""Plug-ins: found by entry point, and contained when they raise, answer nonsense, or take too long."""

# ruff: noqa: ARG002 - what a policy is given and does not need
from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest
from structlog.testing import capture_logs

from scheduler_svc.core.admission import Limits
from scheduler_svc.core.policies import BUILT_IN, BrokenPolicy, Pace, Policy, Room
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Decision,
    ExecutionEnded,
    Job,
    Outcome,
    PolicyChanged,
    PolicyFault,
    PolicySettings,
    Rules,
    Stepped,
)
from scheduler_svc.plugins import POLICIES_GROUP, FaultLog, PolicyTooSlow, TimeLimit, find_policies, within_time
from tests.unit.policy_cases import arrive, assigned, core_of, last_order


class Lifo(Policy):
    """Last come, first served: a plug-in that works."""

    name = "lifo"
    summary = "last come, first served"

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        return (0.0, -job.arrival_ms)

    def rules(self) -> Rules:
        return Rules(displace=True)


class Moody(Lifo):
    """Does to every method what `mood` says, from the moment on that it is set."""

    name = "moody"
    summary = "goes wrong when told to"
    mood: Any = None

    def _do(self, answer: Any) -> Any:
        return answer if self.mood is None else self.mood()

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        return self._do(super().key(job, now_ms))

    def cost(self, job: Job, pace: Pace) -> float:
        return self._do(1.0)

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:
        return self._do(False)


def raises() -> Any:
    raise KeyError("what it looked for")


def of(value: Any) -> Any:
    return lambda: value


NONSENSE = [
    raises,
    of(None),
    of("first"),
    of((1.0,)),
    of((0.0, float("nan"))),
    of((float("nan"), 0.0)),
    of((0.0, float("inf"))),
    of((-1.0, 0.0)),
    of((1e9, 0.0)),
    of(("a", "b")),
    of((0.0, "1")),
    of((0.0, 1.0, 2.0)),
    of([]),
]


def moody_core(mood: Any) -> SchedulerCore:
    """Jobs 1, 2, 3 came in that order and stand as 3, 2, 1; then the mood comes."""
    core = core_of("moody", seats=2, policies={"moody": type("Moody", (Moody,), {})})
    for job_id in (1, 2):
        arrive(core, job_id, 50, float(job_id))
    core.tick(2.0)
    core.policy.mood = mood  # type: ignore[attr-defined]
    return core


def faults(decisions: list[Decision]) -> list[PolicyFault]:
    return [decision for decision in decisions if isinstance(decision, PolicyFault)]


@pytest.mark.parametrize("mood", NONSENSE)
def test_the_last_order_stands_and_serving_goes_on(mood: Any) -> None:
    core = moody_core(mood)
    worker = core.workers["w1"]
    assert [job_id for _, job_id in worker.order] == [2, 1]
    core.handle(Stepped("w1", tokens=((1, 1, 60), (2, 1, 60))), 3.0)
    told = faults(core.tick(3.0))
    assert [job_id for _, job_id in worker.order] == [2, 1], "the order changed"
    assert {(fault.policy, fault.hook) for fault in told} >= {("moody", "key")}
    assert core.job(1).output_tokens == 60  # type: ignore[union-attr]
    arrive(core, 3, 50, 4.0)
    core.handle(ExecutionEnded("w1", 2, 1, Outcome.STOP), 5.0)
    assert assigned(core.tick(5.0)) == [3], "a new request is served, by arrival"
    core.handle(ExecutionEnded("w1", 1, 1, Outcome.STOP), 6.0)
    core.handle(ExecutionEnded("w1", 3, 1, Outcome.STOP), 6.0)
    core.tick(6.0)
    assert not core.live_jobs()
    core.ledger.check()


def test_it_is_counted_once_for_each_mistake_and_told_once_a_tick() -> None:
    core = moody_core(raises)
    core.handle(Stepped("w1", tokens=((1, 1, 60), (2, 1, 60))), 3.0)
    told = faults(core.tick(3.0))
    assert sorted((fault.hook, fault.count) for fault in told) == [("cost", 2), ("key", 2), ("wants_prediction", 2)]
    assert all(fault.detail == "KeyError: 'what it looked for'" for fault in told)
    assert faults(core.tick(3.0)) == []


def test_when_it_is_well_again_its_order_holds_again() -> None:
    core = moody_core(raises)
    core.handle(Stepped("w1", tokens=((1, 1, 60),)), 3.0)
    core.tick(3.0)
    core.policy.mood = of((0.0, -5.0))  # type: ignore[attr-defined]
    core.handle(Stepped("w1", tokens=((1, 1, 60),)), 4.0)
    decisions = core.tick(4.0)
    assert "key" not in {fault.hook for fault in faults(decisions)}
    assert last_order(decisions) == (1, 2)


def test_numbers_of_other_kinds_are_taken() -> None:
    import numpy as np

    core = moody_core(of((np.int64(3), np.float32(2.5))))
    core.handle(Stepped("w1", tokens=((1, 1, 60),)), 3.0)
    # `cost` answers a pair, which is no number; the key is one.
    assert {fault.hook for fault in faults(core.tick(3.0))} == {"cost"}
    assert core.job(1).key == (3.0, 2.5)  # type: ignore[union-attr]


class BadRules(Lifo):
    name = "bad_rules"

    def rules(self) -> Rules:
        return {"displace": True}  # type: ignore[return-value]


class BadPlan(Lifo):
    name = "bad_plan"
    plan_head = 4

    def plan(self, waiting: Sequence[Job], room: Room, now_ms: float) -> Sequence[Job]:
        return [*waiting, *waiting]


class BadReview(Lifo):
    name = "bad_review"

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        job.review_at = "later"  # type: ignore[assignment]
        return (0.0, 0.0)


@pytest.mark.parametrize(("policy", "hook"), [(BadRules, "rules"), (BadPlan, "plan"), (BadReview, "key")])
def test_other_methods_are_contained_too(policy: type[Policy], hook: str) -> None:
    core = core_of(policy.name, policies={policy.name: policy})
    arrive(core, 1, 50)
    decisions = core.tick(1.0)
    assert assigned(decisions) == [1]
    core.handle(Stepped("w1", tokens=((1, 1, 5),)), 2.0)
    assert hook in {fault.hook for fault in faults(decisions)} or core._dispatcher.guard.faults  # pyright: ignore[reportPrivateUsage]


class Unmakeable(Lifo):
    name = "unmakeable"

    def __init__(self, settings: PolicySettings) -> None:
        raise RuntimeError("no licence")


class Forgetful(Lifo):
    name = "forgetful"

    def __init__(self, settings: PolicySettings) -> None:
        pass


@pytest.mark.parametrize(("policy", "why"), [(Unmakeable, "no licence"), (Forgetful, "super\\(\\).__init__")])
def test_one_that_cannot_be_made_is_refused_by_name(policy: type[Policy], why: str) -> None:
    with pytest.raises(BrokenPolicy, match=f"'{policy.name}'.*{why}"):
        core_of(policy.name, policies={policy.name: policy})


def test_one_that_cannot_be_made_any_more_leaves_the_policy_in_force() -> None:
    core = core_of("fcfs", policies={**BUILT_IN, "unmakeable": Unmakeable})
    core.handle(PolicyChanged("unmakeable", PolicySettings()), 1.0)
    assert core.policy.name == "fcfs"
    assert [fault.hook for fault in faults(core.tick(1.0))] == ["__init__"]


# -- time


class Slow(Lifo):
    """Takes its time, and holds on to it."""

    name = "slow"
    how: Any = staticmethod(lambda: None)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        self.how()
        return super().key(job, now_ms)


def loop_for_ever() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0)


def test_an_endless_loop_is_interrupted_and_serving_goes_on() -> None:
    policy = within_time(Slow, TimeLimit())
    core = core_of("slow", policies={"slow": policy})
    arrive(core, 1, 50)
    core.tick(0.0)
    core.policy.how = loop_for_ever  # type: ignore[attr-defined]
    arrive(core, 2, 50, 1.0)
    decisions = core.tick(1.0)
    assert assigned(decisions) == [2]
    assert "PolicyTooSlow: took longer than 50 ms" in faults(decisions)[0].detail
    arrive(core, 3, 50, 2.0)
    assert "not asked, since" in faults(core.tick(2.0))[0].detail
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_is_a_little_slow_too_often_is_suspended_and_asked_again_later() -> None:
    now = [0.0]
    limit = TimeLimit(clock_s=lambda: now[0])

    def work() -> str:
        now[0] += 0.04
        return "done"

    done = 0
    with pytest.raises(PolicyTooSlow):
        for _ in range(100):
            done += limit.run(work) == "done"
    assert done == 7, "a quarter of a second, in calls of 40 ms each below their own limit"
    now[0] += 10.0
    assert limit.run(work) == "done"


def test_one_method_may_call_another() -> None:
    limit = TimeLimit()
    assert limit.run(lambda: limit.run(lambda: 3)) == 3


# -- found by entry point


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, POLICIES_GROUP)


def test_every_policy_of_ours_is_an_entry_point_too() -> None:
    named = {each.name: each.load() for each in entry_points(group=POLICIES_GROUP) if each.name in BUILT_IN}
    assert named == BUILT_IN


def test_a_plug_in_is_found_by_its_entry_point_and_works() -> None:
    found = find_policies([entry("lifo", f"{__name__}:Lifo")])
    assert set(found) == {*BUILT_IN, "lifo"}
    core = core_of("lifo", seats=1, policies=found)
    for job_id in (1, 2):
        arrive(core, job_id, 50, float(job_id))
    assert assigned(core.tick(3.0)) == [2]
    assert core.policy.summary == "last come, first served"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("gone", "no_such_module:Policy", "ModuleNotFoundError"),
        ("gone", f"{__name__}:NoSuchClass", "AttributeError"),
        ("thing", f"{__name__}:NONSENSE", "no subclass of"),
        ("other", f"{__name__}:Lifo", "its name is 'lifo'"),
        ("fcfs", f"{__name__}:Lifo", "a policy of this name already"),
    ],
)
def test_one_that_cannot_be_loaded_is_named_in_the_log_and_left_out(name: str, value: str, why: str) -> None:
    with capture_logs() as logs:
        found = find_policies([entry(name, value)])
    assert found == BUILT_IN
    assert [(log["policy"], log["value"]) for log in logs] == [(name, value)]
    assert why in logs[0]["error"]


def test_mistakes_are_logged_with_the_plug_in_s_name_but_not_without_end() -> None:
    now = [0.0]
    with capture_logs() as logs:
        log = FaultLog(lambda: now[0])
        for _ in range(1000):
            log.note(PolicyFault("moody", "key", "KeyError: 'x'", 2))
            now[0] += 11.0
    assert log.counts == {"moody": 2000}
    assert len(logs) == 2, "11 s in all: at once, and after 10 s"
    assert logs[0]["policy"] == "moody"
    assert logs[0]["error"] == "KeyError: 'x'"
    assert sum(each["errors"] for each in logs) <= 2000


# -- beside the choices that combine with any policy


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_choice_that_says_nothing_about_order_goes_with_every_policy(name: str) -> None:
    settings = PolicySettings(kv_admission="peak")
    assert SchedulerCore(name, settings, Limits()).policy.settings is settings


def test_a_plug_in_that_raises_while_choices_are_checked_is_contained_too() -> None:
    moody = type("Moody", (Moody,), {"mood": staticmethod(raises)})
    core = SchedulerCore("moody", PolicySettings(kv_admission="peak"), Limits(), policies={"moody": moody})
    assert core.policy.name == "moody"
