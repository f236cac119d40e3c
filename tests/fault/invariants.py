"""What must hold at every event of a scheduler, and at every step of an engine; see the design for I1 to I10."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from scheduler_svc.core.types import Assign, Decision, End, Event, Outcome
from scheduler_svc.host import SchedulerHost
from tests.property.step_checks import check_plan
from worker_svc.engines import simulated_core
from worker_svc.engines.simulated_core import SimulatedCore, StepResult

Report = Callable[[str], None]
CHECK_EVERY = 7
"""Of the engines' plans, every so many is checked against the design's own words (I5): the check costs most."""


class SchedulerWatch:
    """A witness of one scheduler: I1, I3 and I5 of its pool at every tick; its decisions, for I9.

    Args:
        host: that has started.
        log: takes a line a decision.
        report: takes what is broken.
    """

    def __init__(self, host: SchedulerHost, log: list[str], report: Report) -> None:
        self._core = host.shell.core
        self._book = host.shell.book
        self._log = log
        self._report = report
        self._ended: set[int] = set()

    def saw(self, event: Event, at_ms: float) -> None:
        """An event goes in; what it does is looked at when the core has decided."""

    def ticked(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        """The core has decided."""
        try:
            self._check(now_ms, decisions)
        except AssertionError as error:
            self._report(str(error))

    def _check(self, now_ms: float, decisions: Sequence[Decision]) -> None:
        core = self._core
        core.ledger.check()
        counted = sum(account.live for account in core.ledger.accounts.values())
        assert counted == len(core.live_jobs()), f"I1: {counted} counted, {len(core.live_jobs())} live"
        for decision in decisions:
            self._log.append(f"{now_ms!r} {decision!r}")
            match decision:
                case Assign(job_id, worker, _, _, forced):
                    assert job_id not in self._ended, f"I3: job {job_id} was assigned after its outcome"
                    assert worker in core.workers, f"I3: job {job_id} was assigned to {worker}, which is gone"
                    request = self._book.live[job_id]
                    assert forced == len(request.answer), f"I2: {forced} forced, {len(request.answer)} are out"
                case End(job_id, outcome):
                    assert job_id not in self._ended, f"I1: job {job_id} ended twice"
                    assert isinstance(outcome, Outcome)
                    self._ended.add(job_id)
                case _:
                    pass
        self._check_pool()

    def _check_pool(self) -> None:
        """I5: nothing waits while a worker that takes requests has a free seat, but for want of memory."""
        core = self._core
        waiting = [job for job in core.live_jobs().values() if job.worker is None]
        if not waiting:
            return
        by_memory = core.policy.admits_by_memory and not any(job.spec.latency_sensitive for job in waiting)
        for worker in core.workers.values():
            if worker.draining or worker.full or worker.placed >= worker.up.max_held:
                continue
            free = not worker.placed if by_memory else worker.placed < worker.seats(core.policy.rules())
            assert not free, f"I5: {len(waiting)} wait while {worker.up.worker} has a free seat"


def check_kv(core: SimulatedCore) -> None:
    """I4: blocks held and blocks free are all there are."""
    held = sum(sequence.blocks for sequence in core.sequences.values())
    assert core.free_blocks >= 0, "I4: more KV blocks than there are"
    whole = core.limits.kv_blocks
    assert held + core.free_blocks == whole, f"I4: {held} held and {core.free_blocks} free of {whole} KV blocks"


@contextmanager
def engines_watched(report: Report) -> Iterator[None]:
    """Every step of every simulated engine is looked at meanwhile: I4 after each, I5 at every `CHECK_EVERY`th plan."""
    step, plan_step = SimulatedCore.step, simulated_core.plan_step
    plans = 0

    def watched_step(core: SimulatedCore, now_ms: float) -> StepResult:
        result = step(core, now_ms)
        try:
            check_kv(core)
        except AssertionError as error:
            report(str(error))
        return result

    def watched_plan(sequences: Any, limits: Any, rules: Any, model: Any, now_ms: float, *more: Any) -> Any:
        nonlocal plans
        plan = plan_step(sequences, limits, rules, model, now_ms, *more)
        plans += 1
        if plans % CHECK_EVERY == 0:
            try:
                check_plan(plan, sequences, limits, rules, model, now_ms)
            except AssertionError as error:
                report(str(error))
        return plan

    with (
        mock.patch.object(SimulatedCore, "step", watched_step),
        mock.patch.object(simulated_core, "plan_step", watched_plan),
    ):
        yield
