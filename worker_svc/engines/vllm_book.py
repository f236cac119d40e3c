"""The requests in EngineCore as `plan_step` wants to see them; kept up to date, never rebuilt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vllm.v1.request import Request, RequestStatus

from worker_svc.engines.vllm_wire import RequestNote
from worker_svc.step_types import Held
from worker_svc.whole_steps import Decodes

_BLOCKED = (
    RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR,
    RequestStatus.WAITING_FOR_REMOTE_KVS,
    RequestStatus.WAITING_FOR_STREAMING_REQ,
)


@dataclass(slots=True, eq=False)
class Entry:
    """One request: vLLM's object and our view of it.

    Attributes:
        last_context_tokens: context at which it ends for want of tokens.
        ever_scheduled: tells a start from a resumption.
    """

    request: Request
    held: Held
    last_context_tokens: int
    ever_scheduled: bool = False


class Book:
    """Every request that EngineCore holds, by handle and by vLLM's id.

    Args:
        block_tokens: tokens in a KV block.
        max_model_len: longest sequence, tokens.
    """

    def __init__(self, block_tokens: int, max_model_len: int) -> None:
        self.by_handle: dict[int, Entry] = {}
        self.requests: dict[int, Request] = {}
        self.by_id: dict[str, Entry] = {}
        self._block_tokens = block_tokens
        self._max_model_len = max_model_len
        self._stale: set[Entry] = set()
        self._tokenless: set[Entry] = set()
        # What `decodes` tells: who is no plain decode, the class and targets of all, and their context.
        self._others: set[Entry] = set()
        self._tpots_ms: Counter[float] = Counter()
        self._context_tokens = 0

    def add(self, request: Request) -> Entry:
        """A new request, with the note that came along."""
        params = request.sampling_params
        note = RequestNote.unpacked((params.extra_args if params else None) or {})
        held = Held(
            handle=note.handle,
            rank=note.rank,
            latency_sensitive=note.latency_sensitive,
            resident=False,
            seated=False,
            left_tokens=request.num_tokens,
            context_tokens=0,
            output_tokens=0,
            decoding=False,
            arrival_ms=note.arrival_ms,
            first_token_ms=None,
            ttft_ms=note.ttft_ms,
            tpot_ms=note.tpot_ms,
            blocks=0,
        )
        entry = Entry(request, held, min(request.num_prompt_tokens + request.max_tokens, self._max_model_len))
        self.by_handle[note.handle] = self.by_id[request.request_id] = entry
        self.requests[note.handle] = request
        self._tokenless.add(entry)
        self._stale.add(entry)
        self._others.add(entry)
        if note.latency_sensitive:
            self._tpots_ms[note.tpot_ms] += 1
        return entry

    def forget(self, request_id: str) -> Entry | None:
        """The request has ended."""
        entry = self.by_id.pop(request_id, None)
        if entry is not None:
            held = entry.held
            self._stale.discard(entry)
            self._tokenless.discard(entry)
            self._others.discard(entry)
            self._context_tokens -= held.context_tokens
            if held.latency_sensitive:
                self._tpots_ms[held.tpot_ms] -= 1
                if not self._tpots_ms[held.tpot_ms]:
                    del self._tpots_ms[held.tpot_ms]
            if self.by_handle.get(held.handle) is entry:
                del self.by_handle[held.handle], self.requests[held.handle]
        return entry

    def touch(self, request_ids: Iterable[str]) -> None:
        """To be looked at again before the next plan."""
        self._stale.update(self.by_id[request_id] for request_id in request_ids)

    def advance(self, scheduled: Mapping[str, int]) -> tuple[int, int, int]:
        """These take part in a step with so many tokens; returns its prefill tokens, decodes and context tokens.

        A decode's next state is known without asking vLLM, and decodes are nearly all of a step.
        """
        by_id, block_tokens = self.by_id, self._block_tokens
        prefill = decodes = context = grown = 0
        for request_id, tokens in scheduled.items():
            entry = by_id[request_id]
            held = entry.held
            before = held.context_tokens
            context += before
            if tokens == 1 and held.decoding and before + 3 < entry.last_context_tokens:
                grown += 1
                held.context_tokens = before + 1
                held.output_tokens += 1
                if before % block_tokens == 0:
                    held.blocks += 1
            else:
                if held.decoding:
                    decodes += 1
                else:
                    prefill += tokens
                self._stale.add(entry)
        self._context_tokens += grown
        return prefill, decodes + grown, context

    def decodes(self) -> Decodes | None:
        """All that is held, where that is nothing but resident decodes with one token to compute; else None."""
        if self._others or not self.by_id:
            return None
        latency_sensitive = self._tpots_ms.total()
        return Decodes(
            latency_sensitive,
            len(self.by_id) - latency_sensitive,
            self._context_tokens,
            min(self._tpots_ms, default=math.inf),
        )

    def refresh(self) -> None:
        """Brings what was touched up to date."""
        again: set[Entry] = set()
        for entry in self._stale:
            held, before = entry.held, entry.held.context_tokens
            if not self._read(entry):
                again.add(entry)
            self._context_tokens += held.context_tokens - before
            if held.resident and held.decoding and held.left_tokens == 1 and held.admissible:
                self._others.discard(entry)
            else:
                self._others.add(entry)
        self._stale = again

    def note_first_tokens(self, now_ms: float) -> None:
        """Sets the time of those whose first token has just been made."""
        if not self._tokenless:
            return
        for entry in [entry for entry in self._tokenless if entry.request.num_output_tokens > 0]:
            entry.held.first_token_ms = now_ms
            self._tokenless.discard(entry)

    def set_order(self, handles: Sequence[int]) -> None:
        """Ranks by place in `handles`; those not named keep their order behind these."""
        named = {handle: place for place, handle in enumerate(handles)}
        others = sorted(
            (entry.held for handle, entry in self.by_handle.items() if handle not in named),
            key=lambda held: (held.rank, held.arrival_ms),
        )
        for handle, place in named.items():
            if (entry := self.by_handle.get(handle)) is not None:
                entry.held.rank = place
        for place, held in enumerate(others, len(named)):
            held.rank = place

    def is_current(self, entry: Entry) -> bool:
        """Our view of it is meant to be exact; not so between being scheduled in bulk and the next plan."""
        return entry not in self._stale

    def is_ending(self, entry: Entry) -> bool:
        """Async scheduling: its last token is in flight, vLLM will not schedule it again."""
        placeholders = entry.request.num_output_placeholders
        return placeholders > 0 and entry.request.num_computed_tokens + 2 - placeholders >= entry.last_context_tokens

    def _read(self, entry: Entry) -> bool:
        """Copies the request's state; False where it must be read again though nothing was scheduled."""
        request, held = entry.request, entry.held
        computed = request.num_computed_tokens
        placeholders = request.num_output_placeholders
        drafts = len(request.spec_token_ids)
        total = request.num_tokens + placeholders
        held.context_tokens = computed
        held.output_tokens = total - request.num_prompt_tokens
        held.left_tokens = total + drafts - computed
        held.decoding = held.output_tokens > 0 and total - computed <= 1
        held.blocks = -(-computed // self._block_tokens)
        held.resident = request.status == RequestStatus.RUNNING
        if held.resident:
            held.admissible = not self.is_ending(entry)
            return held.admissible
        in_flight = request.num_stale_output_tokens > 0 and not request.drop_stale_output
        held.admissible = not in_flight and request.status not in _BLOCKED
        return held.admissible
