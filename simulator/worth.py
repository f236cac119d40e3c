"""What a predictor is worth: recorded answers and what was predicted of them, served between `fcfs` and a perfect one.

The answers arrive as a Poisson stream, half of them latency-sensitive at random. Mean JCT is that under `isrtf`; LS
goodput is the rate of LS requests that met their targets under `slo`. Each predictor's own words order the requests,
those of later questions once as many tokens are out. `fcfs` is the one end, `isrtf` and `slo` that know each length the
other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairlead.lengths import LengthDistribution
from fairlead.load.traces import TraceRow
from simulator.figures import Origin, Row, rows_of
from simulator.from_log import KnowingPredictor, RecordedPredictor
from simulator.policies import parse_choice
from simulator.predictor import Predictor
from simulator.run import Setup, capacity_of, drive, machine_of, unbounded
from simulator.workload import Workload, deal

LOADS = (0.95, 1.1)
MOST_ANSWERS = 2000
"""Of more, as many are drawn for each seed."""
FCFS, ORACLE = "fcfs", "oracle"
JCT_POLICY, LS_POLICY = "isrtf", "slo"

Said = Sequence[tuple[int, LengthDistribution]]
"""What was said of one answer: (tokens out, the law of its whole length), in order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One recorded answer."""

    prompt_tokens: int
    output_tokens: int


def worth(
    answers: Sequence[Answer],
    said: Mapping[str, Sequence[Said]],
    *,
    loads: Sequence[float] = LOADS,
    seeds: int = 1,
    most_answers: int = MOST_ANSWERS,
    setup: Setup | None = None,
    told: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """A row for each load and predictor, `fcfs` first and `oracle` last.

    Args:
        answers: at least 40.
        said: by predictor, of each answer.
        loads: multiples of the FCFS capacity for these answers.
        seeds: of order, arrivals and classes; figures are means over them.
        most_answers: that are served in a run; of more, as many are drawn.
        setup: the machines and targets; None: one of the simulator's usual workers.
        told: called with (runs done, all).

    Returns:
        `predictor, load, jct_mean_s, jct_gain, ls_goodput_per_s, ls_attainment, ls_gain, answers, seeds`. Gains are
        shares of the way from `fcfs` to `oracle`; None where that way is shorter than a hundredth of fcfs.
    """
    if len(answers) < 40:
        raise ValueError(f"{len(answers)} answers are too few to simulate; at least 40")
    chosen = setup or Setup()
    names = (FCFS, *said, ORACLE)
    figures: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    done = 0
    for seed in range(seeds):
        workload, order = shuffled(answers, most_answers, seed)
        capacity = capacity_of(workload, chosen)
        for load in loads:
            for name in names:
                figures.setdefault((name, load), []).append(
                    _figures(workload, _predictor(name, said, order), name, load, capacity, replace(chosen, seed=seed))
                )
                done += 1
                if told is not None:
                    told(done, seeds * len(loads) * len(names))
    rows: list[dict[str, Any]] = []
    for load in loads:
        means = {name: np.mean(figures[name, load], axis=0).tolist() for name in names}
        rows += [_row(name, load, means, min(len(answers), most_answers), seeds) for name in names]
    return rows


def shuffled(answers: Sequence[Answer], most: int, seed: int) -> tuple[Workload, list[int]]:
    """At most `most` answers in random order, as a Poisson stream of one a second; and which of them stands where."""
    rng = random.Random(f"worth {seed}")
    order = list(range(len(answers)))
    rng.shuffle(order)
    del order[most:]
    rows: list[TraceRow] = []
    now_s = 0.0
    for index in order:
        rows.append(TraceRow(now_s, max(answers[index].prompt_tokens, 1), answers[index].output_tokens, ""))
        now_s += rng.expovariate(1.0)
    return Workload("recorded answers", tuple(rows)), order


def _predictor(name: str, said: Mapping[str, Sequence[Said]], order: Sequence[int]) -> Predictor | None:
    if name == FCFS:
        return None
    if name == ORACLE:
        return KnowingPredictor()
    delay_ms = Setup().prediction_ms
    return RecordedPredictor(
        {
            place: [(generated, delay_ms, law) for generated, law in said[name][index]]
            for place, index in enumerate(order)
        }
    )


def _figures(
    workload: Workload, predictor: Predictor | None, name: str, load: float, capacity: float, setup: Setup
) -> tuple[float, float, float]:
    """Mean JCT in s, LS requests a second within their targets, and the share of them that were."""
    first = _rows(workload, FCFS if name == FCFS else JCT_POLICY, predictor, load * capacity, setup)
    second = first if name == FCFS else _rows(workload, LS_POLICY, predictor, load * capacity, setup)
    share = second["ls"].attainment or 0.0
    rate = load * capacity * setup.ls_fraction
    return first["all"].jct_mean_s or 0.0, share * rate, share


def _rows(
    workload: Workload, policy: str, predictor: Predictor | None, rate_per_s: float, setup: Setup
) -> dict[str, Row]:
    choice = parse_choice(policy)
    requests = deal(
        workload, rate_per_s=rate_per_s, ls_fraction=setup.ls_fraction, targets=setup.targets, seed=setup.seed
    )
    result = drive(choice, setup, predictor, requests, unbounded(requests))
    budget = machine_of(choice, setup).limits.step_token_budget
    rows = rows_of(Origin(workload.name, policy, rate_per_s), result.requests, setup.step_model, budget)
    return {row.class_: row for row in rows}


def _row(name: str, load: float, means: Mapping[str, Sequence[float]], answers: int, seeds: int) -> dict[str, Any]:
    jct, goodput, share = means[name]
    return {
        "predictor": name,
        "load": load,
        "jct_mean_s": round(jct, 4),
        "jct_gain": _gain(means[FCFS][0], jct, means[ORACLE][0]),
        "ls_goodput_per_s": round(goodput, 4),
        "ls_attainment": round(share, 4),
        "ls_gain": _gain(means[FCFS][1], goodput, means[ORACLE][1]),
        "answers": answers,
        "seeds": seeds,
    }


def _gain(start: float, here: float, end: float) -> float | None:
    """The share of the way from `start` to `end`."""
    return None if abs(end - start) < 0.01 * abs(start) else round((here - start) / (end - start), 4)
