"""One worker in virtual time: an engine that steps or leaps, a link with delay, and reports as a live worker makes.

A report is one message for all sequences that have something to tell: a first token, a start, a pause, an eviction,
the end, or as many tokens as a window has (a live worker coalesces so for BE; for LS nothing is decided in between).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scheduler_svc.core.types import Change, Event, ExecutionEnded, Outcome, Stepped
from simulator.engine import Leap, LeapingCore, LeapSequence
from simulator.gaps import Gaps
from worker_svc.engines.base import ChangeKind
from worker_svc.engines.simulated_core import SimulatedLimits, StepResult
from worker_svc.ordering import StepModel, StepRules

RETRY_MS = 5.0
_CHANGES = {kind: Change(kind.value) for kind in ChangeKind}


@dataclass(frozen=True, slots=True)
class Network:
    """Delay of a message between scheduler and worker, ms: uniform between these; a link keeps its order."""

    least_ms: float = 0.5
    most_ms: float = 1.5


@dataclass(frozen=True, slots=True)
class NewSequence:
    """What a worker is told of a request when it is assigned."""

    handle: int
    attempt: int
    prompt_tokens: int
    answer_tokens: int
    latency_sensitive: bool
    arrival_ms: float
    ttft_ms: float
    tpot_ms: float
    rank: int
    forced_tokens: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What a sequence that left the worker had been through there."""

    gap_ms: float
    recomputed_tokens: int


class Host(Protocol):
    """What a worker needs of the world round it."""

    @property
    def now_ms(self) -> float:
        """Virtual time."""
        ...

    def at_step(self, time_ms: float, worker: SimWorker, version: int) -> None:
        """Calls `worker.step_ended(version)` then, after every message of that time."""
        ...

    def deliver_up(self, time_ms: float, worker: SimWorker, events: Sequence[Event]) -> None:
        """Gives these events to the scheduler then."""
        ...

    def review_at(self, handle: int) -> float:
        """Output tokens at which the scheduler wants to hear of this request, counted over all attempts."""
        ...

    def left(self, handle: int, tally: Tally) -> None:
        """A sequence is held no more."""
        ...

    def stepped(self, worker: SimWorker, result: StepResult | None, steps: int) -> None:
        """So many steps were begun: one that was planned, or those of a leap."""
        ...


class SimWorker:
    """One incarnation of a worker.

    Args:
        host: the world.
        name: of the incarnation.
        index: of the worker; decides between events of one time.
        limits: of the engine.
        model: its step times.
        network: delays of its link.
        window_tokens: most tokens that it keeps to itself.
        seed: of its link's delays.
        leaps: whether steps that repeat are leapt over; the results are the same, only later.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        index: int,
        limits: SimulatedLimits,
        model: StepModel,
        *,
        network: Network,
        window_tokens: Callable[[], int],
        seed: str,
        leaps: bool = True,
    ) -> None:
        self.name = name
        self.index = index
        self.engine = LeapingCore(limits, model)
        self.lost = False
        self.version = 0
        self.attempts: dict[int, int] = {}
        self._host = host
        self._network = network
        self._window_tokens = window_tokens
        self._leaps = leaps
        self._down_rng = random.Random(f"{seed} down")
        self._up_rng = random.Random(f"{seed} up")
        self._last_down_ms = self._last_up_ms = 0.0
        self._busy = False
        self._leap: Leap | None = None
        self._due: list[int] = []
        self._changes: list[tuple[int, ChangeKind]] = []
        self._ended: list[int] = []
        self._held: dict[int, LeapSequence] = {}
        self._sent: dict[int, int] = {}
        self._base: dict[int, int] = {}
        self._gaps = Gaps()
        self._last_end_ms = 0.0

    # -- the link

    def down_at(self) -> float:
        """When a message sent to it now arrives."""
        delay_ms = self._down_rng.uniform(self._network.least_ms, self._network.most_ms)
        self._last_down_ms = max(self._last_down_ms, self._host.now_ms + delay_ms)
        return self._last_down_ms

    def up_at(self) -> float:
        """When a message that it sends now arrives."""
        delay_ms = self._up_rng.uniform(self._network.least_ms, self._network.most_ms)
        self._last_up_ms = max(self._last_up_ms, self._host.now_ms + delay_ms)
        return self._last_up_ms

    def _send(self, events: Sequence[Event]) -> None:
        self._host.deliver_up(self.up_at(), self, events)

    # -- commands

    def admit(self, new: NewSequence) -> None:
        """Takes a sequence. Raises ValueError where the engine can't ever finish it."""
        self._settle()
        engine, handle = self.engine, new.handle
        engine.add(
            handle,
            prompt_tokens=new.prompt_tokens,
            answer_tokens=new.answer_tokens,
            latency_sensitive=new.latency_sensitive,
            arrival_ms=new.arrival_ms,
            ttft_ms=new.ttft_ms,
            tpot_ms=new.tpot_ms,
            rank=new.rank,
        )
        held = engine.sequences[handle]
        assert isinstance(held, LeapSequence)
        engine.note_added(new.latency_sensitive)
        self.attempts[handle] = new.attempt
        self._held[handle] = held
        self._sent[handle] = 0
        self._base[handle] = new.forced_tokens

    def set_ranks(self, handles: Sequence[int], rules: StepRules | None) -> None:
        """The newest order."""
        self._settle()
        self.engine.set_ranks(handles, rules)

    def cancel(self, handle: int, attempt: int, outcome: Outcome) -> None:
        """Drops a sequence, and says so."""
        if self.attempts.get(handle) != attempt:
            return
        self._settle()
        if self.engine.cancel(handle):  # else it ended in the step in flight, which is about to be told
            self._leave(handle)
            self._send((ExecutionEnded(self.name, handle, attempt, outcome),))

    def wake(self) -> None:
        """Goes on if it stood still."""
        if not self._busy and self.engine.sequences:
            self._busy = True
            self._step_at(self._host.now_ms)

    def abandon(self) -> None:
        """It is lost with all that it held."""
        self._settle()
        self.lost = True
        for handle in list(self.attempts):
            self._leave(handle)

    # -- steps

    def step_ended(self, version: int) -> None:
        """The step or leap in flight is over: reports it and begins the next one."""
        if self.lost or version != self.version:
            return
        if self._leap is not None:
            self._advance(self._leap, len(self._leap.ends_ms))
        self._report()
        self._begin()

    def _step_at(self, time_ms: float) -> None:
        self.version += 1
        self._host.at_step(time_ms, self, self.version)

    def _begin(self) -> None:
        now_ms, engine = self._host.now_ms, self.engine
        if not engine.sequences:
            self._busy = False
            return
        leap = engine.leap(now_ms) if self._leaps else None
        if leap is not None:
            self._leap = leap
            self._step_at(leap.ends_ms[-1])
            return
        result = engine.step(now_ms)
        self._host.stepped(self, result, 1 if result.plan.quotas else 0)
        self._note(result, now_ms)
        self._step_at(now_ms + (result.step_ms if result.plan.quotas else RETRY_MS))

    def _settle(self) -> None:
        """Brings the engine to where it is in mid-leap, so that a command meets it so; the step in flight ends yet.

        A planned step, too, is carried out at its beginning: who comes now is not in it, who is cancelled gets nothing
        from it.
        """
        leap = self._leap
        if leap is None:
            return
        begun = min(1 + bisect_left(leap.ends_ms, self._host.now_ms), len(leap.ends_ms))
        self._advance(leap, begun)
        if begun < len(leap.ends_ms):
            self._step_at(leap.ends_ms[begun - 1])

    def _advance(self, leap: Leap, steps: int) -> None:
        """Carries out the first `steps` of a leap; they grow, so that the last one is the longest."""
        self._leap = None
        self._due, self._ended = self.engine.advance(steps)
        end_ms = leap.ends_ms[steps - 1]
        self._gaps.stepped(end_ms, end_ms - (leap.ends_ms[steps - 2] if steps > 1 else leap.start_ms))
        self._last_end_ms = end_ms
        self._host.stepped(self, None, steps)

    def _note(self, result: StepResult, now_ms: float) -> None:
        """What a planned step has to tell, and what it means for the gaps between tokens."""
        end_ms = now_ms + result.step_ms
        gaps, sequences = self._gaps, self._held
        for handle, kind in result.changes:
            if kind is ChangeKind.PAUSED or kind is ChangeKind.EVICTED:
                gaps.paused(handle, self._last_end_ms)
        due: list[int] = []
        for handle in result.tokens:
            held = sequences[handle]
            if held.output_tokens >= held.stop_at:
                due.append(handle)
                if held.output_tokens == 1:
                    gaps.began(handle, end_ms)
        self._due, self._ended, self._changes = due, result.ended, result.changes
        if result.plan.quotas:
            gaps.stepped(end_ms, end_ms - now_ms)
            gaps.resumed(result.tokens, end_ms)
            self._last_end_ms = end_ms

    def _report(self) -> None:
        """One message of all that is due, if anything is."""
        due, changes, ended = self._due, self._changes, self._ended
        if not due and not changes and not ended:
            return
        self._due, self._changes, self._ended = [], [], []
        attempts = self.attempts
        told = sorted({*due, *(handle for handle, _ in changes)} & attempts.keys())
        tokens = tuple([(handle, attempts[handle], count) for handle in told if (count := self._take(handle))])
        events: list[Event] = [
            Stepped(
                self.name,
                tokens,
                tuple([(handle, attempts[handle], _CHANGES[kind]) for handle, kind in changes if handle in attempts]),
            )
        ]
        for handle in sorted(ended):
            if handle in attempts:
                events.append(ExecutionEnded(self.name, handle, attempts[handle], Outcome.STOP))
                self._leave(handle)
        self._send(events)

    def _take(self, handle: int) -> int:
        """Tokens of a sequence that were not sent yet, now they are; and when it is to be looked at again."""
        held = self._held[handle]
        output = held.output_tokens
        if not output:
            return 0
        count = output - self._sent[handle]
        self._sent[handle] = output
        review = self._host.review_at(handle) - self._base[handle]
        stop_at = min(held.answer_tokens, output + self._window_tokens())
        held.stop_at = max(output + 1, int(min(stop_at, review)) if review < stop_at else stop_at)
        return count

    def _leave(self, handle: int) -> None:
        del self.attempts[handle], self._held[handle], self._sent[handle], self._base[handle]
        # Rounded: of steps that last equally long, which is the longest is a matter of the last binary digit.
        gap_ms = round(self._gaps.ended(handle), 6)
        self._host.left(handle, Tally(gap_ms, self.engine.recomputed.pop(handle, 0)))
