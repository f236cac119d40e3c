"""The simulated engine: exact KV accounting, chunks, seats and evictions by hand-worked cases; answers that repeat."""

from __future__ import annotations

import pytest

from fairlead.config import WorkerConfig
from worker_svc.engines import simulated_text
from worker_svc.engines.base import BadPrompt, ChangeKind, EndReason, EngineRequest, Sampling, StepBatch
from worker_svc.engines.simulated import SimulatedEngine
from worker_svc.engines.simulated_core import SimulatedCore, SimulatedLimits, StepResult
from worker_svc.ordering import StepModel, StepRules

MODEL = StepModel(6.0, 0.045, 0.05, 0.001)


def make_core(*, budget: int = 100, seats: int = 4, slots: int = 8, blocks: int = 40) -> SimulatedCore:
    return SimulatedCore(SimulatedLimits(budget, seats, slots, blocks, 16), MODEL)


def add(core: SimulatedCore, handle: int, prompt: int, answer: int, *, rank: int = 0, ls: bool = False) -> None:
    core.add(
        handle,
        prompt_tokens=prompt,
        answer_tokens=answer,
        latency_sensitive=ls,
        arrival_ms=0.0,
        ttft_ms=1000.0,
        tpot_ms=50.0,
        rank=rank,
    )


def run(core: SimulatedCore) -> list[StepResult]:
    """Steps until nothing is held."""
    now_ms, results = 0.0, list[StepResult]()
    while core.sequences:
        assert len(results) < 10_000
        results.append(core.step(now_ms))
        now_ms += results[-1].step_ms
    return results


def test_a_prompt_is_computed_in_chunks_and_its_last_chunk_makes_the_first_token() -> None:
    core = make_core(budget=100)
    add(core, 1, prompt=250, answer=3)
    results = run(core)
    assert [result.plan.quotas[1] for result in results] == [100, 100, 50, 1, 1]
    assert [result.tokens for result in results] == [[], [], [1], [1], [1]]
    assert results[-1].ended == [1]
    assert results[0].step_ms == pytest.approx(6.0 + 4.5)
    assert results[1].step_ms == pytest.approx(6.0 + 4.5 + 0.1)
    assert results[3].step_ms == pytest.approx(6.0 + 0.05 + 0.25)


def test_blocks_follow_the_context_and_come_back() -> None:
    core = make_core()
    add(core, 1, prompt=16, answer=18)
    used = list[int]()
    now_ms = 0.0
    while core.sequences:
        now_ms += core.step(now_ms).step_ms
        used.append(40 - core.free_blocks)
    assert used == [1] + [2] * 16 + [0]


def test_a_better_rank_takes_the_seat_and_the_other_keeps_its_kv() -> None:
    core = make_core(seats=1)
    core.set_ranks([], StepRules(displace=True))
    add(core, 1, prompt=30, answer=5, rank=1)
    core.step(0.0)
    add(core, 2, prompt=30, answer=2, rank=0)
    result = core.step(10.0)
    assert result.plan.quotas == {2: 30}
    assert result.changes == [(1, ChangeKind.PAUSED), (2, ChangeKind.STARTED)]
    assert core.sequences[1].blocks == 2
    core.step(20.0)
    assert core.step(30.0).changes == [(1, ChangeKind.RESUMED)]


def test_where_kv_is_short_the_worst_rank_is_evicted_and_computes_all_again() -> None:
    core = make_core(blocks=4)
    add(core, 1, prompt=16, answer=40, rank=0)
    add(core, 2, prompt=16, answer=40, rank=1)
    results = run(core)
    evicted = [change for result in results for change in result.changes if change[1] is ChangeKind.EVICTED]
    assert [handle for handle, _ in evicted] == [2]
    assert sum(result.tokens.count(1) for result in results) == 40
    assert sum(result.tokens.count(2) for result in results) == 40
    computed_again = sum(result.plan.quotas.get(2, 0) for result in results) - (16 + 39)
    assert computed_again == 32, "what it had computed when it was evicted"
    assert core.free_blocks == 4


def test_cancelling_frees_at_once() -> None:
    core = make_core()
    add(core, 1, prompt=90, answer=5)
    core.step(0.0)
    assert core.cancel(1)
    assert (core.free_blocks, core.residents, core.waiting) == (40, 0, 0)
    assert core.step(10.0).plan.quotas == {}
    assert not core.cancel(1)


def test_sequences_that_ranks_do_not_name_keep_their_order_behind() -> None:
    core = make_core()
    for handle, rank in ((1, 5), (2, 3), (3, 9), (4, 1)):
        add(core, handle, 10, 10, rank=rank)
    core.set_ranks([3, 77, 1, 3])
    assert sorted(core.sequences, key=lambda handle: core.sequences[handle].rank) == [3, 1, 4, 2]


@pytest.mark.parametrize(("prompt", "answer"), [(0, 1), (1, 0), (600, 41)])
def test_what_could_never_finish_is_refused(prompt: int, answer: int) -> None:
    with pytest.raises(ValueError, match="token"):
        add(make_core(), 1, prompt, answer)


def test_a_held_handle_is_refused() -> None:
    core = make_core()
    add(core, 1, 10, 10)
    with pytest.raises(ValueError, match="held already"):
        add(core, 1, 10, 10)


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.ms = 0.0

    def now_ms(self) -> float:
        return self.ms

    async def sleep(self, seconds: float) -> None:
        self.ms += seconds * 1000


def request(handle: int, prompt: list[int], forced: list[int] | None = None, **sampling: object) -> EngineRequest:
    forced = forced or []
    return EngineRequest(
        handle=handle,
        token_ids=[*prompt, *forced],
        forced_tokens=len(forced),
        sampling=Sampling(**{"max_tokens": 500, **sampling}),  # pyright: ignore[reportArgumentType]
        latency_sensitive=True,
        arrival_ms=0.0,
        ttft_ms=1000.0,
        tpot_ms=50.0,
        rank=0,
        cache_salt="",
    )


async def answers(*requests: EngineRequest, seats: int = 16) -> tuple[dict[int, list[int]], dict[int, str], StepBatch]:
    """Ids and texts of all requests, run at once, and one batch with all ends."""
    clock = Clock()
    config = WorkerConfig(engine="simulated", step_seats=seats, max_context_tokens=1000)
    engine = SimulatedEngine(config, now_ms=clock.now_ms, sleep=clock.sleep)
    await engine.start()
    for item in requests:
        await engine.admit(item)
    ids: dict[int, list[int]] = {item.handle: [] for item in requests}
    texts = dict.fromkeys(ids, "")
    whole = StepBatch()
    async for batch in engine.batches():
        for handle, new in batch.tokens.items():
            ids[handle] += new
            texts[handle] += batch.texts[handle]
        whole.ends += batch.ends
        if len(whole.ends) == len(requests):
            break
    assert batch.kv_blocks_used == batch.running == batch.waiting == 0
    return ids, texts, whole


async def test_answers_do_not_depend_on_who_else_runs() -> None:
    alone, text, _ = await answers(request(1, [5, 6, 7]))
    crowd, texts, _ = await answers(*(request(handle, [5, 6, handle + 6]) for handle in range(1, 30)), seats=3)
    assert crowd[1] == alone[1]
    assert texts[1] == text[1] == simulated_text.detokenize(alone[1])
    assert len({len(ids) for ids in crowd.values()}) > 10, "lengths vary"


async def test_an_answer_goes_on_from_forced_tokens_as_it_would_have() -> None:
    whole, _, _ = await answers(request(1, [5, 6, 7]))
    assert len(whole[1]) > 10
    rest, _, _ = await answers(request(1, [5, 6, 7], forced=whole[1][:10]))
    assert whole[1] == whole[1][:10] + rest[1]


async def test_sampling_that_bounds_an_answer() -> None:
    whole, _, _ = await answers(request(1, [5, 6, 7]))
    word = simulated_text.WORDS[whole[1][6]]
    ids, texts, batch = await answers(
        request(1, [5, 6, 7], max_tokens=4),
        request(2, [5, 6, 7], max_tokens=400, ignore_eos=True),
        request(3, [5, 6, 7], stop_token_ids=(whole[1][6],)),
        request(4, [5, 6, 7], stop=(word[2:],)),
        request(5, [5, 6, 7], seed=1),
    )
    assert [len(ids[handle]) for handle in (1, 2, 3)] == [4, 400, whole[1].index(whole[1][6]) + 1]
    assert word[2:] not in texts[4]
    ends = {end.handle: end for end in batch.ends}
    assert [ends[handle].reason for handle in (1, 2, 3, 4)] == [EndReason.LENGTH] * 2 + [EndReason.STOP] * 2
    assert ends[4].matched_stop == word[2:]
    assert ids[5][:4] != ids[1]


@pytest.mark.parametrize("prompt", [[10**6], [1] * 1000])
async def test_prompts_that_do_not_fit(prompt: list[int]) -> None:
    with pytest.raises(BadPrompt):
        await answers(request(1, prompt))


def test_words_are_tokens_and_back() -> None:
    ids = simulated_text.tokenize("bakago is a word and so is zilulu")
    assert len(ids) == 8
    assert simulated_text.tokenize(simulated_text.detokenize(ids)) == ids


def test_a_median_answer_is_as_long_as_asked() -> None:
    lengths = sorted(simulated_text.answer_length(key, 128) for key in range(2001))
    assert 118 < lengths[1000] < 138
    assert lengths[0] >= 1
