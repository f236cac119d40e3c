"""Front end: vLLM's outputs, one message a step, become one `StepBatch` for all sequences.

vLLM's own path wakes one asyncio generator a sequence and step; here one pass over the message detokenizes (with
vLLM's incremental detokenizer, which also finds stop strings) and fills the batch. What the reader has not taken yet
grows by the next step, so nothing queues up behind a slow reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from vllm.tokenizers import TokenizerLike
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.detokenizer import IncrementalDetokenizer

from worker_svc.engines.base import EndReason, EngineEnd, EngineFailed, StepBatch
from worker_svc.engines.vllm_wire import StepRecord
from worker_svc.step_time import START_MODEL
from worker_svc.step_types import StepModel

_REASONS = {
    FinishReason.STOP: EndReason.STOP,
    FinishReason.LENGTH: EndReason.LENGTH,
    FinishReason.REPETITION: EndReason.STOP,
}


@dataclass(slots=True)
class Live:
    """One sequence in the engine: its handle, vLLM's id and what is needed to read its tokens."""

    handle: int
    request_id: str
    detokenizer: IncrementalDetokenizer
    cached_prompt_tokens: int = 0


class Streams:
    """Every live sequence and the batch that waits for its reader."""

    def __init__(self) -> None:
        self.model: StepModel = START_MODEL
        self.relative_error: float | None = None
        self._by_handle: dict[int, Live] = {}
        self._by_id: dict[str, Live] = {}
        self._batch: StepBatch | None = None
        self._ready = asyncio.Event()
        self._failure: EngineFailed | None = None
        self._closed = False

    def __contains__(self, handle: int) -> bool:
        return handle in self._by_handle

    def open(self, handle: int, request: EngineCoreRequest, tokenizer: TokenizerLike) -> None:
        """A new sequence; its tokens count from here."""
        live = Live(handle, request.request_id, IncrementalDetokenizer.from_new_request(tokenizer, request))
        self._by_handle[handle] = self._by_id[request.request_id] = live

    def drop(self, handle: int) -> None:
        """Forgets a sequence that never reached the engine."""
        live = self._by_handle.pop(handle, None)
        if live is not None:
            del self._by_id[live.request_id]

    def end_whole(self, handle: int) -> None:
        """A sequence whose answer was complete before it came: only the word of its end had been lost."""
        self._open_batch().ends.append(EngineEnd(handle, EndReason.STOP))
        self._ready.set()

    def cancel(self, handles: Iterable[int]) -> list[str]:
        """Ends these as cancelled; returns vLLM's ids of those that were live."""
        ended = [live for handle in handles if (live := self._by_handle.get(handle)) is not None]
        for live in ended:
            self._end(live, EndReason.CANCELLED)
        return [live.request_id for live in ended]

    def take_message(self, message: EngineCoreOutputs) -> list[str]:
        """Reads one step's message; returns vLLM's ids of those that vLLM must still be told to end."""
        batch = self._open_batch()
        to_abort: list[str] = []
        for output in message.outputs:
            live = self._by_id.get(output.request_id)
            if live is not None and not self._take_output(batch, live, output):
                to_abort.append(live.request_id)
        stats = message.scheduler_stats
        record = StepRecord.unpacked(stats.kv_connector_stats) if stats is not None else None
        if record is not None:
            self._take_record(batch, record)
        self._ready.set()
        return to_abort

    def fail(self, failure: EngineFailed) -> None:
        """The engine is gone: the reader learns it after what was still delivered."""
        self._failure = self._failure or failure
        self._ready.set()

    def close(self) -> None:
        """No more batches."""
        self._closed = True
        self._ready.set()

    async def next_batch(self) -> StepBatch | None:
        """What happened since the last call, as soon as anything did; None after `close`. Raises EngineFailed."""
        await self._ready.wait()
        batch, self._batch = self._batch, None
        if batch is not None:
            if self._failure is None and not self._closed:
                self._ready.clear()
            return batch
        if self._failure is not None:
            raise self._failure
        return None

    def _open_batch(self) -> StepBatch:
        if self._batch is None:
            self._batch = StepBatch()
        return self._batch

    def _take_output(self, batch: StepBatch, live: Live, output: EngineCoreOutput) -> bool:
        """One sequence's part of a step; False where it ends here and vLLM does not know it yet."""
        tokens, finish = output.new_token_ids, output.finish_reason
        if output.prefill_stats is not None:
            live.cached_prompt_tokens = output.prefill_stats.num_cached_tokens
        detokenizer = live.detokenizer
        before = detokenizer.num_output_tokens()
        try:
            stop_string = detokenizer.update(tokens, finish is FinishReason.STOP)
            ended = stop_string is not None or finish is not None
            text = detokenizer.get_next_output_text(finished=ended, delta=True)
        except Exception as error:  # one bad sequence must not end the others
            self._end(live, EndReason.FAILED, f"detokenizing failed: {error}")
            return finish is not None
        kept = tokens[: detokenizer.num_output_tokens() - before]
        if kept:
            batch.tokens.setdefault(live.handle, []).extend(kept)
        if text:
            batch.texts[live.handle] = batch.texts.get(live.handle, "") + text
        if not ended:
            return True
        if stop_string is not None:
            self._end(live, EndReason.STOP, matched=stop_string)
        elif finish is FinishReason.ABORT:
            self._end(live, EndReason.FAILED, "the engine aborted it")
        elif finish is not None:
            reason = _REASONS.get(finish, EndReason.FAILED)
            matched = None if output.stop_reason is None else str(output.stop_reason)
            self._end(live, reason, "" if finish in _REASONS else "the engine reported an error", matched)
        return finish is not None

    def _take_record(self, batch: StepBatch, record: StepRecord) -> None:
        batch.step_count, batch.step_ms = record.step_count, record.step_ms
        batch.kv_blocks_used = record.kv_blocks_used
        batch.running, batch.waiting = record.running, record.waiting
        batch.changes.extend(record.changes)
        if record.model is not None:
            self.model, self.relative_error = record.model, record.relative_error
        if record.violations:
            self.fail(EngineFailed("the engine broke an invariant: " + "; ".join(record.violations)))

    def _end(self, live: Live, reason: EndReason, detail: str = "", matched: str | None = None) -> None:
        del self._by_handle[live.handle], self._by_id[live.request_id]
        end = EngineEnd(live.handle, reason, detail, matched, live.cached_prompt_tokens)
        self._open_batch().ends.append(end)
        self._ready.set()
