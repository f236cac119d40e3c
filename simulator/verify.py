"""Whether recorded events, given to the core again, lead to the very decisions that were recorded (I9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scheduler_svc.core import codec
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import End
from simulator.decision_log import Item, LogError, Recording
from simulator.policies import find_placements, find_policies

PROGRESS_EVERY = 4096
MAX_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True)
class Verified:
    """What was replayed.

    Attributes:
        difference: the first tick that decided otherwise, in words; None: all were the same.
    """

    events: int
    ticks: int
    decisions: int
    difference: str | None = None


def verify(recording: Recording, progress: Callable[[int], None] | None = None) -> Verified:
    """Replays a recording under its own policy up to the first difference.

    Raises:
        LogError: a line can't be read, the beginning or lines in the middle are missing, or its policy is not there.
    """
    if not recording.whole:
        raise LogError(
            f"{recording.headers[0].path}: is file {recording.headers[0].segment} of its recording; what came "
            "before it is not known, so it can be simulated under a policy but not verified"
        )
    header = recording.headers[0]
    try:
        core = SchedulerCore(
            header.policy,
            header.settings,
            Limits(look_ahead=header.look_ahead),
            policies=find_policies(),
            placements=find_placements(),
        )
    except ValueError as error:
        raise LogError(f"{header.path}: line 1: {error}") from None
    events = ticks = decisions = 0
    for item in recording.items():
        _whole_so_far(recording)
        if item.event is not None:
            events += 1
            _give(core, item)
            continue
        made = core.tick(item.ms)
        ticks += 1
        decisions += len(made)
        values = [codec.decision_value(decision) for decision in made]
        if values != list(item.decided):
            return Verified(events, ticks, decisions, _difference(item, values))
        for decision in made:
            if isinstance(decision, End):
                core.forget(decision.job_id)
        if progress is not None and ticks % PROGRESS_EVERY == 0:
            progress(events + ticks)
    _whole_so_far(recording)
    return Verified(events, ticks, decisions)


def _whole_so_far(recording: Recording) -> None:
    if recording.lost:
        lines = f"{recording.lost} lines were lost when it was recorded (the disk was too slow)"
        raise LogError(f"{recording.headers[-1].path}: {lines}, so that it can't be verified")


def _give(core: SchedulerCore, item: Item) -> None:
    assert item.event is not None
    try:
        core.handle(item.event, item.ms)
    except (AssertionError, KeyError) as error:
        raise LogError(f"{item.where}: this event does not fit what came before it ({error})") from None


def _difference(item: Item, made: list[dict[str, object]]) -> str:
    recorded = list(item.decided)
    for index in range(max(len(recorded), len(made))):
        then = recorded[index] if index < len(recorded) else "nothing"
        now = made[index] if index < len(made) else "nothing"
        if then != now:
            return (
                f"{item.where}: decision {index + 1}: recorded {str(then)[:MAX_SHOWN_CHARS]}, "
                f"replayed {str(now)[:MAX_SHOWN_CHARS]}"
            )
    return f"{item.where}: the same decisions in another form"
