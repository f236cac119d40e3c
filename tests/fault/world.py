"""One seed: a cluster, clients and faults in virtual time, from the first request to the last outcome."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from fairlead.client import FairleadError
from scheduler_svc.core.policies import BUILT_IN
from tests.fault.bad_predictor import MOODS
from tests.fault.clients import Clients, Wish, what_is_wrong
from tests.fault.cluster import SCHEDULER, Cluster, until
from tests.fault.faults import CLIENT, Faults
from tests.fault.invariants import SchedulerWatch, check_kv, engines_watched
from tests.fault.promises import ShareWatch, WaitWatch
from tests.fault.virtual_time import Node, NothingLeft, VirtualLoop

ENDS_WITHIN_S = 600.0
"""Virtual seconds from when everything is put right until every request must have its outcome."""
LETS_GO_WITHIN_S = 60.0
PRESSED_S = {"crowded": 15.0, "flooded": 40.0}
"""Virtual seconds for which a crowd or a flood goes on after everything is put right."""
FLOODED = {"overload": "queue", "be_share": 0.3}
"""LS is not refused, so that it takes all that it can; BE is promised a wait that such a run outlasts."""
PROMISING = ("slo",)
"""Policies that keep fair shares, and a share for BE, unless told not to."""


def kind_of(seed: int) -> str:
    """What the clients of a seed are like.

    "mixed": some twenty requests. "crowded": two tenants have requests of both classes waiting all the time (I7).
    "flooded": one tenant's LS requests take all seats, another's BE requests come one at a time (I6).
    """
    return {124: "flooded", 199: "crowded"}.get(seed % 200, "mixed")


@dataclass
class Result:
    """What a seed came to.

    Attributes:
        broken: what did not hold; empty: all held.
        faults: by name.
        outcomes: requests by outcome, or by the error that their clients got.
        tokens: received by clients.
        virtual_s: length of the run.
        waits_kept: BE requests that began within the wait that they were promised (I6).
        digest: of every decision and every client's tokens (I9).
    """

    seed: int
    broken: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    virtual_s: float = 0.0
    waits_kept: int = 0
    digest: str = ""


def run_seed(seed: int, *, requests: int = 20, fault_count: int = 5) -> Result:
    """Runs one seed; the same seed gives the same result.

    Args:
        seed: of everything.
        requests: about so many.
        fault_count: about so many.
    """
    result = Result(seed)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=_memory_folder()) as folder:
        world = _World(seed, Path(folder), result)
        gc.disable()  # when what a killed process left is collected must not depend on chance
        try:
            world.run(requests, fault_count)
        finally:
            gc.enable()
    return result


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class _World:
    def __init__(self, seed: int, folder: Path, result: Result) -> None:
        self._rng = random.Random(f"world {seed}")
        self._result = result
        self._log: list[str] = []
        self._loop = VirtualLoop()
        self._kind = kind_of(seed)
        self._waits: list[WaitWatch] = []
        rng = self._rng
        policies = sorted(BUILT_IN) if self._kind == "mixed" else PROMISING
        self._cluster = Cluster(
            self._loop,
            seed,
            folder,
            workers=rng.randint(1, 3) if self._kind == "mixed" else 1,
            policy=rng.choice(("slo", "slo", *policies)),
            mood=rng.choice(MOODS),
            watch=self._watch,
            scheduler=FLOODED if self._kind == "flooded" else {},
        )
        self._client = Node(CLIENT)
        self._put_right = asyncio.Event()
        self._faults = Faults(self._cluster, self._client, random.Random(f"faults {seed}"), policies)

    def run(self, requests: int, fault_count: int) -> None:
        result, loop = self._result, self._loop
        began_s = loop.now_s
        with ExitStack() as stack:
            stack.enter_context(self._cluster.installed())
            stack.enter_context(engines_watched(self._report))
            stack.enter_context(mock.patch.object(time, "time", self._wall_clock))
            asyncio.set_event_loop(loop)
            stack.callback(asyncio.set_event_loop, None)
            stack.callback(loop.close)
            try:
                loop.run_until_complete(loop.spawn(self._client, self._main(requests, fault_count)))
            except NothingLeft as error:
                self._report(f"I1: {error}")
        result.broken += self._cluster.broken
        result.faults = self._faults.counts
        result.virtual_s = loop.now_s - began_s
        result.waits_kept = sum(watch.kept for watch in self._waits)
        result.digest = hashlib.sha256("\n".join(self._log).encode()).hexdigest()

    async def _main(self, requests: int, fault_count: int) -> None:
        rng, faults = self._rng, self._faults
        self._clients = clients = Clients(
            self._cluster.address(SCHEDULER), random.Random(f"clients {self._result.seed}")
        )
        self._cluster.start_all()
        await asyncio.sleep(rng.uniform(0.0, 1.0))
        asking = asyncio.create_task(self._ask(clients, requests) if self._kind == "mixed" else self._press(clients))
        going_wrong = [asyncio.create_task(self._go_wrong(faults)) for _ in range(fault_count)]
        await asyncio.gather(*going_wrong)
        await faults.put_right()
        self._put_right.set()
        following = await asking
        ended = await until(lambda: all(task.done() for task in following), ENDS_WITHIN_S, every_s=0.2)
        for asked in clients.asked:
            self._judge(asked)
        if ended:
            await self._lets_go()
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)

    async def _ask(self, clients: Clients, requests: int) -> list[asyncio.Task[None]]:
        rng = self._rng
        tasks: list[asyncio.Task[None]] = []
        for _ in range(rng.randint(max(1, requests // 2), requests * 3 // 2)):
            await asyncio.sleep(rng.expovariate(8.0))
            tasks.append(asyncio.create_task(clients.follow(clients.make())))
        return tasks

    async def _press(self, clients: Clients) -> list[asyncio.Task[None]]:
        """As many as always wait ask again and again, until some time after everything is put right."""
        if self._kind == "crowded":
            # Who asks for little would have everything where the policy alone decides.
            askers = [(Wish("alice", name, 2), 20) for name in ("ls", "be")]
            askers += [(Wish("bob", name, 12), 20) for name in ("ls", "be")]
        else:
            askers = [(Wish("alice", "ls", 20), 14), (Wish("bob", "be", 10), 2)]
        over = asyncio.Event()

        async def again(wish: Wish) -> None:
            while not over.is_set():
                await clients.follow(clients.make(wish))

        tasks = [asyncio.create_task(again(wish)) for wish, count in askers for _ in range(count)]
        await self._put_right.wait()
        await asyncio.sleep(PRESSED_S[self._kind])
        over.set()
        return tasks

    async def _go_wrong(self, faults: Faults) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, 5.0))
        await faults.one()

    def _judge(self, asked: Any) -> None:
        result, faults = self._result, self._faults
        result.tokens += len(asked.ids)
        error: FairleadError | None = asked.error
        if not asked.done:
            how = "never"
            self._report(f"I1: {asked.request_id} never ended; {len(asked.ids)} tokens came, habit {asked.habit!r}")
        elif asked.finished is not None:
            how = asked.finished.outcome.value
        else:
            how = type(error).__name__ if error is not None else "left"
        result.outcomes[how] += 1
        self._log.append(f"{asked.request_id} {how} {asked.ids} {asked.text}")
        if asked.done:
            wrong = what_is_wrong(
                asked, operator_ends=faults.operator_ends, reader_may_lag=faults.client_links
            )  # fmt: skip
            if wrong:
                self._report(f"{asked.request_id} ({asked.habit}, {_shown(asked)}): {wrong}")

    async def _lets_go(self) -> None:
        """Nothing is kept for requests that have ended: no KV block, no place, no stream."""
        if not await until(self._is_clean, LETS_GO_WITHIN_S, every_s=0.2):
            self._report(f"I4: not let go of: {self._what_is_kept()}")
        for worker in self._cluster.workers:
            check_kv(worker.host._engine._core)

    def _is_clean(self) -> bool:
        return not self._what_is_kept()

    def _what_is_kept(self) -> list[str]:
        kept: list[str] = []
        host = self._cluster.processes[SCHEDULER].host
        if host is None:
            return ["the scheduler does not serve"]
        shell = host.shell
        if shell.died.done():
            kept.append(shell.died.result())
        if shell.book.live or shell.book.preparing:
            kept.append(f"live requests {list(shell.book.live)}")
        if len(shell.core.workers) != len(self._cluster.workers):
            kept.append(f"workers {list(shell.core.workers)}")
        for name, view in shell.core.workers.items():
            if view.placed:
                kept.append(f"places on {name}")
        for worker in self._cluster.workers:
            if worker.host is None:
                kept.append(f"{worker.name} does not serve")
                continue
            core = worker.host._engine._core
            if core.sequences or core.free_blocks != core.limits.kv_blocks or core.residents:
                kept.append(f"sequences of {worker.name}")
            if len(worker.host.service._ledger):
                kept.append(f"requests held by {worker.name}")
        return kept

    def _watch(self, host: Any) -> None:
        waits = WaitWatch(host, lambda: self._faults.lasting > 0, self._report)
        shares = ShareWatch(host, self._whole_tokens, self._report)
        self._waits.append(waits)
        host.shell.witnesses[:0] = [SchedulerWatch(host, self._log, self._report), waits, shares]

    def _whole_tokens(self, request_id: str) -> int:
        return self._clients.asked[int(request_id.removeprefix("r"))].whole_tokens()

    def _report(self, what: str) -> None:
        broken = self._result.broken
        if len(broken) < 20:
            broken.append(f"at {self._loop.now_s - 1000:.3f} s: {what}")

    def _wall_clock(self) -> float:
        return 1.7e9 + self._loop.now_s + self._faults.wall_clock_jump_s


def _shown(asked: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in asked.options.items() if name != "request_id")
