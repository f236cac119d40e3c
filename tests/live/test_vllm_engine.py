"""The engine interface over real vLLM: tokens, text, limits, cancellation, refusals, its own account of steps."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

pytest.importorskip("vllm")

from tests.live.tiny_model import write_tiny_llama
from tests.live.vllm_harness import Harness
from worker_svc.engines.base import BadPrompt, ChangeKind, EndReason, EngineFailed, Sampling
from worker_svc.engines.vllm_engine import VllmEngine
from worker_svc.step_types import StepRules

pytestmark = [pytest.mark.live, pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

BUDGET = 128
GREEDY = Sampling(max_tokens=24, temperature=0.0, ignore_eos=True)
PROMPT = [10, 20, 30, 40, 50]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harness]:
    model = write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny", max_context_tokens=512)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLEAD_CHECK_STEPS", "1")
        harness = await Harness.start(
            model=str(model), slots=16, step_seats=8, step_token_budget=BUDGET, kv_blocks=100, kv_block_tokens=32
        )
    yield harness
    await harness.stop()


async def test_describes_itself(engine: Harness) -> None:
    info = engine.info
    assert (info.engine, info.model, info.max_context_tokens) == ("vllm", "tiny", 512)
    assert (info.slots, info.step_seats, info.step_token_budget) == (16, 8, BUDGET)
    assert (info.kv_blocks, info.kv_block_tokens) == (100, 32)


async def test_text_is_that_of_the_tokens(engine: Harness) -> None:
    seen = await engine.generate(PROMPT, GREEDY)
    assert len(seen.tokens) == 24
    assert seen.end is not None and seen.end.reason is EndReason.LENGTH
    assert seen.text.rstrip("\ufffd") == engine.engine.detokenize(seen.tokens).rstrip("\ufffd")


async def test_tokenizer_and_chat_template(engine: Harness) -> None:
    tokens = engine.engine.tokenize("hello, world")
    assert engine.engine.detokenize(tokens) == "hello, world"
    rendered = engine.engine.render([{"role": "user", "content": "hi"}])
    assert rendered == "<s>user: hi</s><s>assistant: "
    assert engine.engine.tokenize_rendered(rendered)[0] == 1
    with pytest.raises(BadPrompt, match="template"):
        engine.engine.render([{"role": "operator", "content": "hi"}])


async def test_stop_string_ends_and_is_not_part_of_the_text(engine: Harness) -> None:
    whole = await engine.generate(PROMPT, GREEDY)
    stop = next(whole.text[at : at + 2] for at in range(6, len(whole.text) - 2) if whole.text[at : at + 2].isascii())
    seen = await engine.generate(PROMPT, Sampling(max_tokens=24, temperature=0.0, ignore_eos=True, stop=(stop,)))
    assert seen.end is not None
    assert (seen.end.reason, seen.end.matched_stop) == (EndReason.STOP, stop)
    assert seen.text == whole.text[: whole.text.index(stop)]
    assert seen.tokens == whole.tokens[: len(seen.tokens)]
    assert (await engine.idle())["held"] == 0


async def test_stop_token_ends_unless_too_few_tokens_are_out(engine: Harness) -> None:
    whole = await engine.generate(PROMPT, GREEDY)
    at = next(at for at in range(4, 20) if whole.tokens[at] not in whole.tokens[:at])
    stop = (whole.tokens[at],)
    seen = await engine.generate(PROMPT, Sampling(max_tokens=24, temperature=0.0, stop_token_ids=stop, ignore_eos=True))
    assert seen.end is not None
    assert (seen.end.reason, seen.end.matched_stop) == (EndReason.STOP, str(stop[0]))
    assert seen.tokens == whole.tokens[: at + 1]
    later = Sampling(max_tokens=24, min_tokens=at + 2, temperature=0.0, stop_token_ids=stop, ignore_eos=True)
    assert len((await engine.generate(PROMPT, later)).tokens) >= at + 2


async def test_a_forced_prefix_continues_the_answer(engine: Harness) -> None:
    whole = await engine.generate(PROMPT, GREEDY)
    rest = Sampling(max_tokens=14, temperature=0.0, ignore_eos=True)
    seen = await engine.generate(PROMPT + whole.tokens[:10], rest, forced_tokens=10)
    assert seen.tokens == whole.tokens[10:]


async def test_seeds_and_model_defaults(engine: Harness) -> None:
    sampled = Sampling(max_tokens=24, ignore_eos=True, seed=7)
    one, same = await engine.generate(PROMPT, sampled), await engine.generate(PROMPT, sampled)
    assert one.tokens == same.tokens
    greedy = await engine.generate(PROMPT, GREEDY)
    assert one.tokens != greedy.tokens, "the model's own temperature (0.8) was not applied"


async def test_a_prefill_comes_in_chunks_of_the_budget(engine: Harness) -> None:
    prompt = [4 + place % 200 for place in range(400)]
    steps = engine.steps
    seen = await engine.generate(prompt, Sampling(max_tokens=1, temperature=0.0), cache_salt="chunks")
    assert seen.first_step is not None
    assert seen.first_step - steps == math.ceil(len(prompt) / BUDGET)
    again = await engine.generate(prompt, Sampling(max_tokens=1, temperature=0.0), cache_salt="chunks")
    assert again.end is not None and again.end.cached_prompt_tokens == 384
    other = await engine.generate(prompt, Sampling(max_tokens=1, temperature=0.0), cache_salt="another tenant")
    assert other.end is not None and other.end.cached_prompt_tokens == 0


async def test_cancel_frees_the_memory_at_once_and_disturbs_nobody(engine: Harness) -> None:
    alone = await engine.generate(PROMPT, GREEDY)
    long = Sampling(max_tokens=400, temperature=0.0, ignore_eos=True)
    victims = [await engine.admit([5 + place] * 60, long) for place in range(6)]
    bystander = await engine.admit(PROMPT, GREEDY)
    await engine.until(lambda: all(engine.seen[handle].tokens for handle in victims))
    await engine.engine.cancel([*victims, 999_999])
    ends = [seen.end for seen in await engine.ends(*victims)]
    assert {end.reason for end in ends if end is not None} == {EndReason.CANCELLED}
    assert (await engine.ends(bystander))[0].tokens == alone.tokens
    state = await engine.idle()
    assert state["kv_blocks_free"] == state["kv_blocks"]
    assert all(len(engine.seen[handle].tokens) < 400 for handle in victims)


async def test_ranks_decide_who_ends_first(engine: Harness) -> None:
    await engine.engine.set_ranks([], StepRules(displace=True, step_seats=1))
    sampling = Sampling(max_tokens=30, temperature=0.0, ignore_eos=True)
    handles = [await engine.admit([5 + place] * 8, sampling, rank=place) for place in range(4)]
    await engine.engine.set_ranks(handles[::-1], None)
    await engine.ends(*handles)
    await engine.engine.set_ranks([], StepRules(displace=True))
    firsts = {handle: engine.seen[handle].first_step or 0 for handle in handles}
    assert sorted(handles[1:], key=firsts.__getitem__) == handles[:0:-1]
    assert ChangeKind.STARTED in engine.counts()


@pytest.mark.parametrize(
    ("token_ids", "sampling", "message"),
    [
        ([], GREEDY, "empty"),
        ([5] * 512, GREEDY, "longer than the maximum"),
        ([5, 100_000], GREEDY, "vocabulary|out of"),
        (PROMPT, Sampling(max_tokens=8, temperature=math.nan), "temperature"),
        (PROMPT, Sampling(max_tokens=8, temperature=-1.0), "temperature"),
        (PROMPT, Sampling(max_tokens=8, top_p=math.nan), "top_p"),
        (PROMPT, Sampling(max_tokens=8, presence_penalty=math.nan), "presence_penalty"),
        (PROMPT, Sampling(max_tokens=0), "max_tokens"),
        (PROMPT, Sampling(max_tokens=4, min_tokens=5), "min_tokens"),
        (PROMPT, Sampling(max_tokens=4, stop=("",)), "stop"),
    ],
)
async def test_refuses_what_it_cannot_take(
    engine: Harness, token_ids: list[int], sampling: Sampling, message: str
) -> None:
    with pytest.raises(BadPrompt, match=message):
        await engine.admit(token_ids, sampling)
    assert (await engine.idle())["held"] == 0


async def test_learns_its_step_time_and_says_so_once_a_step(engine: Harness) -> None:
    steps, batches = engine.steps, engine.batches
    await engine.ends(*[await engine.admit([5 + place] * 20, GREEDY) for place in range(8)])
    model, error = engine.engine.step_model()
    assert model.step_ms(0, 1, 20) > 0 and min(model.c0_ms, model.c1_ms_per_prefill_token, model.c2_ms_per_decode) >= 0
    assert error is not None and error >= 0
    assert engine.batches - batches <= engine.steps - steps + 2
    state = await engine.idle()
    assert state["violations"] == 0 and state["checked_steps"] > 0
    print(
        f"\nhook {state['hook_ms'] * 1e3:.0f} us, plan {state['plan_ms'] * 1e3:.0f} us a step, fit off by {error:.0%}"
    )


async def test_what_is_missing_is_said_with_a_remedy(tmp_path: Path) -> None:
    from fairlead.config import WorkerConfig

    async def refusal(model: str, **config: object) -> str:
        with pytest.raises(EngineFailed) as failure:
            await VllmEngine(WorkerConfig.model_validate({"model": model, **config})).start()
        return str(failure.value)

    assert "no folder" in await refusal(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    assert "config.json" in await refusal(str(tmp_path / "empty"))
    whole = write_tiny_llama(tmp_path / "whole")
    (whole / "model.safetensors").rename(whole / "elsewhere")
    assert "weights" in await refusal(str(whole))
    (whole / "elsewhere").rename(whole / "model.safetensors")
    assert "step_token_budget" in await refusal(str(whole), step_token_budget=8)
    assert "multiple of 32" in await refusal(str(whole), kv_block_tokens=48)
    assert "kv_blocks" in await refusal(str(whole), kv_blocks=4)
    assert "max_model_len" in await refusal(str(whole), max_context_tokens=1_000_000)


async def test_the_death_of_the_engine_is_told(engine: Harness) -> None:
    """Last in this module: it kills the shared engine."""
    import os
    import signal

    handle = await engine.admit(PROMPT, Sampling(max_tokens=400, temperature=0.0, ignore_eos=True))
    await engine.until(lambda: bool(engine.seen[handle].tokens))
    os.kill(int((await engine.engine.inspect())["pid"]), signal.SIGKILL)
    with pytest.raises(EngineFailed, match="died"):
        await engine.ends(handle)
    with pytest.raises(EngineFailed):
        await engine.admit(PROMPT, GREEDY)
