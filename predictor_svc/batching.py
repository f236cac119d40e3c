"""Questions wait here for the model: a bounded queue, batches as large as what came in meanwhile, one thread.

No question waits for a batch to fill: while the thread works on one batch, the next collects. One that waits too long
is answered at once by something quicker, and the model is not asked, or not heard, about it any more. The predictor can
be replaced between two batches.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from fairlead.telemetry import get_logger
from predictor_svc.predictors.base import Answer, Observed, Predictor, Question

_log = get_logger("batching")


@dataclass(frozen=True)
class Failed:
    """The predictor raised on this question."""

    detail: str


@dataclass(frozen=True)
class Late:
    """The question waited too long, and nothing quicker can answer it."""


Result: TypeAlias = Answer | Failed | Late
Deliver: TypeAlias = Callable[[Result], None]
"""Called on the event loop, once, with a question's answer."""

_T = TypeVar("_T")


@dataclass(slots=True)
class _Asked:
    question: Question
    deliver: Deliver
    wanted: Callable[[], bool]
    at_s: float
    closed: bool = False
    """Answered, or nobody wants the answer."""


class Batcher:
    """Feeds one predictor from a bounded queue, off the event loop.

    Args:
        predictor: called from one thread only.
        max_batch: questions a call.
        max_queued: questions that may wait; `ask` says False beyond.
        within_s: a question that has waited longer is answered by `fallback`; None: all wait.
        fallback: called on the event loop; its answer comes at once. None: `Late`.

    Attributes:
        answered, refused, failed, late: questions by what became of them; late ones count among the answered.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        max_batch: int,
        max_queued: int,
        within_s: float | None = None,
        fallback: Callable[[Question], Answer] | None = None,
    ) -> None:
        self._predictor = predictor
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._within_s = within_s
        self._fallback = fallback
        self._queue: deque[_Asked] = deque()
        self._waiting_for: deque[_Asked] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictor")
        self._task = asyncio.create_task(self._run())
        self.answered = 0
        self.refused = 0
        self.failed = 0
        self.late = 0

    @property
    def predictor(self) -> Predictor:
        """What is asked now."""
        return self._predictor

    def ask(self, question: Question, deliver: Deliver, wanted: Callable[[], bool]) -> bool:
        """Queues a question; False, and `deliver` is never called, when the queue is full.

        One that is no longer `wanted` when its turn comes is dropped.
        """
        if len(self._queue) >= self._max_queued:
            self.refused += 1
            return False
        asked = _Asked(question, deliver, wanted, self._loop.time())
        self._queue.append(asked)
        self._idle.clear()
        self._arrived.set()
        if self._within_s is not None:
            self._waiting_for.append(asked)
            if self._timer is None:
                self._timer = self._loop.call_later(self._within_s, self._answer_late)
        return True

    @property
    def waiting(self) -> int:
        """Questions that wait for the model."""
        return len(self._queue)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Runs something on the predictor's thread, between two batches."""
        return await self._loop.run_in_executor(self._thread, work)

    async def replace(self, predictor: Predictor, fallback: Callable[[Question], Answer] | None) -> None:
        """Asks another predictor from the next batch on; no question is lost or waits for it."""

        def swap() -> None:
            self._predictor = predictor

        await self.run(swap)
        self._fallback = fallback

    async def observe(self, observed: Sequence[Observed]) -> int:
        """Lets the predictor learn, on its thread; returns how many it learned from."""
        return await self.run(lambda: self._predictor.observe(observed))

    async def drained(self) -> None:
        """Waits until every question that was asked is answered."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Ends the thread; what still waits is not answered."""
        if self._timer is not None:
            self._timer.cancel()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                taken = self._take()
                questions = [asked.question for asked in taken]
                results = await self._loop.run_in_executor(self._thread, self._predict, questions)
                for asked, result in zip(taken, results, strict=True):
                    self._deliver(asked, result)
                failures = [result.detail for result in results if isinstance(result, Failed)]
                if failures:
                    _log.warning("predictions failed", count=len(failures), last=failures[-1])
            self._idle.set()

    def _take(self) -> list[_Asked]:
        taken: list[_Asked] = []
        while self._queue and len(taken) < self._max_batch:
            asked = self._queue.popleft()
            if not asked.closed and asked.wanted():
                taken.append(asked)
            else:
                asked.closed = True
        return taken

    def _deliver(self, asked: _Asked, result: Result) -> None:
        if asked.closed:
            return
        asked.closed = True
        self.answered += 1
        self.failed += isinstance(result, Failed)
        asked.deliver(result)

    def _answer_late(self) -> None:
        """Answers the questions that were asked too long ago; they stand in the order in which they were asked."""
        self._timer = None
        within_s = self._within_s
        if within_s is None:
            return
        while self._waiting_for:
            asked = self._waiting_for[0]
            left_s = asked.at_s + within_s - self._loop.time()
            if left_s > 0 and not asked.closed:
                self._timer = self._loop.call_later(left_s, self._answer_late)
                return
            self._waiting_for.popleft()
            if asked.closed:
                continue
            if not asked.wanted():
                asked.closed = True
                continue
            self.late += 1
            self._deliver(asked, self._quick(asked.question))

    def _quick(self, question: Question) -> Result:
        try:
            return Late() if self._fallback is None else self._fallback(question)
        except Exception as error:
            return Failed(f"{type(error).__name__} in the fallback")

    def _predict(self, questions: list[Question]) -> list[Result]:
        """Where a batch fails, each question is tried alone: one that breaks the predictor takes no other with it."""
        try:
            return list(self._checked(questions)) if questions else []
        except Exception as error:
            if len(questions) == 1:
                return [Failed(f"{type(error).__name__} in the predictor")]
        return [result for question in questions for result in self._predict([question])]

    def _checked(self, questions: list[Question]) -> list[Answer]:
        answers = self._predictor.predict(questions)
        if len(answers) != len(questions):
            raise ValueError(f"{len(answers)} answers to {len(questions)} questions")
        return answers
