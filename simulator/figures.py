"""Rows of figures from what became of each request (design: scheduling, "Metrics")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scheduler_svc.core.types import Outcome
from simulator.fairness import jain_of_backlogged
from simulator.world import Request
from worker_svc.ordering import StepModel

OUTER = 0.05
"""Share of arrivals left out at the beginning, and at the end: the machine fills and empties there."""

FINISHED = (Outcome.STOP, Outcome.LENGTH)


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one class ("ls", "be", "all") in one run. None where nothing of the kind happened.

    Attributes:
        requests: of the class, in the middle of the run.
        ttft_p50_ms, ttft_p99_ms: arrival at the scheduler to first token there.
        tpot_p99_ms: (last - first token) / (tokens - 1), of answers of two tokens or more.
        attainment: share of the LS requests offered whose TTFT and TPOT met their targets; None for `be`, of the LS
            requests for `all`. What was refused, failed or never ended has missed.
        jct_mean_s, jct_p99_s: arrival to last token, of those that finished.
        slowdown_mean: JCT over JCT alone on an idle worker.
        tokens_per_s: output tokens of the class in the whole run / (first arrival to last token of the whole run).
        preemptions: seats lost in mid-request: pauses that keep the KV cache and evictions that drop it.
        recomputed_tokens: computed again because of an eviction.
        rejected: refused at arrival, or by every worker.
        relegated: LS requests served as BE, and those moved back because they missed their TTFT target while they
            waited, under rules that do so.
        gap_max_s: longest time that a running request went without a token.
        jain: how evenly tenants that had to wait were served (`fairness.jain_of_backlogged`), of the whole run.
        goodput: the highest load with enough attainment, where it was looked for.
    """

    trace: str
    policy: str
    load: float
    class_: str
    requests: int
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    tpot_p99_ms: float | None
    attainment: float | None
    jct_mean_s: float | None
    jct_p99_s: float | None
    slowdown_mean: float | None
    tokens_per_s: float
    preemptions: int
    recomputed_tokens: int
    rejected: int
    relegated: int
    gap_max_s: float
    jain: float | None = None
    goodput: float | None = None

    def to_json(self) -> dict[str, object]:
        """As plain JSON values; `class_` is called `class`, and `goodput` is there only if it was looked for."""
        value = {name.rstrip("_"): getattr(self, name) for name in Row.__dataclass_fields__}
        if value["goodput"] is None:
            del value["goodput"]
        return value


@dataclass(frozen=True, slots=True)
class Origin:
    """What a row is of."""

    trace: str
    policy: str
    load: float
    moves_back: bool = False


def rows_of(origin: Origin, requests: Sequence[Request], model: StepModel, token_budget: int) -> list[Row]:
    """One row a class, then `all`; a class without requests has no row."""
    middle = middle_of(requests)
    tokens_of_run = _span_s(requests)
    rows: list[Row] = []
    for name, wanted in (("ls", (True,)), ("be", (False,)), ("all", (True, False))):
        chosen = [request for request in middle if request.spec.latency_sensitive in wanted]
        if chosen:
            everyone = [request for request in requests if request.spec.latency_sensitive in wanted]
            tokens = sum(request.received for request in everyone)
            rate = tokens / tokens_of_run if tokens_of_run > 0 else 0.0
            row = _row(origin, name, chosen, rate, model, token_budget)
            rows.append(replace(row, jain=jain_of_backlogged(everyone)))
    return rows


def middle_of(requests: Sequence[Request]) -> list[Request]:
    """All but the first and the last `OUTER` of the arrivals."""
    cut = int(len(requests) * OUTER)
    return list(requests[cut : len(requests) - cut])


def finished(request: Request) -> bool:
    """Whether its answer came whole."""
    return request.outcome in FINISHED


def ttft_ms(request: Request) -> float | None:
    """Arrival to first token; None where there was none."""
    return None if request.first_ms is None else request.first_ms - request.arrival_ms


def tpot_ms(request: Request) -> float | None:
    """Mean time between tokens after the first; None for fewer than two."""
    if request.first_ms is None or request.last_ms is None or request.received < 2:
        return None
    return (request.last_ms - request.first_ms) / (request.received - 1)


def met(request: Request) -> bool:
    """Whether a request finished within its TTFT and TPOT targets."""
    first, pace = ttft_ms(request), tpot_ms(request)
    if not finished(request) or first is None:
        return False
    return first <= request.spec.ttft_ms and (pace is None or pace <= request.spec.tpot_ms)


def alone_ms(prompt_tokens: int, answer_tokens: int, model: StepModel, token_budget: int) -> float:
    """JCT on an idle worker, the network left out: prefill in chunks of the token budget, then one token a step."""
    total_ms, done = 0.0, 0
    while done < prompt_tokens:
        chunk = min(token_budget, prompt_tokens - done)
        total_ms += model.step_ms(chunk, 0, done)
        done += chunk
    steps = answer_tokens - 1
    contexts = steps * prompt_tokens + steps * (steps - 1) // 2
    return total_ms + steps * (model.c0_ms + model.c2_ms_per_decode) + model.c3_ms_per_context_token * contexts


def attainment(requests: Sequence[Request]) -> float | None:
    """Share of the LS requests among these that met their targets; None where there are none."""
    latency = [request for request in requests if request.spec.latency_sensitive]
    return sum(met(request) for request in latency) / len(latency) if latency else None


def _row(
    origin: Origin, name: str, requests: Sequence[Request], tokens_per_s: float, model: StepModel, token_budget: int
) -> Row:
    ttfts = [value for request in requests if (value := ttft_ms(request)) is not None]
    tpots = [value for request in requests if (value := tpot_ms(request)) is not None]
    ended = [request for request in requests if finished(request) and request.last_ms is not None]
    jcts = [(request.last_ms or 0.0) - request.arrival_ms for request in ended]
    alone = [alone_ms(each.spec.prompt_tokens, each.answer_tokens, model, token_budget) for each in ended]
    return Row(
        trace=origin.trace,
        policy=origin.policy,
        load=origin.load,
        class_=name,
        requests=len(requests),
        ttft_p50_ms=_percentile(ttfts, 50),
        ttft_p99_ms=_percentile(ttfts, 99),
        tpot_p99_ms=_percentile(tpots, 99),
        attainment=attainment(requests),
        jct_mean_s=float(np.mean(jcts)) / 1000.0 if jcts else None,
        jct_p99_s=value / 1000.0 if (value := _percentile(jcts, 99)) is not None else None,
        slowdown_mean=float(np.mean(np.asarray(jcts) / np.asarray(alone))) if jcts else None,
        tokens_per_s=tokens_per_s,
        preemptions=sum(request.pauses + request.evictions for request in requests),
        recomputed_tokens=sum(request.recomputed_tokens for request in requests),
        rejected=sum(request.refused or request.outcome is Outcome.FAILED_ENGINE for request in requests),
        relegated=sum(each.relegated or (origin.moves_back and _late(each)) for each in requests),
        gap_max_s=max(request.gap_ms for request in requests) / 1000.0,
    )


def _late(request: Request) -> bool:
    first = ttft_ms(request)
    return request.spec.latency_sensitive and (first is None or first > request.spec.ttft_ms)


def _span_s(requests: Sequence[Request]) -> float:
    last = max((request.last_ms for request in requests if request.last_ms is not None), default=0.0)
    return (last - min((request.arrival_ms for request in requests), default=0.0)) / 1000.0


def _percentile(values: Sequence[float], level: float) -> float | None:
    return float(np.percentile(values, level)) if values else None
