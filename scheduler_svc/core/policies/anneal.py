"""Simulated annealing over order and batch sizes (SLO-aware scheduling, arXiv 2504.14966)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Room, context_tokens, prefill_left_tokens
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.policies.planned import Planned
from scheduler_svc.core.types import Job, PolicySettings

_MASK = (1 << 64) - 1


class SplitMix:
    """A small generator of pseudo-random numbers, so that a seed repeats a plan (Steele, Lea & Flood, "Fast Splittable
    Pseudorandom Number Generators", 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def uniform(self) -> float:
        """In [0, 1)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)

    def below(self, n: int) -> int:
        """In 0 ... n - 1."""
        return int(self.uniform() * n)


@dataclass(frozen=True, slots=True)
class Item:
    """A waiting job as a plan sees it.

    Attributes:
        job: itself.
        prefill_ms: work before its first token.
        tokens: still to come.
        context_tokens: now.
        first_by_ms: when its first token is due, from now; infinite for BE.
        tpot_ms: longest step that it bears; infinite for BE.
        done_by_ms: when it is to be complete, from now; infinite without a target.
    """

    job: Job
    prefill_ms: float
    tokens: float
    context_tokens: int
    first_by_ms: float
    tpot_ms: float
    done_by_ms: float


def goodness(order: Sequence[Item], sizes: Sequence[int], pace: Pace) -> float:
    """Requests that meet their targets, per second of summed latency, if the batches run one after another."""
    cost = pace.cost
    now_ms = latency_ms = 0.0
    met = begin = 0
    for size in sizes:
        batch = order[begin : begin + size]
        begin += size
        contexts = sum(item.context_tokens for item in batch)
        step_ms = cost.c0_ms + cost.c2_ms_per_decode * size + cost.c3_ms_per_context_token * contexts
        ready_ms = now_ms + cost.c0_ms + sum(item.prefill_ms for item in batch)
        for item in batch:
            end_ms = ready_ms + item.tokens * step_ms
            latency_ms += end_ms
            met += ready_ms <= item.first_by_ms and step_ms <= item.tpot_ms and end_ms <= item.done_by_ms
        now_ms = ready_ms + step_ms * max(item.tokens for item in batch)
    return met / max(latency_ms / 1000, 1e-9)


def anneal(items: Sequence[Item], seats: int, pace: Pace, iterations: int, random: SplitMix) -> list[Item]:
    """The best order found from shortest first in full batches; two requests swap, or a batch gives one to the next.

    The temperature falls geometrically to a hundredth; a worse neighbour by a share d is taken with probability
    exp(-d / temperature).
    """
    order = sorted(items, key=lambda item: (item.prefill_ms + item.tokens * pace.step_ms(0), item.job.job_id))
    sizes = [min(seats, len(order) - begin) for begin in range(0, len(order), seats)]
    value = goodness(order, sizes, pace)
    best, best_value = list(order), value
    temperature = 0.5
    cooling = 0.01 ** (1 / max(iterations, 1))
    for _ in range(iterations if len(order) > 1 else 0):
        new_order, new_sizes = list(order), list(sizes)
        if random.uniform() < 0.7:
            i, j = random.below(len(order)), random.below(len(order))
            new_order[i], new_order[j] = new_order[j], new_order[i]
        else:
            _move_border(new_sizes, seats, random)
        new_value = goodness(new_order, new_sizes, pace)
        loss = (value - new_value) / max(value, 1e-12)
        if loss <= 0 or random.uniform() < math.exp(-loss / temperature):
            order, sizes, value = new_order, new_sizes, new_value
            if value > best_value:
                best, best_value = list(order), value
        temperature *= cooling
    return best


def _move_border(sizes: list[int], seats: int, random: SplitMix) -> None:
    """One request from the end of a batch to the next one (a new one behind the last), or back."""
    at = random.below(len(sizes))
    if random.uniform() < 0.5 and sizes[at] > 1:
        if at + 1 == len(sizes):
            sizes.append(0)
        if sizes[at + 1] < seats:
            sizes[at] -= 1
            sizes[at + 1] += 1
    elif at + 1 < len(sizes) and sizes[at] < seats:
        sizes[at] += 1
        sizes[at + 1] -= 1
    if 0 in sizes:
        sizes.remove(0)


class Anneal(Planned):
    """The order of the first `head` waiting requests that meets most targets per latency, as annealing finds it.

    The budget is a number of iterations, not a time, so that one seed gives one order; each looks at the whole head
    once. Latencies are predicted from mean lengths and the worker's step-time model.
    """

    name = "anneal"
    summary = "simulated annealing of the queue's head: most SLOs met per latency; a bounded number of iterations"

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/anneal.md."""

        head: int = option(32, "waiting requests that are put in order together", least=1, most=256)
        iterations: int = option(300, "neighbours tried for one plan", least=0, most=100_000)
        plan_every_ms: float = option(1000.0, "least time between two plans", least=0.0, most=600_000.0)
        be_completion_ms: float = option(
            300_000.0, "completion target of a BE request that states none", least=1.0, most=86_400_000.0
        )
        seed: int = option(0, "of the search", least=0, most=1_000_000_000)

    options: Options

    def __init__(self, settings: PolicySettings) -> None:
        super().__init__(settings)
        self._random = SplitMix(self.options.seed)

    def cost(self, job: Job, pace: Pace) -> float:  # noqa: ARG002
        """Mean remaining output tokens."""
        return job.distribution.mean_remaining(job.output_tokens)

    def plan(self, waiting: Sequence[Job], room: Room, now_ms: float) -> list[Job]:
        """As found."""
        items = [self._item(job, room.pace, now_ms) for job in waiting]
        order = anneal(items, max(1, room.seats), room.pace, self.options.iterations, self._random)
        return [item.job for item in order]

    def _item(self, job: Job, pace: Pace, now_ms: float) -> Item:
        spec, infinite = job.spec, float("inf")
        target_ms = self.options.be_completion_ms if spec.completion_ms is None else spec.completion_ms
        ls = spec.latency_sensitive
        return Item(
            job,
            pace.prefill_ms(prefill_left_tokens(job)),
            max(job.cost, 1.0),
            context_tokens(job),
            job.arrival_ms + spec.ttft_ms - now_ms if ls and job.first_token_ms is None else infinite,
            spec.tpot_ms if ls else infinite,
            infinite if ls and spec.completion_ms is None else job.arrival_ms + target_ms - now_ms,
        )
