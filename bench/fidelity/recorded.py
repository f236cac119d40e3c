"""What a scheduler recorded (its decision log), as runs: one from each change of policy to the next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.steps import StepModel
from scheduler_svc.core.types import (
    Arrived,
    Event,
    Outcome,
    PolicyChanged,
    PolicySettings,
    Predicted,
    Stepped,
    WorkerUp,
    WorkerUpdated,
)
from simulator.decision_log import open_recording
from simulator.recorded import Answers

FINISHED = (Outcome.STOP.value, Outcome.LENGTH.value)


class RecordingError(Exception):
    """A recording that says too little for a comparison; the message says what is missing."""


@dataclass(slots=True)
class Seen:
    """One request as the scheduler saw it. Times on its clock, ms; those of tokens are None where there were none."""

    spec: Arrived
    arrival_ms: float
    tokens: int = 0
    first_ms: float | None = None
    last_ms: float | None = None
    finished: bool = False
    answers: Answers = field(default_factory=Answers)


@dataclass(slots=True)
class RecordedRun:
    """What happened under one policy.

    Attributes:
        workers: that were up.
        models: (time, step-time model) as the worker told it.
    """

    policy: str
    settings: PolicySettings
    look_ahead: int
    workers: list[WorkerUp]
    requests: dict[int, Seen] = field(default_factory=dict[int, Seen])
    models: list[tuple[float, StepModel]] = field(default_factory=list[tuple[float, StepModel]])

    def mean_model(self, last_ms: float | None = None) -> StepModel:
        """Mean of the models told while requests came, or in the last `last_ms` of that time.

        A worker whose model did not change in that time told none: then it is the last one before.

        Raises:
            RecordingError: nothing arrived, or no worker was up.
        """
        arrivals = [each.arrival_ms for each in self.requests.values()]
        if not arrivals or not self.models:
            raise RecordingError(f"{self.policy}: nothing arrived or no worker was up, so no step time is known")
        end_ms = max(arrivals)
        begin_ms = min(arrivals) if last_ms is None else end_ms - last_ms
        told = [model for at_ms, model in self.models if begin_ms <= at_ms <= end_ms]
        if not told:
            told = [max((each for each in self.models if each[0] <= end_ms), key=lambda each: each[0])[1]]
        count = len(told)
        return StepModel(
            sum(model.c0_ms for model in told) / count,
            sum(model.c1_ms_per_prefill_token for model in told) / count,
            sum(model.c2_ms_per_decode for model in told) / count,
            sum(model.c3_ms_per_context_token for model in told) / count,
        )


def idle_delay_ms(runs: Sequence[RecordedRun], model: StepModel) -> tuple[float, float]:
    """What a message between scheduler and worker takes one way: (p10, p90), ms.

    From requests that nobody shared the engine with until their first token: half of what their TTFT had beyond the
    step that `model` expects of their prefill. It holds all that the simulator does not know of: gRPC, processes that
    wait for a CPU, an engine that wakes up.

    Raises:
        RecordingError: there were fewer than three such requests.
    """
    requests = sorted((each for run in runs for each in run.requests.values()), key=lambda each: each.arrival_ms)
    found: list[float] = []
    busy_until_ms = -math.inf
    for each, following in zip(requests, [*requests[1:], None], strict=True):
        alone = following is None or each.first_ms is None or following.arrival_ms > each.first_ms
        if each.first_ms is not None and each.arrival_ms > busy_until_ms and alone:
            beyond_ms = each.first_ms - each.arrival_ms - model.step_ms(each.spec.prompt_tokens, 0, 0)
            found.append(max(0.0, beyond_ms / 2))
        busy_until_ms = max(busy_until_ms, each.last_ms or math.inf)
    if len(found) < 3:
        raise RecordingError("fewer than three requests had the engine to themselves; give --network-ms least,most")
    least, most = np.percentile(found, [10, 90])
    return float(least), float(most)


def read_runs(path: Path) -> list[RecordedRun]:
    """The runs of a recording, in order; before the first change of policy there is one too.

    Raises:
        LogError: it can't be read.
        RecordingError: lines of it were lost.
    """
    recording = open_recording(path)
    first = recording.headers[0]
    models = [(first.ms, up.cost) for up in first.workers]
    runs = [RecordedRun(first.policy, first.settings, first.look_ahead, list(first.workers), models=models)]
    asked: dict[tuple[int, int], float] = {}
    for item in recording.items():
        if item.event is not None:
            _take(runs, item.event, item.ms, asked)
        for decision in item.decided:
            _decided(runs[-1], decision, item.ms, asked)
    if recording.lost:
        raise RecordingError(f"{path}: {recording.lost} lines were lost when it was recorded; record again")
    return runs


def _take(runs: list[RecordedRun], event: Event, at_ms: float, asked: dict[tuple[int, int], float]) -> None:
    run = runs[-1]
    match event:
        case Arrived():
            run.requests[event.job_id] = Seen(event, at_ms)
        case PolicyChanged():
            runs.append(
                RecordedRun(event.policy, event.settings, run.look_ahead, list(run.workers), models=run.models[-1:])
            )
        case WorkerUp():
            run.workers.append(event)
            run.models.append((at_ms, event.cost))
        case WorkerUpdated() if event.cost is not None:
            run.models.append((at_ms, event.cost))
        case Predicted():
            seen = run.requests.get(event.job_id)
            if seen is not None:
                since_ms = asked.pop((event.job_id, event.generated_tokens), at_ms)
                seen.answers.append((event.generated_tokens, at_ms - since_ms, event.distribution))
        case Stepped():
            for job_id, _, count in event.tokens:
                seen = run.requests.get(job_id)
                if seen is not None and count:
                    seen.tokens += count
                    seen.last_ms = at_ms
                    seen.first_ms = at_ms if seen.first_ms is None else seen.first_ms
        case _:
            pass


def _decided(run: RecordedRun, decision: Mapping[str, Any], at_ms: float, asked: dict[tuple[int, int], float]) -> None:
    if decision["d"] == "AskPrediction":
        asked[decision["job_id"], decision.get("generated_tokens", 0)] = at_ms
    elif decision["d"] == "End" and decision["job_id"] in run.requests:
        run.requests[decision["job_id"]].finished = decision["outcome"] in FINISHED
