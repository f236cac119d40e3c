"""Questions wait here for the model: a bounded queue, batches as large as what came in meanwhile, one thread.

No question waits for a batch to fill: while the thread works on one batch, the next collects.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

from fairlead.telemetry import get_logger
from predictor_svc.predictors.base import Answer, Observed, Predictor, Question

_log = get_logger("batching")


@dataclass(frozen=True)
class Failed:
    """The predictor raised on this question."""

    detail: str


Result: TypeAlias = Answer | Failed
Deliver: TypeAlias = Callable[[Result], None]
"""Called on the event loop, once, with a question's answer."""


class Batcher:
    """Feeds one predictor from a bounded queue, off the event loop.

    Args:
        predictor: called from one thread only.
        max_batch: questions a call.
        max_queued: questions that may wait; `ask` says False beyond.
    """

    def __init__(self, predictor: Predictor, *, max_batch: int, max_queued: int) -> None:
        self._predictor = predictor
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._queue: deque[tuple[Question, Deliver, Callable[[], bool]]] = deque()
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictor")
        self._task = asyncio.create_task(self._run())
        self.answered = 0
        self.refused = 0
        self.failed = 0

    def ask(self, question: Question, deliver: Deliver, wanted: Callable[[], bool]) -> bool:
        """Queues a question; False, and `deliver` is never called, when the queue is full.

        One that is no longer `wanted` when its turn comes is dropped.
        """
        if len(self._queue) >= self._max_queued:
            self.refused += 1
            return False
        self._queue.append((question, deliver, wanted))
        self._idle.clear()
        self._arrived.set()
        return True

    @property
    def waiting(self) -> int:
        """Questions that wait for the model."""
        return len(self._queue)

    async def observe(self, observed: Sequence[Observed]) -> int:
        """Lets the predictor learn, on its thread; returns how many it learned from."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._predictor.observe, observed)

    async def drained(self) -> None:
        """Waits until every question that was asked is answered."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Ends the thread; what still waits is not answered."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                taken = self._take()
                results = await loop.run_in_executor(self._thread, self._predict, [question for question, _ in taken])
                self.answered += len(taken)
                for (_, deliver), result in zip(taken, results, strict=True):
                    deliver(result)
                failures = [result.detail for result in results if isinstance(result, Failed)]
                if failures:
                    self.failed += len(failures)
                    _log.warning("predictions failed", count=len(failures), last=failures[-1])
            self._idle.set()

    def _take(self) -> list[tuple[Question, Deliver]]:
        taken: list[tuple[Question, Deliver]] = []
        while self._queue and len(taken) < self._max_batch:
            question, deliver, wanted = self._queue.popleft()
            if wanted():
                taken.append((question, deliver))
        return taken

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
