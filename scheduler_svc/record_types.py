"""What the record of a request consists of (`records.py` makes it, `why.py` tells it)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.placement import Hindrance
from scheduler_svc.core.types import Arrived, Change, Job


class Kind(Enum):
    """What a moment is: the names of `fairlead.v1.MomentKind`."""

    ARRIVED = 1
    WAITS = 2
    ASKED = 3
    PREDICTED = 4
    NOT_PREDICTED = 5
    ASSIGNED = 6
    RETURNED = 7
    STARTED = 8
    PAUSED = 9
    RESUMED = 10
    EVICTED = 11
    DISPLACED = 12
    RELEGATED = 13
    ENDED = 14


@dataclass(slots=True)
class Moment:
    """One thing that happened to a request.

    Attributes:
        at_ms: on the shell's clock.
        worker: the core's name of it.
        others: job ids.
        law: the length distribution from then on, and the tokens that were out.
    """

    at_ms: float
    kind: Kind
    worker: str = ""
    text: str = ""
    figures: dict[str, float] = field(default_factory=dict[str, float])
    others: tuple[int, ...] = ()
    hindrance: Hindrance | None = None
    law: tuple[LengthDistribution, int] | None = None

    def all_figures(self) -> dict[str, float]:
        """`figures`, and those of the law: worked out when somebody asks, since few requests are ever asked about."""
        if self.law is None:
            return self.figures
        law, out = self.law
        told = self.figures | {"output_tokens": float(out)}
        for name, level in (("p10_tokens", 0.1), ("p50_tokens", 0.5), ("p90_tokens", 0.9)):
            told[name] = float(law.quantile(level, out))
        told["mean_remaining_tokens"] = float(law.mean_remaining(out))
        return told


@dataclass(slots=True, eq=False)
class Record:
    """What is known of one request.

    Attributes:
        spec: as it came.
        job: the core's; of an ended request as it was at its end.
        moments: the newest ones.
        left_out: older ones that the bound pushed out.
        asked: questions without an answer: tokens out when it was asked, and when that was.
        change: the last thing that its worker said of it; None before it was started there.
        predicted_ms, ended_ms: None before.
    """

    request_id: str
    spec: Arrived
    arrived_ms: float
    job: Job
    moments: deque[Moment]
    left_out: int = 0
    asked: dict[int, float] = field(default_factory=dict[int, float])
    change: Change | None = None
    predicted_ms: float | None = None
    ended_ms: float | None = None

    def add(self, moment: Moment) -> None:
        """Notes a moment; the oldest goes at the bound."""
        if len(self.moments) == self.moments.maxlen:
            self.left_out += 1
        self.moments.append(moment)
