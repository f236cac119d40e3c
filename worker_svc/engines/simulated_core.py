"""The simulated engine without its clock: paged KV, chunked prefill, slots and seats, in virtual time.

`SimulatedCore.step(now_ms)` asks the shared `plan_step` who takes part, carries the quotas out, and says how long the
step took by the step-time model. It makes token counts, not texts; `simulated_text.py` turns them into ids and words.
Nothing here reads a clock, a file or a random source, so that the simulator drives it as the live engine does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from worker_svc.be_share import FULL
from worker_svc.engines.base import ChangeKind
from worker_svc.ordering import Held, StepLimits, StepModel, StepPlan, StepRules, plan_step


class PlanBroken(Exception):
    """A plan asks for what the engine does not have; the message names the step and the sequence."""


@dataclass(frozen=True, slots=True)
class SimulatedLimits:
    """What the engine has.

    Attributes:
        step_token_budget: most tokens in a step.
        step_seats: most sequences in a step, where the rules of the policy say nothing else.
        slots: most resident sequences.
        kv_blocks: KV blocks in all.
        kv_block_tokens: tokens in a block.
    """

    step_token_budget: int
    step_seats: int
    slots: int
    kv_blocks: int
    kv_block_tokens: int

    @property
    def kv_tokens(self) -> int:
        """The longest sequence, prompt and answer, that can ever finish."""
        return self.kv_blocks * self.kv_block_tokens


@dataclass(slots=True)
class SimulatedSequence(Held):
    """A sequence as `plan_step` sees it, and how long its answer will be.

    Attributes:
        answer_tokens: output tokens after which it ends.
        started: it has taken part in a step.
    """

    answer_tokens: int = 1
    started: bool = False


@dataclass(slots=True)
class StepResult:
    """What one step did.

    Attributes:
        plan: the decision that was carried out.
        step_ms: its time; tokens leave the engine at `now_ms + step_ms`.
        tokens: handles that made one output token each.
        ended: of these, handles whose answer is complete; they are no longer held.
        changes: starts, pauses, resumptions and evictions, in order.
        prefill_tokens, decodes: the work done.
    """

    plan: StepPlan
    step_ms: float = 0.0
    tokens: list[int] = field(default_factory=list[int])
    ended: list[int] = field(default_factory=list[int])
    changes: list[tuple[int, ChangeKind]] = field(default_factory=list[tuple[int, ChangeKind]])
    prefill_tokens: int = 0
    decodes: int = 0


class SimulatedCore:
    """Sequences, KV blocks and steps of one simulated engine."""

    sequence_class: type[SimulatedSequence] = SimulatedSequence

    def __init__(self, limits: SimulatedLimits, model: StepModel, rules: StepRules | None = None) -> None:
        self.limits = limits
        self.model = model
        self.rules = rules or StepRules()
        self.free_blocks = limits.kv_blocks
        self.residents = 0
        self.step_count = 0
        self.sequences: dict[int, SimulatedSequence] = {}
        self.share = FULL
        self._seated: set[int] = set()

    @property
    def waiting(self) -> int:
        """Sequences without a slot."""
        return len(self.sequences) - self.residents

    def add(
        self,
        handle: int,
        *,
        prompt_tokens: int,
        answer_tokens: int,
        latency_sensitive: bool,
        arrival_ms: float,
        ttft_ms: float,
        tpot_ms: float,
        rank: int,
    ) -> None:
        """Takes a sequence to the end of the waiting ones.

        Args:
            handle: not held already.
            prompt_tokens: tokens to compute before the first output token, forced ones included; at least 1.
            answer_tokens: output tokens that it will make; at least 1.
            latency_sensitive: its class.
            arrival_ms: on the clock of `step`.
            ttft_ms: its target.
            tpot_ms: its target.
            rank: place in the order until the next `set_ranks`.

        Raises:
            ValueError: it could never finish here, or the handle is held.
        """
        if handle in self.sequences:
            raise ValueError(f"handle {handle} is held already")
        if prompt_tokens < 1 or answer_tokens < 1:
            raise ValueError("prompt and answer need at least one token each")
        if prompt_tokens + answer_tokens > self.limits.kv_tokens:
            raise ValueError(
                f"{prompt_tokens} prompt and {answer_tokens} answer tokens exceed the KV cache of "
                f"{self.limits.kv_tokens} tokens"
            )
        self.sequences[handle] = self.sequence_class(
            handle=handle,
            rank=rank,
            latency_sensitive=latency_sensitive,
            resident=False,
            seated=False,
            left_tokens=prompt_tokens,
            context_tokens=0,
            output_tokens=0,
            decoding=False,
            arrival_ms=arrival_ms,
            first_token_ms=None,
            ttft_ms=ttft_ms,
            tpot_ms=tpot_ms,
            blocks=0,
            answer_tokens=answer_tokens,
        )

    def cancel(self, handle: int) -> bool:
        """Drops a sequence and its KV; False if it is not held."""
        held = self.sequences.pop(handle, None)
        if held is None:
            return False
        self._seated.discard(handle)
        self._free(held)
        return True

    def set_ranks(self, handles: Sequence[int], rules: StepRules | None = None) -> None:
        """The new order, most urgent first; sequences not named keep their order behind these."""
        if rules is not None:
            self.rules = rules
        sequences = self.sequences
        named = [handle for handle in dict.fromkeys(handles) if handle in sequences]
        if len(named) < len(sequences):
            known = set(named)
            others = [held for held in sequences.values() if held.handle not in known]
            others.sort(key=lambda held: (held.rank, held.handle))
            named += [held.handle for held in others]
        for rank, handle in enumerate(named):
            sequences[handle].rank = rank

    def step(self, now_ms: float) -> StepResult:
        """Runs one step that begins at `now_ms`; an empty plan runs nothing and takes no time."""
        limits = self.limits
        allowed = StepLimits(
            limits.step_token_budget,
            limits.step_seats,
            limits.slots,
            self.free_blocks,
            limits.kv_block_tokens,
        )
        plan = plan_step(list(self.sequences.values()), allowed, self.rules, self.model, now_ms, self.share)
        self.share = plan.share
        result = StepResult(plan)
        for handle in plan.evict:
            self._evict(handle, result)
        self._note_seats(plan, now_ms, result)
        for handle, credit in plan.credits.items():
            self.sequences[handle].credit = credit
        if plan.quotas:
            self.step_count += 1
            self._run(plan.quotas, now_ms, result)
        return result

    def _note_seats(self, plan: StepPlan, now_ms: float, result: StepResult) -> None:
        quotas, seated, sequences = plan.quotas, self._seated, self.sequences
        if quotas.keys() == seated:
            return
        for handle in sorted(seated - quotas.keys()):
            sequences[handle].seated = False
            sequences[handle].unseated_ms = now_ms
            if sequences[handle].resident:
                result.changes.append((handle, ChangeKind.PAUSED))
        for handle in sorted(quotas.keys() - seated):
            held = sequences[handle]
            held.seated = True
            result.changes.append((handle, ChangeKind.RESUMED if held.started else ChangeKind.STARTED))
            held.started = True
        self._seated = set(quotas)

    def _run(self, quotas: dict[int, int], now_ms: float, result: StepResult) -> None:
        """Gives each sequence of the plan the slot and blocks that its quota needs, and does its work."""
        sequences, tokens, block_tokens = self.sequences, result.tokens, self.limits.kv_block_tokens
        prefill_tokens = decodes = context_tokens = 0
        first: list[SimulatedSequence] = []
        ended: list[SimulatedSequence] = []
        for handle, quota in quotas.items():
            held = sequences[handle]
            context = held.context_tokens
            context_tokens += context
            held.context_tokens = context = context + quota
            if not held.resident:
                held.resident = True
                self.residents += 1
            if context > held.blocks * block_tokens:
                needed = -(-context // block_tokens) - held.blocks
                held.blocks += needed
                self.free_blocks -= needed
            if held.decoding:
                decodes += 1
            else:
                prefill_tokens += quota
                if quota < held.left_tokens:
                    held.left_tokens -= quota
                    continue
                held.left_tokens = 1
                held.decoding = True
                if held.first_token_ms is None:
                    first.append(held)
            tokens.append(handle)
            held.output_tokens = output = held.output_tokens + 1
            if output >= held.answer_tokens:
                ended.append(held)
        if self.free_blocks < 0 or self.residents > self.limits.slots:
            raise PlanBroken(
                f"step {self.step_count}: {-self.free_blocks} KV blocks too many, "
                f"{self.residents} of {self.limits.slots} slots taken"
            )
        result.prefill_tokens, result.decodes = prefill_tokens, decodes
        result.step_ms = self.model.step_ms(prefill_tokens, decodes, context_tokens)
        for held in first:
            held.first_token_ms = now_ms + result.step_ms
        self._end(ended, result)

    def _end(self, ended: Iterable[SimulatedSequence], result: StepResult) -> None:
        for held in ended:
            del self.sequences[held.handle]
            self._seated.discard(held.handle)
            self._free(held)
            result.ended.append(held.handle)

    def _evict(self, handle: int, result: StepResult) -> None:
        """Drops the KV; what was computed, answer included, is computed again before the next token."""
        held = self.sequences[handle]
        held.left_tokens += held.context_tokens
        held.context_tokens = 0
        held.decoding = False
        self._free(held)
        result.changes.append((handle, ChangeKind.EVICTED))

    def _free(self, held: SimulatedSequence) -> None:
        self.free_blocks += held.blocks
        held.blocks = 0
        if held.resident:
            held.resident = False
            self.residents -= 1
