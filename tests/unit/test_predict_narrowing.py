"""What asking again did to intervals, read from recorded traffic."""

from __future__ import annotations

from pathlib import Path

from bench.predict_narrowing import plot, windows_of
from fairlead.lengths import LengthDistribution
from scheduler_svc.core.types import Arrived, Outcome, PolicySettings
from simulator.recorded import Traffic
from simulator.world import Request


def test_newer_intervals_are_held_against_the_first_given_the_tokens_out(tmp_path: Path) -> None:
    traffic = Traffic("made up", "isrtf", PolicySettings(), [], [], {}, [])
    first = LengthDistribution.lognormal(150.0, 0.8)
    for job_id in range(24):
        spec = Arrived(job_id, "t", "m", True, 1000.0, 50.0, 10, 512)
        outcome = Outcome.CANCELLED_BY_CLIENT if job_id >= 20 else Outcome.STOP
        traffic.served.append(Request(spec, 160, outcome=outcome))
        again = LengthDistribution.lognormal(160.0, 0.1)
        wrong = LengthDistribution.lognormal(300.0, 0.05)
        traffic.answers[job_id] = [(0, 5.0, first), (52, 5.0, again), (60, 5.0, wrong), (101, 5.0, None)]
        if job_id % 2:
            traffic.answers[job_id].append((104, 5.0, wrong))
    windows = windows_of(traffic)
    assert [(each.generated, each.answers) for each in windows] == [(0, 20), (50, 20), (100, 10)]
    start, sharp, off = windows
    assert start.width == start.width_first and start.narrower == 0
    assert sharp.width < sharp.width_first / 3
    assert (sharp.narrower, sharp.holds) == (1, 1)
    assert (off.holds, off.holds_first) == (0, 1)
    plot(windows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
