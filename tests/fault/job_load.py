"""A durable job as load for live chaos: each line's result is held against the undisturbed answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fairlead.client import AsyncClient, FairleadError, JobResult


class JobLoad:
    """Jobs of so many lines, one after another: each is submitted once and read while its lines end.

    Args:
        client: of a tenant that may use best effort; patient, since the scheduler is killed.
        lines: of each job.
        prompts: that lines are made of, in turn.
        options: of every line.
        expected: token ids of the answer to each prompt.

    Attributes:
        ended: lines that have a result, over all jobs.
        jobs: submitted so far.
        wrong: what was missing, repeated, or not the answer.
    """

    def __init__(
        self, client: AsyncClient, lines: int, prompts: list[str], options: dict[str, Any], expected: list[list[int]]
    ) -> None:
        self.jobs = 0
        self.ended = 0
        self.wrong: list[str] = []
        self._client = client
        self._prompts = prompts
        self._expected = expected
        self._lines: list[dict[str, Any]] = [
            {"custom_id": f"c{line}", "prompt": prompts[line % len(prompts)], **options} for line in range(1, lines + 1)
        ]

    async def run(self, over: Callable[[], bool]) -> None:
        """At least one job, and jobs until it is over."""
        while not self.jobs or not over():
            self.jobs += 1
            try:
                await self._one()
            except FairleadError as error:
                self.wrong.append(f"job {self.jobs}: {type(error).__name__}: {error}")
                await asyncio.sleep(1.0)

    async def _one(self) -> None:
        jobs = self._client.jobs
        job = await jobs.submit(self._lines, idempotency_key=f"job-{self.jobs}", return_token_ids=True)
        line = 0
        async for result in jobs.results(job.job_id):
            line += 1
            self.ended += 1
            what = self._what_is_wrong(result, line)
            if what:
                self.wrong.append(f"job {self.jobs}, line {result.line}: {what}")
        if line != len(self._lines):
            self.wrong.append(f"job {self.jobs}: {line} of {len(self._lines)} lines have a result")

    def _what_is_wrong(self, result: JobResult, line: int) -> str:
        if (result.line, result.custom_id) != (line, f"c{line}"):
            return f"it came where line {line} was due"
        if not result.outcome.complete:
            return f"{result.outcome}: {result.detail}"
        expected = self._expected[line % len(self._prompts)]
        if list(result.token_ids) != expected:
            return f"{len(result.token_ids)} tokens are not the {len(expected)} of the answer"
        return ""
