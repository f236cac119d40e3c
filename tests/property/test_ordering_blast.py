"""20,000 random steps of the simulated engine in virtual time: I1, I3, I4, I5, I9 and I10 of the engine's order.

The events know nothing of each other: arrivals, ranks that mean nothing (or never come), rules that change, cancels,
KV too scarce for what is held, budgets that divide by nothing. A failure prints the seed that brings it back.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.property.step_checks import blocks_for, check_plan
from worker_svc.be_share import ShareCredit
from worker_svc.engines import simulated_core
from worker_svc.engines.base import ChangeKind
from worker_svc.engines.simulated_core import SimulatedCore, SimulatedLimits, StepResult
from worker_svc.ordering import Held, StepLimits, StepModel, StepPlan, StepRules, plan_step

SEEDS = range(10)
STEPS_PER_SEED = 2_000


class Blast:
    """One engine under random events, and what must hold after each of them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        draw = self.random
        self.limits = SimulatedLimits(
            step_token_budget=draw.choice([3, 17, 61, 256, 777, 2048]),
            step_seats=draw.choice([1, 3, 8, 16]),
            slots=draw.choice([16, 23, 48]),
            kv_blocks=draw.choice([24, 41, 150]),
            kv_block_tokens=16,
        )
        model = StepModel(
            draw.uniform(0.5, 8.0), draw.uniform(0.01, 0.1), draw.uniform(0.0, 0.2), draw.choice([0, 3e-4])
        )
        self.core = SimulatedCore(self.limits, model)
        self.ranks_come = seed % 5 != 0
        self.now_ms = 0.0
        self.steps = 0
        self.handles = 0
        self.answers: dict[int, int] = {}
        self.made: Counter[int] = Counter()
        self.accepted: Counter[bool] = Counter()
        self.over: Counter[bool] = Counter()
        self.seen: Counter[str] = Counter()
        self.log = hashlib.sha256()

    def run(self, steps: int) -> None:
        while self.steps < steps:
            self.event()
            self.step()
        self.drain()

    def event(self) -> None:
        draw, core = self.random, self.core
        load = len(core.sequences) / (2 * self.limits.slots)
        if draw.random() > load:
            for _ in range(draw.choice([1, 1, 1, 12])):
                self.arrive()
        if self.ranks_come and draw.random() < 0.3:
            named = draw.sample(sorted(core.sequences), draw.randint(0, len(core.sequences)))
            core.set_ranks([*named, 10**6], self.rules() if draw.random() < 0.3 else None)
        if core.sequences and draw.random() < 0.05:
            self.cancel(draw.choice(sorted(core.sequences)))
        if draw.random() < 0.02:
            self.now_ms += draw.uniform(0.0, 3000.0)

    def rules(self) -> StepRules:
        draw = self.random
        return StepRules(
            class_tiers=draw.random() < 0.6,
            step_budget=draw.random() < 0.6,
            displace=draw.random() < 0.6,
            evict=draw.random() < 0.6,
            be_share=draw.choice([0.0, 0.05, 0.5]),
            yield_when_ahead=draw.random() < 0.3,
            max_itl_factor=draw.choice([0.5, 4.0]),
            step_seats=draw.choice([None, None, 1, 5]),
            borrow_tpots=draw.choice([0.0, 3.0]),
        )

    def arrive(self) -> None:
        draw = self.random
        room = self.limits.kv_tokens
        prompt = min(int(2 ** draw.uniform(0, 9)), room - 1)
        answer = min(int(2 ** draw.uniform(0, 7)), room - prompt)
        latency_sensitive = draw.random() < 0.5
        self.handles += 1
        self.core.add(
            self.handles,
            prompt_tokens=prompt,
            answer_tokens=answer,
            latency_sensitive=latency_sensitive,
            arrival_ms=self.now_ms - draw.choice([0.0, 0.0, 700.0]),
            ttft_ms=draw.choice([50.0, 1000.0]),
            tpot_ms=draw.choice([5.0, 50.0]),
            rank=draw.randint(0, 20),
        )
        self.answers[self.handles] = answer
        self.accepted[latency_sensitive] += 1

    def cancel(self, handle: int) -> None:
        self.over[self.core.sequences[handle].latency_sensitive] += 1
        assert self.core.cancel(handle)
        assert not self.core.cancel(handle), "a cancelled sequence is gone"
        del self.answers[handle]
        self.check_memory()

    def step(self) -> None:
        classes = {handle: held.latency_sensitive for handle, held in self.core.sequences.items()}
        result = self.core.step(self.now_ms)
        self.steps += bool(result.plan.quotas)
        self.now_ms += result.step_ms or 1.0
        self.check_tokens(result, classes)
        self.check_memory()
        for latency_sensitive in (True, False):
            live = sum(held.latency_sensitive is latency_sensitive for held in self.core.sequences.values())
            assert self.accepted[latency_sensitive] == live + self.over[latency_sensitive], "I1"
        self.seen.update(kind.value for _, kind in result.changes)
        self.log.update(repr((self.now_ms, result)).encode())

    def check_tokens(self, result: StepResult, classes: dict[int, bool]) -> None:
        """I3: tokens of sequences that were held, one a step, as many as the answer has, none after the end."""
        assert set(result.tokens) <= result.plan.quotas.keys() <= classes.keys(), "I3"
        self.made.update(result.tokens)
        for handle in result.ended:
            assert self.made[handle] == self.answers.pop(handle), "I3: the answer is whole"
            self.over[classes[handle]] += 1
            assert handle not in self.core.sequences
        assert all(self.made[handle] < answer for handle, answer in self.answers.items()), "I3"

    def check_memory(self) -> None:
        """I4, block by block."""
        core, limits = self.core, self.limits
        held = core.sequences.values()
        assert core.free_blocks >= 0, "I4"
        assert sum(sequence.blocks for sequence in held) + core.free_blocks == limits.kv_blocks, "I4"
        assert sum(sequence.resident for sequence in held) == core.residents <= limits.slots
        for sequence in held:
            assert sequence.blocks == blocks_for(sequence.context_tokens, limits.kv_block_tokens), "I4"
            assert sequence.resident or not sequence.blocks, "I4"

    def drain(self) -> None:
        """Without arrivals everything ends, and all memory comes back."""
        for _ in range(400_000):
            if not self.core.sequences:
                break
            self.step()
        assert not self.core.sequences, "everything ends"
        assert self.core.free_blocks == self.limits.kv_blocks, "I4: all come back at the end"
        assert not self.answers


def checked_plan(
    sequences: Sequence[Held],
    limits: StepLimits,
    rules: StepRules,
    model: StepModel,
    now_ms: float,
    share: ShareCredit,
) -> StepPlan:
    before = [copy.copy(held) for held in sequences]
    plan = plan_step(sequences, limits, rules, model, now_ms, share)
    assert list(sequences) == before, "plan_step changes nothing"
    check_plan(plan, before, limits, rules, model, now_ms)
    return plan


@pytest.mark.parametrize("seed", SEEDS)
def test_blast(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    blast = Blast(seed)
    with monkeypatch.context() as patched:
        patched.setattr(simulated_core, "plan_step", checked_plan)
        try:
            blast.run(STEPS_PER_SEED)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, step {blast.steps}: {error}") from error
    again = Blast(seed)
    again.run(STEPS_PER_SEED)
    assert again.log.digest() == blast.log.digest(), f"I9: seed {seed} gave two decision logs"


def test_the_blast_meets_what_it_is_for() -> None:
    seen = sum((_run(seed).seen for seed in range(1, 4)), Counter[str]())
    assert seen.keys() == {kind.value for kind in ChangeKind}
    assert min(seen.values()) > 20, seen


def _run(seed: int) -> Blast:
    blast = Blast(seed)
    blast.run(500)
    return blast
