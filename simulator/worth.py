"""What a predictor is worth: recorded answers and what was predicted of them, served between `fcfs` and a perfect one.

The answers arrive as a Poisson stream, half of them latency-sensitive at random. Mean JCT is that under `gittins`; LS
goodput is the rate of LS requests that met their targets under `slo`. Each predictor's own words order the requests,
those of later questions once as many tokens are out. `fcfs` is the one end, the same policy that knows each length the
other. `gittins`, since it makes most of a distribution: `isrtf` goes by the mean left and lets near-ties swap seats,
and so loses part of what is known where answers are much alike in length.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
JCT_POLICY, LS_POLICY = "gittins", "slo"

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
    jct_policy: str = JCT_POLICY,
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
        jct_policy: the policy under which mean JCT is taken.
        setup: the machines and targets; None: one of the simulator's usual workers.
        told: called with (runs done, all).

    Returns:
        `predictor, load, jct_mean_s, jct_gain, ls_goodput_per_s, ls_attainment, ls_gain, order_gain, jct_policy,
        answers, seeds`. Gains are shares of the way from `fcfs` to `oracle`; None where that way is shorter than a
        hundredth of fcfs. For `order_gain` see the function of that name.
    """
    if len(answers) < 40:
        raise ValueError(f"{len(answers)} answers are too few to simulate; at least 40")
    chosen = setup or Setup()
    names = (FCFS, *said, ORACLE)
    order_gains = {name: round(order_gain(answers, each), 4) for name, each in said.items()}
    figures: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    done = 0
    for seed in range(seeds):
        workload, order = shuffled(answers, most_answers, seed)
        capacity = capacity_of(workload, chosen)
        for load in loads:
            for name in names:
                figures.setdefault((name, load), []).append(
                    _figures(
                        workload,
                        _predictor(name, said, order),
                        FCFS if name == FCFS else jct_policy,
                        load * capacity,
                        replace(chosen, seed=seed),
                    )
                )
                done += 1
                if told is not None:
                    told(done, seeds * len(loads) * len(names))
    rows: list[dict[str, Any]] = []
    for load in loads:
        means = {name: np.mean(figures[name, load], axis=0).tolist() for name in names}
        shared = {"jct_policy": jct_policy, "answers": min(len(answers), most_answers), "seeds": seeds}
        rows += [{**_row(name, load, means), "order_gain": order_gains.get(name), **shared} for name in names]
    return rows


def order_gain(answers: Sequence[Answer], said: Sequence[Said]) -> float:
    """What the order of the predicted means is worth on a backlog that is served one by one.

    The share of the way in mean completion time from a random order (0) to that of the true lengths (1): the covariance
    of lengths with the ranks of what was predicted, over that with their own ranks. What a policy gains beyond it comes
    from the tokens that are out already: much where a few answers are very long, little where all are alike.
    """
    lengths = np.array([answer.output_tokens for answer in answers], np.float64)
    means = np.array([each[0][1].mean_remaining() for each in said], np.float64)
    centred = lengths - lengths.mean()
    return float((centred * _ranks(means)).sum() / max(float((centred * _ranks(lengths)).sum()), 1e-9))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


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
    workload: Workload, predictor: Predictor | None, jct_policy: str, rate_per_s: float, setup: Setup
) -> tuple[float, float, float]:
    """Mean JCT in s, LS requests a second within their targets, and the share of them that were."""
    first = _rows(workload, jct_policy, predictor, rate_per_s, setup)
    second = first if jct_policy == FCFS else _rows(workload, LS_POLICY, predictor, rate_per_s, setup)
    share = second["ls"].attainment or 0.0
    return first["all"].jct_mean_s or 0.0, share * rate_per_s * setup.ls_fraction, share


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


def _row(name: str, load: float, means: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    jct, goodput, share = means[name]
    return {
        "predictor": name,
        "load": load,
        "jct_mean_s": round(jct, 4),
        "jct_gain": _gain(means[FCFS][0], jct, means[ORACLE][0]),
        "ls_goodput_per_s": round(goodput, 4),
        "ls_attainment": round(share, 4),
        "ls_gain": _gain(means[FCFS][1], goodput, means[ORACLE][1]),
    }


def _gain(start: float, here: float, end: float) -> float | None:
    """The share of the way from `start` to `end`."""
    return None if abs(end - start) < 0.01 * abs(start) else round((here - start) / (end - start), 4)
