"""Metrics of jobs and of the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.telemetry.metrics import LATENCY_BUCKETS_S, Readings, counter, gauge, histogram
from fairlead.v1 import types_pb2
from scheduler_svc.journal.records import Result

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from scheduler_svc.jobs.office import Office

REASONS = ("JOURNAL_FULL", "JOURNAL_UNAVAILABLE")


class JobMetrics:
    """Instruments of one scheduler's jobs.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._refused: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._write = histogram(
            meter, "fairlead.journal.write.duration", "s", LATENCY_BUCKETS_S, "Time of a commit of results."
        )
        self._ended: Counter[str] = Counter()

    def wrote(self, seconds: float, results: Sequence[Result]) -> None:
        """Results were committed together."""
        self._write.record(seconds)
        self._ended.update(types_pb2.Outcome.Name(one.outcome).removeprefix("OUTCOME_") for one in results)

    def refused(self, reason: str) -> None:
        """The journal did not do what a client wanted."""
        self._refused[reason] += 1

    def observe(self, office: Office) -> None:
        """Reads the state of jobs from now on."""
        meter = self._meter

        def jobs() -> Readings:
            live = list(office.runner.jobs.values()) if office.runner is not None else []
            states = Counter({"queued": 0, "running": 0, "ending": 0})
            for job in live:
                begun = job.in_flight or job.tally.ended
                states["ending" if job.ending is not None else "running" if begun else "queued"] += 1
            return [(number, {"state": state}) for state, number in states.items()]

        def lines() -> Readings:
            live = list(office.runner.jobs.values()) if office.runner is not None else []
            in_flight = sum(job.in_flight for job in live)
            left = sum(job.job.lines - job.tally.ended for job in live)
            return [(left - in_flight, {"state": "waiting"}), (in_flight, {"state": "in_flight"})]

        def outcomes() -> Readings:
            return [(number, {"outcome": outcome}) for outcome, number in list(self._ended.items())]

        gauge(meter, "fairlead.jobs", "{job}", "Live durable jobs, by state.", jobs)
        gauge(meter, "fairlead.job.lines", "{line}", "Lines of live jobs that have not ended, by state.", lines)
        counter(
            meter, "fairlead.job.lines.ended", "{line}", "Lines whose results were put on disk, by outcome.", outcomes
        )
        gauge(meter, "fairlead.journal.size", "By", "Space the journal takes up.", lambda: [(office.size_bytes, {})])
        gauge(
            meter, "fairlead.journal.open", "1", "1: the journal is open here.",
            lambda: [(int(office.ready), {})],
        )  # fmt: skip
        counter(
            meter, "fairlead.journal.refused", "{refusal}", "Calls that the journal's trouble refused, by reason.",
            lambda: [(number, {"reason": reason}) for reason, number in list(self._refused.items())],
        )  # fmt: skip
