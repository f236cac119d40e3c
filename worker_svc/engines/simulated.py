"""The simulated engine in real time: `SimulatedCore` steps, paced by a clock; no model, no accelerator, no files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import fairlead
from fairlead.config import WorkerConfig
from worker_svc.engines import simulated_text as words
from worker_svc.engines.base import BadPrompt, EndReason, EngineEnd, EngineInfo, EngineRequest, StepBatch, is_whole
from worker_svc.engines.simulated_core import SimulatedCore, SimulatedLimits, StepResult
from worker_svc.ordering import StepModel, StepRules

DEFAULT_CONTEXT_TOKENS = 8192
DEFAULT_KV_TOKENS = 120_000
_ROLES = frozenset({"system", "user", "assistant"})
_RETRY_MS = 5.0
_MAX_DELAY_MS = 100.0


def monotonic_ms() -> float:
    """This host's monotonic clock, ms."""
    return time.monotonic() * 1000


@dataclass(slots=True)
class _Answer:
    """The answer that a sequence will give.

    Attributes:
        key: see `simulated_text.answer_key`.
        next_index: position of the next token in the whole answer, forced tokens counted.
        end: how it ends when its last token is made.
        text_left: characters that may still be sent; a stop text is not part of the answer.
    """

    key: int
    next_index: int
    end: EngineEnd
    text_left: int | None = None


class SimulatedEngine:
    """An engine for tests and rehearsals: real steps, seats, KV and order; made-up words.

    Prompts are counted in words. `temperature` and its like change nothing; `seed`, `max_tokens`, `min_tokens`,
    `ignore_eos`, stop texts and stop ids do what they say. There is no prefix cache.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        now_ms: Callable[[], float] = monotonic_ms,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        blocks = config.kv_blocks or DEFAULT_KV_TOKENS // config.kv_block_tokens
        limits = SimulatedLimits(
            config.step_token_budget, config.step_seats, config.slots, blocks, config.kv_block_tokens
        )
        self._config = config
        self._now_ms = now_ms
        self._sleep = sleep
        self._context = min(config.max_context_tokens or DEFAULT_CONTEXT_TOKENS, limits.kv_tokens)
        self._core = SimulatedCore(limits, StepModel(*config.simulated_step_ms))
        self._answers: dict[int, _Answer] = {}
        self._cancelled: dict[int, None] = {}
        self._whole: list[int] = []
        self._wake = asyncio.Event()
        self._stopped = False

    async def start(self) -> EngineInfo:
        """Ready at once: there is nothing to load."""
        limits = self._core.limits
        return EngineInfo(
            engine="simulated",
            engine_version=fairlead.__version__,
            device="none",
            model=self._config.served_model or self._config.model.rstrip("/").rpartition("/")[2],
            max_context_tokens=self._context,
            slots=limits.slots,
            step_seats=limits.step_seats,
            kv_blocks=limits.kv_blocks,
            kv_block_tokens=limits.kv_block_tokens,
            step_token_budget=limits.step_token_budget,
            vocabulary_tokens=words.VOCABULARY,
        )

    async def stop(self) -> None:
        """Ends `batches` after the step in flight."""
        self._stopped = True
        self._wake.set()

    def tokenize(self, text: str) -> list[int]:
        """One token a word."""
        return words.tokenize(text)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """`<role> content` a line, and the turn of the assistant."""
        lines: list[str] = []
        for index, message in enumerate(messages):
            if message["role"] not in _ROLES:
                raise BadPrompt(f"messages[{index}].role: must be one of {', '.join(sorted(_ROLES))}")
            lines.append(f"<{message['role']}> {message['content']}")
        return "\n".join([*lines, "<assistant>"])

    def tokenize_rendered(self, text: str) -> list[int]:
        """One token a word."""
        return words.tokenize(text)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Words of the ids. Raises BadPrompt for an id outside the vocabulary."""
        self._check_ids(token_ids)
        return words.detokenize(token_ids)

    async def admit(self, request: EngineRequest) -> None:
        """Takes a sequence; its answer is settled here."""
        self._check_ids(request.token_ids)
        if self._is_whole(request):
            self._whole.append(request.handle)
            self._wake.set()
            return
        answer, length = self._answer(request)
        try:
            self._core.add(
                request.handle,
                prompt_tokens=len(request.token_ids),
                answer_tokens=length,
                latency_sensitive=request.latency_sensitive,
                arrival_ms=request.arrival_ms,
                ttft_ms=request.ttft_ms,
                tpot_ms=request.tpot_ms,
                rank=request.rank,
            )
        except ValueError as error:
            raise BadPrompt(str(error)) from None
        self._answers[request.handle] = answer
        self._wake.set()

    async def set_ranks(self, handles: Sequence[int], rules: StepRules | None) -> None:
        """Holds from the next step on."""
        self._core.set_ranks(handles, rules)
        self._wake.set()

    async def cancel(self, handles: Sequence[int]) -> None:
        """Takes effect at the end of the step in flight, as in a real engine."""
        self._cancelled.update((handle, None) for handle in handles if handle in self._answers)
        self._wake.set()

    async def batches(self) -> AsyncIterator[StepBatch]:
        """Runs the steps: the engine advances only while this is read."""
        core = self._core
        due_ms = self._now_ms()
        while not self._stopped:
            self._wake.clear()
            if self._cancelled or self._whole:
                yield self._publish(self._end_early())
                continue
            result = core.step(self._now_ms())
            if not result.plan.quotas:
                if result.changes:
                    yield self._publish(self._batch(result))
                await self._idle()
                due_ms = self._now_ms()
                continue
            # A late wake-up is made good by the next step, up to a bound, so that the pace is the model's.
            due_ms = max(due_ms, self._now_ms() - _MAX_DELAY_MS) + result.step_ms
            await self._sleep(max(0.0, (due_ms - self._now_ms()) / 1000))
            yield self._publish(self._batch(result))

    def step_model(self) -> tuple[StepModel, float | None]:
        """The model itself: there is nothing to fit."""
        return self._core.model, 0.0

    async def _idle(self) -> None:
        """Waits for a command; with sequences held, looks again soon, for a plan may depend on the time."""
        if not self._core.sequences:
            await self._wake.wait()
            return
        await self._sleep(_RETRY_MS / 1000)

    def _check_ids(self, token_ids: Sequence[int]) -> None:
        if any(not 0 <= token < words.VOCABULARY for token in token_ids):
            raise BadPrompt(f"token ids must be below {words.VOCABULARY}, the size of this model's vocabulary")

    def _is_whole(self, request: EngineRequest) -> bool:
        sampling, forced = request.sampling, request.forced_tokens
        if is_whole(request, sampling.stop_token_ids):
            return True
        if not forced or sampling.ignore_eos or sampling.min_tokens:
            return False
        return words.answer_length(self._key(request), self._config.simulated_answer_tokens) <= forced

    def _key(self, request: EngineRequest) -> int:
        prompt = request.token_ids[: len(request.token_ids) - request.forced_tokens]
        seed = request.sampling.seed
        return words.answer_key(prompt, self._config.seed if seed is None else seed)

    def _answer(self, request: EngineRequest) -> tuple[_Answer, int]:
        """The answer and how many new tokens it has."""
        sampling, forced = request.sampling, request.forced_tokens
        key = self._key(request)
        room = min(sampling.max_tokens, self._context - len(request.token_ids))
        natural = words.answer_length(key, self._config.simulated_answer_tokens) - forced
        wanted = room if sampling.ignore_eos else max(natural, sampling.min_tokens, 1)
        if room < 1:
            raise BadPrompt(f"a prompt of {len(request.token_ids)} tokens leaves no room in {self._context} tokens")
        length = min(wanted, room)
        reason = EndReason.STOP if not sampling.ignore_eos and wanted <= room else EndReason.LENGTH
        answer = _Answer(key, forced, EngineEnd(request.handle, reason))
        if sampling.stop or sampling.stop_token_ids:
            length = self._cut(answer, request, length)
        return answer, length

    def _cut(self, answer: _Answer, request: EngineRequest, length: int) -> int:
        """Ends the answer at the first stop id or stop text after `min_tokens`."""
        first, sampling = answer.next_index, request.sampling
        ids = [words.answer_token(answer.key, first + index) for index in range(length)]
        for index in range(sampling.min_tokens, length):
            if ids[index] in sampling.stop_token_ids:
                answer.end = EngineEnd(request.handle, EndReason.STOP)
                length = index + 1
                break
        pieces = [_piece(first + index, ids[index]) for index in range(length)]
        unstoppable = sum(map(len, pieces[: sampling.min_tokens]))
        stopped = words.first_stop("".join(pieces)[unstoppable:], sampling.stop)
        if stopped is None:
            return length
        answer.text_left = unstoppable + stopped[0]
        answer.end = EngineEnd(request.handle, EndReason.STOP, matched_stop=stopped[1])
        ends_at = answer.text_left + len(stopped[1])
        return next(count for count, sent in enumerate(accumulate(map(len, pieces)), 1) if sent >= ends_at)

    def _end_early(self) -> StepBatch:
        batch = StepBatch(ends=[EngineEnd(handle, EndReason.STOP) for handle in self._whole])
        self._whole.clear()
        for handle in self._cancelled:
            if self._core.cancel(handle):
                del self._answers[handle]
                batch.ends.append(EngineEnd(handle, EndReason.CANCELLED))
        self._cancelled.clear()
        return batch

    def _batch(self, result: StepResult) -> StepBatch:
        batch = StepBatch(step_ms=result.step_ms, changes=result.changes)
        answers = self._answers
        for handle in result.tokens:
            answer = answers[handle]
            token = words.answer_token(answer.key, answer.next_index)
            batch.tokens[handle] = [token]
            batch.texts[handle] = _next_text(answer, token)
            answer.next_index += 1
        batch.ends.extend(answers.pop(handle).end for handle in result.ended)
        return batch

    def _publish(self, batch: StepBatch) -> StepBatch:
        core = self._core
        batch.step_count = core.step_count
        batch.kv_blocks_used = core.limits.kv_blocks - core.free_blocks
        batch.running, batch.waiting = core.residents, core.waiting
        return batch


def _piece(index: int, token: int) -> str:
    return words.WORDS[token] if index == 0 else " " + words.WORDS[token]


def _next_text(answer: _Answer, token: int) -> str:
    text = _piece(answer.next_index, token)
    if answer.text_left is None:
        return text
    text = text[: answer.text_left]
    answer.text_left -= len(text)
    return text
