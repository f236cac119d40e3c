"""What a load sends and when: seeded, and the same whatever the answers do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fairlead.client import ChatMessage, Prompt, RequestOptions, ServiceClass
from fairlead.load.traces import TraceRow
from fairlead.workload.tasks import prompts

LEAST_CV = 1e-3
FIRST_PLAIN_ID, LAST_PLAIN_ID = 16, 250
"""Token ids that any vocabulary has and none uses as special tokens: what made-up prompts of a trace consist of."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of a load.

    Attributes:
        index: its place in the order of arrival.
        arrival_s: when it is sent, from the start of the load.
        tenant: whose key it is sent with.
        ttft_ms, tpot_ms: its targets; None: the tenant's or class's own.
        max_tokens: most output tokens; with `forced`, exactly so many.
        seed: of its sampling; None: unseeded.
    """

    index: int
    arrival_s: float
    prompt: Prompt
    tenant: str
    service_class: ServiceClass
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    max_tokens: int | None = None
    forced: bool = False
    seed: int | None = None

    def options(self) -> RequestOptions:
        """As the client wants it; without resume grace, so that what the load gives up is given up at once."""
        return RequestOptions(
            service_class=self.service_class,
            ttft_ms=self.ttft_ms,
            tpot_ms=self.tpot_ms,
            max_tokens=self.max_tokens,
            min_tokens=self.max_tokens if self.forced else None,
            ignore_eos=True if self.forced else None,
            seed=self.seed,
            resume_grace_ms=0,
        )


@dataclass(frozen=True)
class Mixture:
    """Who sends what: the share of latency-sensitive requests, their tenants and their targets (ms)."""

    ls_fraction: float = 0.5
    ls_tenant: str = "interactive"
    be_tenant: str = "batch"
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    per_request_seeds: bool = True
    chat: bool = field(default=True)

    def deal(self, requests: Sequence[Planned], seed: int) -> list[Planned]:
        """Gives each request its class, tenant and targets; exactly `ls_fraction` of them are LS, at random places."""
        rng = random.Random(f"classes {seed}")
        ls_count = round(len(requests) * self.ls_fraction)
        latency = [True] * ls_count + [False] * (len(requests) - ls_count)
        rng.shuffle(latency)
        return [self._as(request, is_ls) for request, is_ls in zip(requests, latency, strict=True)]

    def _as(self, request: Planned, latency: bool) -> Planned:
        if latency:
            return replace(
                request, service_class=ServiceClass.LATENCY_SENSITIVE, tenant=self.ls_tenant, ttft_ms=self.ttft_ms,
                tpot_ms=self.tpot_ms,
            )  # fmt: skip
        return replace(request, service_class=ServiceClass.BEST_EFFORT, tenant=self.be_tenant)


def arrivals(rate_per_s: float, count: int, seed: int, cv: float = 1.0) -> list[float]:
    """Times of `count` arrivals, s: gaps of mean 1/rate drawn from a Gamma with coefficient of variation `cv`.

    `cv` 1 is Poisson, above it bursty, 0 (below 0.001) evenly spaced. The same seed gives the same times, and at
    another rate the same times scaled.
    """
    if rate_per_s <= 0 or cv < 0:
        raise ValueError(f"rate must be positive and cv not negative, not {rate_per_s} and {cv}")
    rng = random.Random(f"arrivals {seed}")
    even = cv < LEAST_CV
    shape = 0.0 if even else 1 / cv**2
    times, now_s = list[float](), 0.0
    for _ in range(count):
        times.append(now_s)
        now_s += (1.0 if even else rng.gammavariate(shape, 1 / shape)) / rate_per_s
    return times


def plan_mix(times_s: Sequence[float], mixture: Mixture, seed: int) -> list[Planned]:
    """The built-in mix of tasks at these times; one sampling seed a request, so that lengths repeat over policies."""
    tasks = prompts(seed, len(times_s))
    rng = random.Random(f"sampling {seed}")
    planned = [
        Planned(
            index=index,
            arrival_s=time_s,
            prompt=[ChatMessage("user", task.prompt)] if mixture.chat else task.prompt,
            tenant=mixture.be_tenant,
            service_class=ServiceClass.BEST_EFFORT,
            seed=rng.getrandbits(31) if mixture.per_request_seeds else None,
        )
        for index, (time_s, task) in enumerate(zip(times_s, tasks, strict=True))
    ]
    return mixture.deal(planned, seed)


def plan_trace(rows: Sequence[TraceRow], mixture: Mixture, seed: int, context_tokens: int) -> tuple[list[Planned], int]:
    """A trace's arrivals and lengths with made-up prompts; answers are forced to the trace's output length.

    Returns the plan, and how many requests were cut to `context_tokens` (output first: at most half of the context).
    """
    rng = random.Random(f"prompts {seed}")
    start_s = rows[0].arrival_s
    planned, cut = list[Planned](), 0
    for index, row in enumerate(rows):
        output = min(row.output_tokens, max(1, context_tokens // 2))
        length = min(row.input_tokens, context_tokens - output)
        cut += (output, length) != (row.output_tokens, row.input_tokens)
        ids = rng.choices(range(FIRST_PLAIN_ID, LAST_PLAIN_ID), k=length)
        planned.append(
            Planned(
                index,
                row.arrival_s - start_s,
                ids,
                mixture.be_tenant,
                ServiceClass.BEST_EFFORT,
                max_tokens=output,
                forced=True,
            )
        )
    return mixture.deal(planned, seed), cut


def at_rate(plan: Sequence[Planned], rate_per_s: float) -> list[Planned]:
    """The plan stretched in time to a mean rate, its pattern of bursts kept."""
    span_s = plan[-1].arrival_s
    own_rate = (len(plan) - 1) / span_s if span_s else rate_per_s
    return [replace(request, arrival_s=request.arrival_s * own_rate / rate_per_s) for request in plan]
