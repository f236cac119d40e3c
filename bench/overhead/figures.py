"""Figures of one run, and their medians over repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

RAMP_S = 1.0
"""At the beginning of a run, not counted: all senders begin at once."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run.

    Attributes:
        tokens_per_s: that arrived at the client while all senders were busy.
        ttft_ms_p50, ttft_ms_p99: from sending to the first token at the client.
        tpot_ms_p50, tpot_ms_p99: mean time per token of a request after its first.
        cpu_s_per_1000_tokens: by role.
        requests: counted for TTFT.
        other_programs_cpus: CPUs that programs which are not measured used meanwhile.
    """

    tokens_per_s: float
    ttft_ms_p50: float
    ttft_ms_p99: float
    tpot_ms_p50: float
    tpot_ms_p99: float
    cpu_s_per_1000_tokens: dict[str, float]
    requests: int
    other_programs_cpus: float


def figures(
    answers: Sequence[Mapping[str, Any]], seconds: float, cpu_s: Mapping[str, float], other_programs_cpus: float
) -> Figures:
    """Figures of what `drive.py` told.

    Args:
        answers: `drive.Answer`s as plain data.
        seconds: for which requests were sent.
        cpu_s: by role, over the whole run.
        other_programs_cpus: as in `Figures`.

    Raises:
        ValueError: an answer has more or fewer tokens than were asked for.
    """
    wrong = [each for each in answers if sum(each["counts"]) != each["wanted"]]
    if wrong:
        raise ValueError(f"{len(wrong)} answers have not the length that was asked for")
    within = sum(
        count
        for each in answers
        for at_s, count in zip(each["at_s"], each["counts"], strict=True)
        if RAMP_S <= at_s < seconds
    )
    counted = [each for each in answers if each["sent_s"] >= RAMP_S] or list(answers)
    ttft = [(each["at_s"][0] - each["sent_s"]) * 1e3 for each in counted]
    tpot = [(each["at_s"][-1] - each["at_s"][0]) * 1e3 / (each["wanted"] - 1) for each in counted if each["wanted"] > 1]
    tokens = sum(each["wanted"] for each in answers)
    (ttft_p50, ttft_p99), (tpot_p50, tpot_p99) = (np.percentile(values, (50, 99)).tolist() for values in (ttft, tpot))
    return Figures(
        tokens_per_s=within / (seconds - RAMP_S),
        ttft_ms_p50=ttft_p50,
        ttft_ms_p99=ttft_p99,
        tpot_ms_p50=tpot_p50,
        tpot_ms_p99=tpot_p99,
        cpu_s_per_1000_tokens={role: used / tokens * 1e3 for role, used in cpu_s.items()},
        requests=len(counted),
        other_programs_cpus=other_programs_cpus,
    )


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of each figure by itself."""

    def of(name: str) -> float:
        return median(getattr(each, name) for each in runs)

    return Figures(
        of("tokens_per_s"), of("ttft_ms_p50"), of("ttft_ms_p99"), of("tpot_ms_p50"), of("tpot_ms_p99"),
        {role: median(each.cpu_s_per_1000_tokens[role] for each in runs) for role in runs[0].cpu_s_per_1000_tokens},
        sum(each.requests for each in runs), of("other_programs_cpus"),
    )  # fmt: skip
