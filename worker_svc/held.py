"""The ledger of held requests: every token of each, kept until the scheduler releases it, and what is still to be sent.

Nothing is queued for a slow or lost stream. The ledger has all tokens; a mark for each request says how far they were
sent; a message is made from what lies between when the stream can take one. So whatever happens while a write is in
flight joins the next message, and memory is bounded by requests held times context.

Token positions count from the start of the answer: forced tokens come first, so the first new one has the position
`forced_tokens`. After a new Lead, steps may come before the replay that was asked for: a scheduler drops an entry that
leaves a gap (`first_tokens` beyond what it has), and the replay brings it, so neither token nor text is repeated.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from fairlead.v1 import types_pb2, worker_pb2
from worker_svc.engines.base import ChangeKind, EndReason, EngineEnd, StepBatch

MAX_TOKENS_PER_MESSAGE = 32_768
MAX_CHANGES_PER_MESSAGE = 4096
_MAX_DETAIL = 500

_CHANGES = {
    ChangeKind.STARTED: worker_pb2.SEQUENCE_CHANGE_KIND_STARTED,
    ChangeKind.PAUSED: worker_pb2.SEQUENCE_CHANGE_KIND_PAUSED,
    ChangeKind.RESUMED: worker_pb2.SEQUENCE_CHANGE_KIND_RESUMED,
    ChangeKind.EVICTED: worker_pb2.SEQUENCE_CHANGE_KIND_EVICTED,
}
_OUTCOMES = {
    EndReason.STOP: types_pb2.OUTCOME_STOP,
    EndReason.LENGTH: types_pb2.OUTCOME_LENGTH,
    EndReason.FAILED: types_pb2.OUTCOME_FAILED_ENGINE,
}


@dataclass(slots=True)
class HeldRequest:
    """One request on this worker.

    Attributes:
        admit: what the scheduler asked for.
        tokens: new tokens so far, forced ones not among them.
        pieces: the text that came with each token; a text that came with several lies at the last of them.
        sent: how many of `tokens` the present stream has been given.
        late_text: text of tokens that were sent before it was known.
        end: how it ended, if it has.
        end_sent: the present stream knows.
        released: the scheduler has forgotten it; it goes when the engine lets go.
        cancelled_as: the outcome if the engine says that it was cancelled.
    """

    admit: worker_pb2.Admit
    tokens: array[int] = field(default_factory=lambda: array("I"))
    pieces: list[str] = field(default_factory=list[str])
    sent: int = 0
    late_text: str = ""
    end: worker_pb2.ExecutionEnd | None = None
    end_sent: bool = False
    released: bool = False
    cancelled_as: types_pb2.Outcome = types_pb2.OUTCOME_CANCELLED_BY_CLIENT

    @property
    def output_tokens(self) -> int:
        """Length of the answer so far, forced tokens included."""
        return self.admit.forced_tokens + len(self.tokens)

    @property
    def unsent(self) -> bool:
        """The present stream does not know all of it."""
        return self.sent < len(self.tokens) or bool(self.late_text) or (self.end is not None and not self.end_sent)


class Ledger:
    """All requests that this worker holds."""

    def __init__(self) -> None:
        self._held: dict[int, HeldRequest] = {}
        self._ready: dict[int, HeldRequest] = {}
        self._changes: list[tuple[int, ChangeKind]] = []
        self.live = 0
        """Requests that the engine still works on."""
        self.finished = 0
        """Requests that have ended since the start, in whatever way."""
        self.state = StepBatch()
        """The newest figures of the engine; its tokens are of no use here."""

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, handle: int) -> bool:
        return handle in self._held

    def get(self, handle: int) -> HeldRequest | None:
        """The request with this handle, ended ones included."""
        return self._held.get(handle)

    def live_handles(self, handles: Iterable[int] | None = None) -> list[int]:
        """Those of `handles` (None: of all) that the engine still works on; each once, in the order given."""
        chosen = self._held if handles is None else dict.fromkeys(handles)
        return [handle for handle in chosen if handle in self._held and self._held[handle].end is None]

    def add(self, admit: worker_pb2.Admit) -> None:
        """Holds a request from now on; its handle must be free."""
        self._held[admit.handle] = HeldRequest(admit)
        self.live += 1

    def drop(self, handle: int) -> None:
        """Forgets a request that the engine did not take."""
        if self._held[handle].end is None:
            self.live -= 1
        self._forget(handle)

    def record(self, batch: StepBatch) -> None:
        """Enters what a step did."""
        self.state = batch
        for handle, ids in batch.tokens.items():
            held = self._held.get(handle)
            if held is not None and held.end is None and ids:
                held.tokens.extend(ids)
                held.pieces.extend([""] * (len(ids) - 1))
                held.pieces.append(batch.texts.get(handle, ""))
                if len(held.tokens) - held.sent >= held.admit.coalesce_tokens:
                    self._ready[handle] = held
        for handle in batch.texts.keys() - batch.tokens.keys():
            self._record_late_text(handle, batch.texts[handle])
        for handle, kind in batch.changes:
            held = self._held.get(handle)
            if held is not None and not held.released:
                self._ready[handle] = held
                self._changes.append((handle, kind))
        if len(self._changes) > MAX_CHANGES_PER_MESSAGE:
            self._changes = list(dict(self._changes).items())
        for end in batch.ends:
            self._record_end(end)

    def fail_all(self, detail: str) -> None:
        """Ends everything that lives: the engine has died."""
        for handle in self.live_handles():
            self._record_end(EngineEnd(handle, EndReason.FAILED, detail))

    def release(self, handles: Iterable[int]) -> list[int]:
        """Forgets what has ended; returns what the engine must end first."""
        live: list[int] = []
        for handle in dict.fromkeys(handles):
            held = self._held.get(handle)
            if held is None:
                continue
            if held.end is not None:
                self._forget(handle)
            elif not held.released:
                held.released = True
                self._ready.pop(handle, None)
                live.append(handle)
        return live

    def lead(self) -> list[worker_pb2.Held]:
        """All that is held, for a new stream, which is given what happens from now on and asks for the rest."""
        self._ready.clear()
        self._changes.clear()
        entries: list[worker_pb2.Held] = []
        for handle, held in self._held.items():
            if held.released:
                continue
            _all_sent(held)
            entries.append(
                worker_pb2.Held(
                    handle=handle,
                    attempt=held.admit.attempt,
                    request_key=held.admit.request_key,
                    output_tokens=held.output_tokens,
                    outcome=held.end.outcome if held.end else None,
                )
            )
        return entries

    def replayed(self, handle: int, from_token: int) -> worker_pb2.Replayed | None:
        """The answer again from this position; what exceeds one message follows as Steps. None: not held."""
        held = self._held.get(handle)
        if held is None or held.released:
            return None
        forced = held.admit.forced_tokens
        first = min(max(from_token - forced, 0), len(held.tokens))
        last = min(first + MAX_TOKENS_PER_MESSAGE, len(held.tokens))
        complete = last == len(held.tokens)
        self._ready.pop(handle, None)
        if complete:
            _all_sent(held)
        else:
            held.sent, held.late_text, held.end_sent = last, "", False
            self._ready[handle] = held
        return worker_pb2.Replayed(
            handle=handle,
            attempt=held.admit.attempt,
            first_token=forced + first,
            token_ids=held.tokens[first:last],
            text="".join(held.pieces[first:last]),
            end=held.end if complete else None,
        )

    def steps(self) -> worker_pb2.Steps | None:
        """One message of all that is ready to be sent; None if nothing is. What exceeds a message stays ready."""
        if not self._ready and not self._changes:
            return None
        state = self.state
        steps = worker_pb2.Steps(
            step_count=state.step_count,
            step_ms=state.step_ms,
            kv_blocks_used=state.kv_blocks_used,
            running=state.running,
            waiting=state.waiting,
            changes=[worker_pb2.SequenceChange(handle=handle, kind=_CHANGES[kind]) for handle, kind in self._changes],
        )
        self._changes.clear()
        room = MAX_TOKENS_PER_MESSAGE
        left: dict[int, HeldRequest] = {}
        for handle, held in self._ready.items():
            if held.unsent and room > 0:
                room -= _add_entry(steps, held, room)
            if held.unsent:
                left[handle] = held
        self._ready = left
        return steps

    def _record_late_text(self, handle: int, text: str) -> None:
        held = self._held.get(handle)
        if held is None or held.end is not None or not held.pieces or not text:
            return
        held.pieces[-1] += text
        if held.sent == len(held.tokens):
            held.late_text += text
            self._ready[handle] = held

    def _record_end(self, end: EngineEnd) -> None:
        held = self._held.get(end.handle)
        if held is None or held.end is not None:
            return
        self.live -= 1
        self.finished += 1
        held.end = worker_pb2.ExecutionEnd(
            handle=end.handle,
            attempt=held.admit.attempt,
            outcome=_OUTCOMES.get(end.reason, held.cancelled_as),
            detail=end.detail[:_MAX_DETAIL],
            matched_stop=end.matched_stop,
            output_tokens=held.output_tokens,
            cached_prompt_tokens=end.cached_prompt_tokens,
        )
        if held.released:
            self._forget(end.handle)
        else:
            self._ready[end.handle] = held

    def _forget(self, handle: int) -> None:
        del self._held[handle]
        self._ready.pop(handle, None)
        self._changes = [change for change in self._changes if change[0] != handle]


def _all_sent(held: HeldRequest) -> None:
    held.sent, held.late_text, held.end_sent = len(held.tokens), "", held.end is not None


def _add_entry(steps: worker_pb2.Steps, held: HeldRequest, room: int) -> int:
    """Adds what is unsent of one request, at most `room` tokens; returns how many tokens it took."""
    count = min(len(held.tokens) - held.sent, room)
    last = held.sent + count
    if count or held.late_text:
        steps.handles.append(held.admit.handle)
        steps.attempts.append(held.admit.attempt)
        steps.first_tokens.append(held.admit.forced_tokens + held.sent)
        steps.token_counts.append(count)
        steps.token_ids.extend(held.tokens[held.sent : last])
        steps.texts.append(held.late_text + "".join(held.pieces[held.sent : last]))
        held.sent, held.late_text = last, ""
    if held.end is not None and not held.end_sent and last == len(held.tokens):
        steps.ends.append(held.end)
        held.end_sent = True
    return count
