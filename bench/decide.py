"""What a decision costs: microseconds of the core for each event, by how many requests wait.

`python -m bench.decide` puts 100, 1,000, 10,000 and 100,000 requests in front of 64 workers whose seats are all taken
and measures each event together with the decisions that follow from it: an arrival, a step report of one worker (every
sequence one token; now and then one ends and the next enters), a prediction (a re-ranking), and a slice of ageing. The
core is the one that serves. Figures are CPU time of one thread, so that a busy machine does not count.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from pathlib import Path

import numpy as np
from rich.table import Table

from fairlead.cli.problems import wide_console
from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    Assign,
    Change,
    End,
    ExecutionEnded,
    Outcome,
    PolicySettings,
    Predicted,
    Stepped,
    WorkerUp,
)
from scheduler_svc.records import Records

MODEL = "bench"
SEATS = 64
STEP_MS = 20.0


class Bench:
    """A core under load in virtual time; `samples` are microseconds by kind of event."""

    def __init__(
        self, policy: str, waiting: int, workers: int, settings: PolicySettings, seed: int, *, records: bool = False
    ) -> None:
        self._rng = random.Random(seed)
        bound = 2 * waiting + 100_000
        self._core = SchedulerCore(policy, settings, Limits(bound, bound))
        # As the shell has them (`scheduler.why_events`, `why_finished` at their defaults).
        self._records = Records(self._core, str, events=64, finished=1000) if records else None
        self._now_ms = 0.0
        self._jobs = 0
        self._running: dict[str, dict[int, int]] = {}
        self._laws = [LengthDistribution.lognormal(median, 0.6) for median in (30, 80, 150, 300, 700)]
        self.samples: dict[str, list[float]] = {}
        for index in range(workers):
            name = f"w{index:03d}"
            self._running[name] = {}
            self._event(None, WorkerUp(name, MODEL, 96, SEATS, 20_000, 16, 192))
        for _ in range(workers * (SEATS + 2)):
            self._arrive(None)
        self._start_all()
        while self.waiting < waiting:
            self._arrive(None)

    @property
    def waiting(self) -> int:
        """Requests in the pool."""
        return self._core.ledger.waiting()

    def run(self, events: int) -> None:
        """So many events of each kind, in turn."""
        names = list(self._running)
        gc.collect()
        gc.freeze()
        for index in range(events):
            self._now_ms += STEP_MS / len(names)
            self._arrive("arrival")
            self._step(names[index % len(names)])
            self._predict()
            self._age()

    def _event(self, kind: str | None, *events: object) -> None:
        core, now_ms, records = self._core, self._now_ms, self._records
        begun = time.thread_time_ns()
        for event in events:
            if records is not None:
                records.saw(event, now_ms)  # pyright: ignore[reportArgumentType]
            core.handle(event, now_ms)  # pyright: ignore[reportArgumentType]
        decisions = core.tick(now_ms)
        if records is not None:
            records.ticked(now_ms, decisions)
        took_us = (time.thread_time_ns() - begun) / 1000
        if kind is not None:
            self.samples.setdefault(kind, []).append(took_us)
        for decision in decisions:
            if isinstance(decision, End):
                core.forget(decision.job_id)
            if isinstance(decision, Assign):
                self._running[decision.worker][decision.job_id] = decision.attempt

    def _arrive(self, kind: str | None) -> None:
        rng = self._rng
        self._jobs += 1
        ls = rng.random() < 0.5
        prompt = min(4000, int(rng.lognormvariate(6.0, 1.0)) + 1)
        spec = Arrived(self._jobs, f"t{rng.randrange(8)}", MODEL, ls, 60_000.0, 50.0, prompt, 1024)
        law = rng.choice(self._laws)
        self._event(kind, spec)
        if kind is None:
            self._event(None, Predicted(spec.job_id, 0, law))

    def _start_all(self) -> None:
        for name, held in self._running.items():
            changes = tuple((job_id, attempt, Change.STARTED) for job_id, attempt in list(held.items())[:SEATS])
            self._event(None, Stepped(name, changes=changes))

    def _step(self, name: str) -> None:
        held = self._running[name]
        seated = list(held.items())[:SEATS]
        tokens = tuple((job_id, attempt, 1) for job_id, attempt in seated)
        if seated and self._rng.random() < 0.3:
            job_id, attempt = self._rng.choice(seated)
            del held[job_id]
            ended = ExecutionEnded(name, job_id, attempt, Outcome.STOP)
            self._event("step report, one ends", Stepped(name, tokens), ended)
        else:
            self._event("step report", Stepped(name, tokens))

    def _predict(self) -> None:
        live = self._core.live_jobs()
        job_id = self._rng.randint(max(1, self._jobs - len(live)), self._jobs)
        self._event("prediction", Predicted(job_id, 0, self._rng.choice(self._laws)))

    def _age(self) -> None:
        due_ms = self._core.next_due_ms()
        if due_ms is not None and due_ms <= self._now_ms:
            self._event("ageing slice")


def main() -> None:
    """Measures and prints; `--json FILE` writes the rows."""
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description=__doc__)
    parser.add_argument("--policy", default="slo")
    parser.add_argument("--waiting", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--events", type=int, default=4_000, help="of each kind")
    parser.add_argument("--placement", default="min_load")
    parser.add_argument("--overload", default="queue", choices=("queue", "reject", "relegate"))
    parser.add_argument("--records", action="store_true", help="keep the records of `fairlead why` beside it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    settings = PolicySettings(placement=given.placement, overload=given.overload)
    for waiting in given.waiting:
        bench = Bench(given.policy, waiting, given.workers, settings, given.seed, records=given.records)
        bench.run(given.events)
        rows += [_row(given.policy, waiting, kind, taken) for kind, taken in sorted(bench.samples.items())]
        every = [sample for taken in bench.samples.values() for sample in taken]
        rows.append(_row(given.policy, waiting, "all events", every))
        gc.unfreeze()
    _print(rows, given.workers)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(policy: str, waiting: int, kind: str, taken_us: list[float]) -> dict[str, object]:
    p50, p99 = np.percentile(taken_us, (50, 99))
    return {
        "policy": policy, "waiting": waiting, "event": kind, "events": len(taken_us),
        "p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1), "max_us": round(max(taken_us), 1),
        "mean_us": round(float(np.mean(taken_us)), 1),
    }  # fmt: skip


def _print(rows: list[dict[str, object]], workers: int) -> None:
    table = Table("waiting", "event", "events", "p50 us", "p99 us", "max us", "mean us", title=f"{workers} workers")
    columns = ("waiting", "event", "events", "p50_us", "p99_us", "max_us", "mean_us")
    for row in rows:
        table.add_row(*(str(row[name]) for name in columns))
    wide_console().print(table)


if __name__ == "__main__":
    main()
