"""What one worker runs for this scheduler: decisions become commands, its steps become tokens and events.

A worker's stream may break and come back. What was placed there stays placed for a while; on the next stream the
worker tells what it holds, and each answer is replayed from the start of its placement. So what was already delivered
is recognised by its position, in tokens and in characters, and nothing is delivered twice or left out: text that the
worker sent after its tokens is in the replay as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairlead.v1 import types_pb2, worker_pb2
from scheduler_svc.core.types import (
    Assign,
    AssignRefused,
    CancelOn,
    Change,
    ExecutionEnded,
    Outcome,
    Reorder,
    Rules,
    Stepped,
)
from scheduler_svc.outbox import Outbox
from scheduler_svc.requests import Request
from scheduler_svc.shell import Shell
from scheduler_svc.wire import CHANGE_FROM_WIRE, OUTCOME_FROM_WIRE, class_to_wire, refusal_from_wire

BE_COALESCE_TOKENS = 8
"""BE tokens travel in groups of at most this many: nobody watches them one by one."""


@dataclass(slots=True, eq=False)
class Execution:
    """One placement of a request on this worker.

    Attributes:
        attempt: of the core.
        forced_tokens: tokens of the answer that were out before.
        rank: place in the order at first.
        have_token, have_char: position up to which the answer was delivered: tokens of the whole answer, characters
            of this placement.
        at_token, at_char: position of the worker's stream; behind the other in a replay.
        replaying: a replay was asked for; what comes before it is of no use.
        cancelled: the core wants it ended.
        latency_sensitive: the class that it is served in.
    """

    request: Request
    attempt: int
    forced_tokens: int
    rank: int
    have_token: int
    at_token: int
    have_char: int = 0
    at_char: int = 0
    replaying: bool = False
    cancelled: bool = False
    latency_sensitive: bool = False


class Executions:
    """The requests on one incarnation of a worker; the shell's `Worker`.

    Args:
        name: the core's name of the incarnation.
        worker_id: the worker's own name.
        shell: takes tokens and events.
        outbox: commands of the present stream.

    Attributes:
        steps, step_ms, kv_blocks_used: the worker's newest figures.
    """

    def __init__(self, name: str, worker_id: str, shell: Shell, outbox: Outbox) -> None:
        self.name = name
        self.steps = 0
        self.step_ms = 0.0
        self.kv_blocks_used = 0
        self._worker_id = worker_id
        self._shell = shell
        self._outbox = outbox
        self._running: dict[int, Execution] = {}
        self._leftover: set[int] = set()
        self._order: tuple[int, ...] = ()
        self._rules: Rules | None = None

    @property
    def leftover(self) -> int:
        """Requests of an earlier placement that the worker still has to let go of."""
        return len(self._leftover)

    # -- decisions of the core

    def assign(self, request: Request, decision: Assign) -> None:
        """Gives the worker a request."""
        out = len(request.answer)
        request.worker_id = self._worker_id
        execution = Execution(
            request, decision.attempt, out, decision.rank, have_token=out, at_token=out,
            latency_sensitive=request.latency_sensitive and not decision.best_effort,
        )  # fmt: skip
        self._running[request.handle] = execution
        self._shell.telemetry.placed(request, decision.attempt, self._worker_id)
        self._outbox.put(self._admit(execution))

    def reorder(self, decision: Reorder) -> None:
        """Gives the worker its order."""
        self._order = decision.job_ids
        self._rules = decision.rules or self._rules
        self._outbox.order(decision.job_ids, decision.rules)

    def cancel(self, decision: CancelOn) -> None:
        """Ends a request on the worker."""
        execution = self._running.get(decision.job_id)
        if execution is not None and execution.attempt == decision.attempt:
            execution.cancelled = True
            self._outbox.cancel([decision.job_id])

    # -- the stream's beginnings

    def resume(self, held: Iterable[worker_pb2.Held], outbox: Outbox) -> None:
        """A new stream to the same incarnation: asks for all that was missed, and sends again what did not arrive."""
        self._outbox = outbox
        there = {one.handle: one for one in held}
        self._let_go(one for one in there.values() if not self._is_ours(one))
        for handle, execution in list(self._running.items()):
            if handle in there and self._is_ours(there[handle]):
                if execution.cancelled:
                    outbox.cancel([handle])
                self._ask_replay(execution)
            elif execution.cancelled:
                self._gone(execution, Outcome.CANCELLED_BY_CLIENT, "")
            else:
                outbox.put(self._admit(execution))
        outbox.order(self._order, self._rules)

    def clear_out(self, held: Iterable[worker_pb2.Held]) -> None:
        """A worker that is new to the core but holds requests of an earlier time: it is to let them go."""
        self._let_go(held)

    def _is_ours(self, held: worker_pb2.Held) -> bool:
        execution = self._running.get(held.handle)
        return execution is not None and execution.attempt == held.attempt

    def _let_go(self, held: Iterable[worker_pb2.Held]) -> None:
        for one in held:
            if one.HasField("outcome"):
                self._outbox.release(one.handle)
            else:
                self._leftover.add(one.handle)
                self._outbox.cancel([one.handle])

    # -- what the worker tells

    def take_steps(self, steps: worker_pb2.Steps) -> None:
        """Tokens, changes and ends since the last message. Raises ValueError where its arrays do not fit together."""
        self.steps, self.step_ms, self.kv_blocks_used = steps.step_count, steps.step_ms, steps.kv_blocks_used
        tokens: list[tuple[int, int, int]] = []
        ids, running, deliver = steps.token_ids[:], self._running, self._shell.deliver
        end = 0
        entries = zip(steps.handles, steps.attempts, steps.first_tokens, steps.token_counts, steps.texts, strict=True)
        for handle, attempt, first, count, text in entries:
            begin, end = end, end + count
            execution = running.get(handle)
            if execution is None or execution.attempt != attempt or execution.replaying:
                continue
            at_token = execution.at_token
            if first != at_token:
                self._ask_replay(execution)
            elif count and at_token == execution.have_token and execution.at_char == execution.have_char:
                # Nearly always: nothing of it was delivered before. What `_advance` does is written out here, since a
                # step of many sequences has but a few microseconds for each.
                execution.at_token = execution.have_token = at_token + count
                execution.at_char = execution.have_char = execution.at_char + len(text)
                deliver(execution.request, ids[begin:end], text)
                tokens.append((handle, attempt, count))
            elif new := self._advance(execution, ids[begin:end], text):
                tokens.append((handle, attempt, new))
        changes = self._changes(steps.changes) if steps.changes else ()
        if tokens or changes:
            self._shell.handle(Stepped(self.name, tuple(tokens), changes))
        for ended in steps.ends:
            self._take_end(ended)

    def take_replay(self, replayed: worker_pb2.Replayed) -> None:
        """An answer from the start of its placement."""
        execution = self._running.get(replayed.handle)
        if execution is None:
            return
        if replayed.attempt == 0:
            self._gone(execution, Outcome.FAILED_WORKER_LOST, "its worker no longer held it")
            return
        if replayed.attempt != execution.attempt or not execution.replaying:
            return
        execution.replaying = False
        execution.at_token, execution.at_char = replayed.first_token, 0
        new = self._advance(execution, replayed.token_ids, replayed.text)
        if new:
            self._shell.handle(Stepped(self.name, ((replayed.handle, execution.attempt, new),)))
        if replayed.HasField("end"):
            self._take_end(replayed.end)

    def take_refusal(self, refused: worker_pb2.AdmitRefused) -> None:
        """The worker did not take a request."""
        execution = self._running.get(refused.handle)
        if execution is None or execution.attempt != refused.attempt:
            return
        del self._running[refused.handle]
        reason = refusal_from_wire(refused.reason)
        self._shell.handle(AssignRefused(self.name, refused.handle, refused.attempt, reason, refused.detail))

    def _advance(self, execution: Execution, token_ids: Sequence[int], text: str) -> int:
        """Moves along the worker's stream; delivers what is new and returns how many tokens that is."""
        execution.at_token += len(token_ids)
        execution.at_char += len(text)
        new_tokens = execution.at_token - execution.have_token
        new_chars = execution.at_char - execution.have_char
        if new_tokens < len(token_ids):
            token_ids = token_ids[len(token_ids) - max(new_tokens, 0) :]
        if new_chars < len(text):
            text = text[len(text) - max(new_chars, 0) :]
        if new_tokens > 0:
            execution.have_token = execution.at_token
        if new_chars > 0:
            execution.have_char = execution.at_char
        if token_ids or text:
            self._shell.deliver(execution.request, token_ids, text)
        return len(token_ids)

    def _changes(self, changes: Iterable[worker_pb2.SequenceChange]) -> tuple[tuple[int, int, Change], ...]:
        known: list[tuple[int, int, Change]] = []
        for change in changes:
            execution = self._running.get(change.handle)
            kind = CHANGE_FROM_WIRE.get(change.kind)
            if execution is not None and kind is not None:
                known.append((change.handle, execution.attempt, kind))
        return tuple(known)

    def _take_end(self, end: worker_pb2.ExecutionEnd) -> None:
        execution = self._running.get(end.handle)
        if execution is None:
            self._leftover.discard(end.handle)
            self._outbox.release(end.handle)
            return
        if execution.attempt != end.attempt or execution.replaying:
            return
        request = execution.request
        if request.finished is None and end.output_tokens > execution.have_token:
            self._ask_replay(execution)
            return
        if request.finished is None:
            request.matched_stop = end.matched_stop if end.HasField("matched_stop") else None
            if not execution.forced_tokens:
                request.cached_prompt_tokens = min(end.cached_prompt_tokens, request.accepted.prompt_tokens)
        self._outbox.release(end.handle)
        self._gone(execution, OUTCOME_FROM_WIRE.get(end.outcome, Outcome.FAILED_ENGINE), end.detail)

    def _gone(self, execution: Execution, outcome: Outcome, detail: str) -> None:
        handle = execution.request.handle
        del self._running[handle]
        self._shell.handle(ExecutionEnded(self.name, handle, execution.attempt, outcome, detail))

    # -- commands

    def _ask_replay(self, execution: Execution) -> None:
        execution.replaying = True
        replay = worker_pb2.Replay(handle=execution.request.handle, from_token=execution.forced_tokens)
        self._outbox.put(worker_pb2.ExecuteRequest(replay=replay))

    def _admit(self, execution: Execution) -> worker_pb2.ExecuteRequest:
        request, forced = execution.request, execution.forced_tokens
        sampling = types_pb2.SamplingParams()
        sampling.CopyFrom(request.sampling)
        if forced:
            sampling.max_tokens -= forced
            sampling.min_tokens = max(0, sampling.min_tokens - forced)
        tenant, request_id = request.key
        admit = worker_pb2.Admit(
            handle=request.handle,
            attempt=execution.attempt,
            request_key=f"{tenant}/{request_id}",
            token_ids=request.prompt_ids + request.answer.tokens[:forced],
            forced_tokens=forced,
            sampling=sampling,
            service_class=class_to_wire(execution.latency_sensitive),
            slo=request.slo,
            age_ms=max(0.0, self._shell.clock_ms() - request.arrived_ms),
            cache_salt=self._shell.cache_salt(tenant),
            rank=execution.rank,
            coalesce_tokens=1 if execution.latency_sensitive else BE_COALESCE_TOKENS,
        )
        if request.trace is not None:
            admit.traceparent, admit.tracestate = request.trace.traceparent, request.trace.tracestate
        return worker_pb2.ExecuteRequest(admit=admit)
