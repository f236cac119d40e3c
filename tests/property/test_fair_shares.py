"""I7 in the random world: tenants that always wait are served alike, up to the bound that `core/fairness.py` states."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.core.types import (
    CancelRequested,
    Outcome,
    PolicyChanged,
    PolicySettings,
    TenantsChanged,
    TenantTerms,
)
from tests.property.world import PredictorMood, World

BOUND_TOKENS = 400
OUTPUT_WEIGHT = 3
WEIGHTS = {"acme": 1.0, "bits": 2.0, "core": 0.5}
ANSWERS = {"acme": (2, 12), "bits": (20, 60), "core": (5, 60)}
"""Those with the short answers would have everything where the policy alone decides."""
KEPT_WAITING = 4

Lane = tuple[bool, str]


class Crowded(World):
    """A world in which every tenant has requests of both classes waiting all the time."""

    def __init__(self, seed: int, *, fair: str, classes: tuple[bool, ...], workers: int = 2) -> None:
        policies = ("slo", "priority")
        self.fair = fair
        self.classes = classes
        self.policies = policies
        self.served: dict[Lane, float] = {(ls, name): 0.0 for ls in classes for name in WEIGHTS}
        self.spread: dict[tuple[bool, str, str], tuple[float, float]] = {}
        self.most_placed = dict.fromkeys(classes, 0.0)
        self._counted: dict[int, float] = {}
        super().__init__(seed, policy=policies[0], mood=PredictorMood.GOOD, workers=workers)
        self.tell(TenantsChanged(tuple(TenantTerms(name, weight) for name, weight in WEIGHTS.items())))

    def _settings(self) -> PolicySettings:
        made = replace(super()._settings(), fair_bound_tokens=BOUND_TOKENS, output_token_weight=OUTPUT_WEIGHT)
        return replace(made, fair_shares=self.fair)

    def _arrive_and_again(self) -> None:
        if self._draining:
            return
        waiting = dict.fromkeys(self.served, 0)
        for job in self.core.live_jobs().values():
            if job.worker is None:
                waiting[job.spec.latency_sensitive, job.spec.tenant] += 1
        for (ls, name), count in waiting.items():
            for _ in range(count, KEPT_WAITING):
                self.arrive(
                    ls=ls,
                    tenant=name,
                    prompt_tokens=self.rng.randint(1, 100),
                    answer_tokens=self.rng.randint(*ANSWERS[name]),
                    continuable=self.rng.random() < 0.8,
                )
        self.at(self.now_ms + 1.0, self._arrive_and_again)

    def _disturb_and_again(self) -> None:
        rng = self.rng
        if self._draining:
            return
        dice, placed = rng.random(), [job for job in self.core.live_jobs().values() if job.worker is not None]
        if dice < 0.5 and placed:
            self.tell(CancelRequested(rng.choice(placed).job_id, Outcome.CANCELLED_BY_CLIENT))
        elif dice < 0.6 and len(self.workers) > 1:
            self.lose_worker(rng.choice(list(self.workers)))
        elif dice < 0.7 and len(self.workers) < 3:
            self.add_random_worker()
        elif dice < 0.8:
            self.tell(PolicyChanged(rng.choice(self.policies), self._settings()))
        self.at(self.now_ms + rng.expovariate(1 / 100.0), self._disturb_and_again)

    def tick(self) -> None:
        super().tick()
        placed = dict.fromkeys(self.served, 0.0)
        for job_id, job in self.core.live_jobs().items():
            lane = (job.spec.latency_sensitive, job.spec.tenant)
            prompt = job.spec.prompt_tokens if job.started else 0
            served = (prompt + OUTPUT_WEIGHT * job.output_tokens) / WEIGHTS[job.spec.tenant]
            self.served[lane] += served - self._counted.get(job_id, 0.0)
            self._counted[job_id] = served
            if job.worker is not None:
                whole = job.spec.prompt_tokens + OUTPUT_WEIGHT * self.requests[job_id].answer_tokens
                placed[lane] += max(whole, job.charged) / WEIGHTS[job.spec.tenant]
        if self._draining:
            return
        for ls in self.classes:
            self.most_placed[ls] = max(
                [self.most_placed[ls], *(most for lane, most in placed.items() if lane[0] == ls)]
            )
            for one, other in combinations(WEIGHTS, 2):
                apart = self.served[ls, one] - self.served[ls, other]
                least, most = self.spread.get((ls, one, other), (apart, apart))
                self.spread[ls, one, other] = (min(least, apart), max(most, apart))

    def excess(self) -> float:
        """How far the widest spread between two tenants of a class is beyond the bound; negative: within it."""
        return max(
            most - least - (5 * BOUND_TOKENS + 5 * self.most_placed[ls])
            for (ls, _, _), (least, most) in self.spread.items()
        )


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    classes=st.sampled_from(((True,), (False,), (True, False))),
    workers=st.integers(1, 3),
)
def test_backlogged_tenants_are_served_within_the_bound(seed: int, classes: tuple[bool, ...], workers: int) -> None:
    world = Crowded(seed, fair="on", classes=classes, workers=workers)
    world.run_for(4_000.0)
    assert world.excess() <= 0, f"seed {seed}, classes {classes}, workers {workers}: {world.spread}"


@pytest.mark.parametrize(("ls", "seed"), [(True, 2), (False, 4)])
def test_without_fair_shares_the_same_world_breaks_the_bound(ls: bool, seed: int) -> None:
    world = Crowded(seed, fair="off", classes=(ls,))
    world.run_for(10_000.0)
    assert world.excess() > 0, "the bound is too wide to tell anything"
