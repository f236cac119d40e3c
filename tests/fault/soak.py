"""`make soak MINUTES=N`: mixed load that comes and goes; memory, open files and what is held must be flat.

Clients come and go with their connections; they read to the end, cancel, leave, and ask for what does not exist. Every
few seconds memory and open files of each service are noted. At the end nothing waits, runs or is held, and neither
grew by more than the bound since a fifth of the time had passed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.client import AsyncClient, FairleadError, Finished, NotFound, Overloaded, Retry
from fairlead.rpc import make_channel
from fairlead.v1 import worker_pb2, worker_pb2_grpc
from tests.fault.live_suite import KEY, Suite, running_suite
from tests.fault.processes import open_files, rss_mb

MOST_GROWTH_MB_AN_HOUR = 60.0
LEAST_GROWTH_MB = 12.0
"""What a short run may grow by: pools and caches fill."""
MOST_MORE_FILES = 8
NOTE_EVERY_S = 5.0
AT_ONCE = 24
MOST_ERRORS = 20
"""That nobody provoked, as they are told."""


class Soak:
    """Load on a suite for so long."""

    def __init__(self, suite: Suite, seed: int) -> None:
        self.notes: dict[str, list[tuple[float, float, int]]] = {name: [] for name in suite.services}
        self.outcomes: Counter[str] = Counter()
        self.errors: list[str] = []
        self._suite = suite
        self._rng = random.Random(seed)
        self._address = suite.services["scheduler"].address

    async def run(self, minutes: float) -> None:
        """Load, and notes meanwhile."""
        end_s = time.monotonic() + 60 * minutes
        noting = asyncio.create_task(self._note_and_again())
        await asyncio.gather(*(self._client(end_s) for _ in range(AT_ONCE)))
        noting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await noting

    async def _client(self, end_s: float) -> None:
        """One client after another, each with a connection of its own and some requests."""
        while time.monotonic() < end_s:
            async with AsyncClient(self._address, KEY, retry=Retry(attempts=3)) as client:
                for _ in range(self._rng.randint(1, 20)):
                    if time.monotonic() < end_s:
                        await self._one(client)

    async def _one(self, client: AsyncClient) -> None:
        rng = self._rng
        habit, stop_after = rng.choice(("reads", "reads", "reads", "cancels", "leaves", "is wrong")), rng.randint(0, 20)
        options: dict[str, Any] = {
            "max_tokens": rng.choice((1, 20, 100)), "service_class": rng.choice(("ls", "be")),
            "resume_grace_ms": rng.choice((0, 2000)), "request_id": f"soak-{rng.randrange(2**64)}",
        }  # fmt: skip
        if habit == "is wrong":
            options["model"] = "no such model"
        try:
            count = 0
            events = client.generate(f"Soak {rng.randrange(10_000)} times.", **options)
            async with contextlib.aclosing(events):
                async for event in events:
                    count += 1
                    if isinstance(event, Finished):
                        self.outcomes[event.outcome.value] += 1
                    elif habit == "leaves" and count > stop_after:
                        self.outcomes["left"] += 1
                        return
                    elif habit == "cancels" and count == 1 + stop_after:
                        await client.cancel(options["request_id"])
        except FairleadError as error:
            self.outcomes[type(error).__name__] += 1
            if not isinstance(error, NotFound | Overloaded) and len(self.errors) < MOST_ERRORS:
                self.errors.append(f"{habit}: {type(error).__name__}: {error}")

    async def _note_and_again(self) -> None:
        began_s = time.monotonic()
        while True:
            for name, service in self._suite.services.items():
                at_s = time.monotonic() - began_s
                self.notes[name].append((at_s, rss_mb(service.pid), open_files(service.pid)))
            await asyncio.sleep(NOTE_EVERY_S)

    async def what_is_left(self) -> list[str]:
        """What workers still hold; they are asked as a scheduler would, by what they have room for."""
        left: list[str] = []
        for name in ("worker0", "worker1"):
            service = self._suite.services[name]
            async with make_channel(service.address) as channel:
                stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)
                call = stub.Execute()
                described = await stub.Describe(worker_pb2.WorkerServiceDescribeRequest())
                lead = worker_pb2.Lead(
                    scheduler_id="soak", epoch=described.leader_epoch + 1, protocol_version=described.protocol_version
                )
                await call.write(worker_pb2.ExecuteRequest(lead=lead))
                first = await call.read()
                if first.leading.held:
                    left.append(f"{name} holds {len(first.leading.held)} requests")
                call.cancel()
        return left

    def growth(self) -> dict[str, dict[str, float]]:
        """Memory and open files of each service: how much more since a fifth of the time had passed."""
        found: dict[str, dict[str, float]] = {}
        for name, notes in self.notes.items():
            settled = notes[len(notes) // 5 :]
            times = [at_s for at_s, _, _ in settled]
            slope = float(np.polyfit(times, [mb for _, mb, _ in settled], 1)[0]) if len(settled) > 2 else 0.0
            found[name] = {
                "rss_mb": settled[-1][1], "grew_mb": settled[-1][1] - settled[0][1], "mb_an_hour": slope * 3600,
                "files": settled[-1][2], "more_files": settled[-1][2] - settled[0][2],
            }  # fmt: skip
        return found


async def soak(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """One run; its figures, and what was wrong."""
    # Few ended requests are kept, so that what is kept on purpose is full soon.
    async with running_suite(folder, vllm=False, finished_kept=300, why_finished=100) as suite:
        run = Soak(suite, seed)
        await run.run(minutes)
        await asyncio.sleep(5.0)
        growth = run.growth()
        wrong = [
            f"{name}: {figures}"
            for name, figures in growth.items()
            if (figures["mb_an_hour"] > MOST_GROWTH_MB_AN_HOUR and figures["grew_mb"] > LEAST_GROWTH_MB)
            or figures["more_files"] > MOST_MORE_FILES + AT_ONCE
        ]
        wrong += run.errors
        wrong += [f"{name} does not run" for name, service in suite.services.items() if not service.lives()]
        wrong += [f"{name}: {words}" for name, service in suite.services.items() if (words := service.tracebacks())]
        await suite.services["scheduler"].end(15)
        wrong += await run.what_is_left()
    return {"minutes": minutes, "seed": seed, "outcomes": dict(run.outcomes), "growth": growth, "wrong": wrong}


def main() -> int:
    """One run; 1 if something was not flat."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = asyncio.run(soak(Path(folder), options.minutes, options.seed))
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(result["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
