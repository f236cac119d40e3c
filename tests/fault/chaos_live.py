"""`make chaos-live`: real processes under load, killed, stopped and cut off at random; every token is checked.

A predictor, two workers (the simulated engine, or `--vllm`: the demo model on real vLLM) and a scheduler, with a TCP
proxy before each worker; requests, and a durable job beside them. Each prompt is first asked undisturbed, greedily;
whatever happens later, its answer must be that one, token by token, each accepted request must end in exactly one
outcome, and each line of the job have one result. Recovery is the time from a fault until an answer that was
under way then has its next token, or its end; the restart of what was killed is part of it, and told apart too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.client import AsyncClient, Delta, FairleadError, Finished, Outcome, Retry
from tests.fault.job_load import JobLoad
from tests.fault.live_suite import KEY, Suite, running_suite

PATIENT = {"attempts": 400, "first_delay_s": 0.05, "max_delay_s": 0.5, "reattach_attempts": 400}
PROMPTS = 40
MAX_TOKENS = 160
"""Answers last for a second and more, so that faults hit them in the middle."""
MIN_TOKENS = 40
SAMPLING: dict[str, Any] = {"max_tokens": MAX_TOKENS, "min_tokens": MIN_TOKENS, "temperature": 0.0}
ENDS_WITHIN_S = 300.0
FAULTS = {
    "scheduler killed": 4, "predictor killed": 3, "worker killed": 3, "scheduler stopped": 1, "worker stopped": 2,
    "predictor stopped": 1, "link reset": 2, "link cut one way": 2, "link cut both ways": 1, "disk full": 1,
}  # fmt: skip


@dataclass
class Live:
    """One request: what came of it, and when."""

    prompt: int
    ids: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    finished: Finished | None = None
    error: FairleadError | None = None
    wrong: str = ""


class Chaos:
    """Load on a suite, and faults in it.

    Args:
        suite: that runs.
        rng: of prompts and faults.
        job_lines: of a durable job that runs beside the requests; 0: none does.

    Attributes:
        lives: every request.
        job: the durable job, once it has been submitted.
        faults: so far, by name.
        recovery_s: by fault, of each answer that was under way at one.
        restart_s: by fault, from each kill until the process was ready again.
    """

    def __init__(self, suite: Suite, rng: random.Random, job_lines: int) -> None:
        self.lives: list[Live] = []
        self.job: JobLoad | None = None
        self.faults: Counter[str] = Counter()
        self.recovery_s: dict[str, list[float]] = {}
        self.restart_s: dict[str, list[float]] = {}
        self._suite = suite
        self._rng = rng
        self._job_lines = job_lines
        self._expected: list[list[int]] = []
        self._open: dict[int, Live] = {}
        self._watched: list[tuple[str, float, Live, int]] = []
        address = suite.services["scheduler"].address
        self._client = AsyncClient(address, KEY, retry=Retry(seed=rng.randrange(2**32), **PATIENT), tls=suite.tls)

    async def run(self, requests: int, faults: dict[str, int], at_once: int, minutes: float) -> None:
        """So many requests while the faults pass, `minutes` at most; then all that lives ends."""
        for first in range(0, PROMPTS, 8):
            self._expected += await asyncio.gather(*(self._undisturbed(index) for index in range(first, first + 8)))
        going_wrong = asyncio.create_task(self._go_wrong(faults, minutes))

        async def one_after_another() -> None:
            # At least so many, and on until the last fault has passed: every fault is to meet load.
            while len(self.lives) < requests or not going_wrong.done():
                await self._one(Live(self._rng.randrange(PROMPTS)))

        asking = [asyncio.create_task(one_after_another()) for _ in range(at_once)]
        if self._job_lines:
            prompts = [_prompt(index) for index in range(PROMPTS)]
            self.job = JobLoad(self._client, self._job_lines, prompts, SAMPLING, self._expected)
            asking.append(asyncio.create_task(self.job.run(going_wrong.done)))
        await going_wrong
        async with asyncio.timeout(ENDS_WITHIN_S + requests):
            await asyncio.gather(*asking)
        await self._client.close()
        self._reckon()

    async def _undisturbed(self, index: int) -> list[int]:
        completion = await self._client.complete(_prompt(index), **_options())
        return list(completion.token_ids)

    async def _one(self, live: Live) -> None:
        self.lives.append(live)
        self._open[id(live)] = live
        options = _options(service_class=self._rng.choice(("ls", "be")))
        try:
            async with contextlib.aclosing(self._client.generate(_prompt(live.prompt), **options)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        if event.first_token != len(live.ids):
                            live.wrong = f"token {event.first_token} came after {len(live.ids)}"
                        live.ids.extend(event.token_ids)
                        live.at_s.append(time.monotonic())
                    elif isinstance(event, Finished):
                        live.finished = event
        except FairleadError as error:
            live.error = error
        live.at_s.append(time.monotonic())
        del self._open[id(live)]
        self._judge(live)

    def _judge(self, live: Live) -> None:
        expected = self._expected[live.prompt]
        if live.error is not None:
            live.wrong = live.wrong or f"{type(live.error).__name__}: {live.error}"
        elif live.finished is None:
            live.wrong = live.wrong or "no outcome"
        elif live.finished.outcome not in (Outcome.STOP, Outcome.LENGTH):
            live.wrong = live.wrong or f"{live.finished.outcome}: {live.finished.detail}"
        elif live.ids != expected:
            same = next((i for i, pair in enumerate(zip(live.ids, expected, strict=False)) if pair[0] != pair[1]), None)
            live.wrong = live.wrong or f"{len(live.ids)} of {len(expected)} tokens, first difference at {same}"

    async def _go_wrong(self, faults: dict[str, int], minutes: float) -> None:
        order = [name for name, count in faults.items() for _ in range(count)]
        self._rng.shuffle(order)
        end_s = time.monotonic() + 60 * minutes
        for name in order:
            await asyncio.sleep(self._rng.uniform(0.3, 1.5))
            if time.monotonic() > end_s:
                return
            now_s = time.monotonic()
            self._watched += [(name, now_s, live, len(live.at_s)) for live in self._open.values() if live.ids]
            self.faults[name] += 1
            await self._fault(name)

    async def _fault(self, name: str) -> None:
        rng, services = self._rng, self._suite.services
        which, _, how = name.partition(" ")
        if which == "link":
            await self._link(how)
            return
        if name == "disk full":
            await self._disk_full()
            return
        service = services[f"worker{rng.randrange(2)}" if which == "worker" else which]
        if how == "killed":
            began_s = time.monotonic()
            await service.end(signal.SIGKILL)
            await asyncio.sleep(rng.uniform(0.0, 1.0))
            await service.start()
            self.restart_s.setdefault(name, []).append(time.monotonic() - began_s)
        else:
            service.send(signal.SIGSTOP)
            await asyncio.sleep(rng.uniform(0.5, 4.0))
            service.send(signal.SIGCONT)

    async def _link(self, how: str) -> None:
        proxy = self._rng.choice(self._suite.proxies)
        if how == "reset":
            proxy.reset()
            return
        proxy.block(*(("up", "down") if "both" in how else (self._rng.choice(("up", "down")),)))
        await asyncio.sleep(self._rng.uniform(0.5, 4.0))
        proxy.heal()

    async def _disk_full(self) -> None:
        """The scheduler dies and can't keep its next epoch: it says so and does not start; then there is room again."""
        scheduler = self._suite.services["scheduler"]
        await scheduler.end(signal.SIGKILL)
        fresh = self._suite.state / "epoch.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to("/dev/full")
        try:
            await scheduler.start()
        except RuntimeError as error:
            if "can't hold the leadership epoch" not in str(error):
                raise
        else:
            raise AssertionError("a scheduler started that could not keep its epoch")
        fresh.unlink(missing_ok=True)
        await scheduler.start()

    def _reckon(self) -> None:
        for name, at_s, live, seen in self._watched:
            if len(live.at_s) > seen:
                self.recovery_s.setdefault(name, []).append(live.at_s[seen] - at_s)


def _prompt(index: int) -> str:
    return f"Count from {index} to {index + 9}."


def _options(**more: Any) -> dict[str, Any]:
    return {**SAMPLING, "resume_grace_ms": 120_000, **more}


async def chaos(
    folder: Path,
    *,
    seed: int,
    requests: int,
    job_lines: int,
    faults: dict[str, int],
    vllm: bool,
    tls: bool = False,
    minutes: float = math.inf,
) -> dict[str, Any]:
    """One run; its figures, and what was wrong."""
    began_s = time.monotonic()
    async with running_suite(folder, vllm=vllm, tls=tls) as suite:
        run = Chaos(suite, random.Random(seed), job_lines)
        await run.run(requests, faults, at_once=24, minutes=minutes)
    wrong = [f"prompt {live.prompt}: {live.wrong}" for live in run.lives if live.wrong]
    job: dict[str, int] = {}
    if run.job is not None:
        wrong += run.job.wrong
        job = {"jobs": run.job.jobs, "lines_ended": run.job.ended}
    outcomes = Counter(live.finished.outcome.value for live in run.lives if live.finished is not None)
    return {
        "seed": seed, "engine": "vllm" if vllm else "simulated", "tls": tls, "requests": len(run.lives), "wrong": wrong,
        "outcomes": dict(outcomes), "job": job, "tokens": sum(len(live.ids) for live in run.lives),
        "faults": dict(run.faults),
        "recovery_s": _quantiles(run.recovery_s), "restart_s": _quantiles(run.restart_s),
        "took_s": time.monotonic() - began_s,
    }  # fmt: skip


def _quantiles(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {"p50": float(np.quantile(times, 0.5)), "p99": float(np.quantile(times, 0.99)), "n": len(times)}
        for name, times in found.items()
    }


def main() -> int:
    """One run as the command line says; 1 if a request went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.chaos_live", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--job-lines", type=int, default=1000, help="of the durable job beside them; 0: none")
    parser.add_argument("--scale", type=float, default=1.0, help=f"faults, as a multiple of {FAULTS}")
    parser.add_argument("--kills", type=int, nargs=2, metavar=("SERVICES", "WORKERS"), help="only kills, so many")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="for the faults: those that are left by then are not done"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vllm", action="store_true", help="the demo model on real vLLM, not the simulated engine")
    parser.add_argument("--tls", action="store_true", help="mutual TLS between services, TLS to the clients")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    faults = {name: max(1, round(count * options.scale)) for name, count in FAULTS.items()}
    if options.kills:
        services, workers = options.kills
        halves = services - services // 2, services // 2
        faults = {"scheduler killed": halves[0], "predictor killed": halves[1], "worker killed": workers}
    with tempfile.TemporaryDirectory(prefix="chaos-live-") as folder:
        run = chaos(
            Path(folder), seed=options.seed, requests=options.requests, job_lines=options.job_lines, faults=faults,
            vllm=options.vllm, tls=options.tls, minutes=options.minutes,
        )  # fmt: skip
        result = asyncio.run(run)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(result["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
