"""Steps of real vLLM: batches of known sequences, each step's work reckoned from the tokens that came out of it."""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass

from bench.step_profile.fit import Step
from fairlead.cli.cores import plan_cpus
from fairlead.config import WorkerConfig
from worker_svc.engines.base import EngineInfo, EngineRequest, Sampling
from worker_svc.engines.vllm_engine import VllmEngine

CELLS = ((1, 16), (1, 256), (1, 800), (4, 64), (4, 480), (12, 32), (12, 160), (32, 16), (32, 60), (48, 24), (48, 40))
"""(sequences, prompt tokens of each): all prompts of a cell fit into one step of 2,048 tokens."""
WITHIN_S = 60.0


@dataclass
class _Held:
    prompt_tokens: int
    output_tokens: int = 0


async def measure_engine(
    model: str, *, slots: int, tokens: int, repetitions: int, seed: int
) -> tuple[list[Step], EngineInfo]:
    """Steps of vLLM with `model` in an engine of its own, on a CPU by itself where there are two.

    Args:
        model: `demo`, a folder, or a Hugging Face id.
        slots: of the engine, seats too.
        tokens: that each sequence makes.
        repetitions: of each cell; one more before, which is not counted.
        seed: of the prompts.

    Raises:
        EngineFailed: with what helps.
    """
    cpus = plan_cpus("vllm", 1)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before - set(cpus[0] if cpus else ()))
    engine = VllmEngine(WorkerConfig(model=model, slots=slots, step_seats=slots, engine_cpus=cpus[0] if cpus else None))
    try:
        info = await engine.start()
        reader = _Reader(engine, random.Random(seed))
        found: list[Step] = []
        for repetition in range(repetitions + 1):
            for sequences, prompt_tokens in CELLS:
                if sequences <= slots and prompt_tokens + tokens < info.max_context_tokens:
                    steps = await reader.cell(sequences, prompt_tokens, tokens)
                    found += steps if repetition else []
        return found, info
    finally:
        await engine.stop()
        os.sched_setaffinity(0, before)


class _Reader:
    def __init__(self, engine: VllmEngine, rng: random.Random) -> None:
        self._engine, self._rng = engine, rng
        self._batches = engine.batches()
        self._next_handle, self._count = 1, 0

    async def cell(self, sequences: int, prompt_tokens: int, tokens: int) -> list[Step]:
        """Runs so many alike to their end; its steps, but for those that were told together."""
        held: dict[int, _Held] = {}
        for place in range(sequences):
            handle, self._next_handle = self._next_handle, self._next_handle + 1
            held[handle] = _Held(prompt_tokens)
            await self._engine.admit(
                EngineRequest(
                    handle=handle,
                    token_ids=[self._rng.randrange(64, 1600) for _ in range(prompt_tokens)],
                    forced_tokens=0,
                    sampling=Sampling(max_tokens=tokens, ignore_eos=True),
                    latency_sensitive=False,
                    arrival_ms=time.monotonic() * 1e3,
                    ttft_ms=1000.0,
                    tpot_ms=500.0,
                    rank=place,
                    cache_salt=str(handle),
                )
            )
        steps: list[Step] = []
        async with asyncio.timeout(WITHIN_S):
            while held:
                batch = await anext(self._batches)
                alone, self._count = batch.step_count == self._count + 1, batch.step_count
                step = _step_of(held, {handle: len(ids) for handle, ids in batch.tokens.items()}, batch.step_ms)
                if alone and step is not None:
                    steps.append(step)
                for end in batch.ends:
                    held.pop(end.handle, None)
        return steps


def _step_of(held: dict[int, _Held], tokens: dict[int, int], ms: float) -> Step | None:
    """The work of a step from the tokens that it made; None where somebody made more than one, or nobody any."""
    prefill = decodes = context = 0
    single = True
    for handle, count in tokens.items():
        sequence = held[handle]
        single &= count == 1
        if sequence.output_tokens == 0:
            prefill += sequence.prompt_tokens
        else:
            decodes += 1
            context += sequence.prompt_tokens + sequence.output_tokens - 1
        sequence.output_tokens += count
    return Step(prefill, decodes, context, ms) if tokens and single else None
