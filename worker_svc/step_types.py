"""What a step is decided from and what is decided: plain data, shared by both engines."""

from __future__ import annotations

from dataclasses import dataclass, field

from fairlead.steps import StepModel, StepRules
from worker_svc.be_share import FULL, ShareCredit

__all__ = ["Held", "StepLimits", "StepModel", "StepPlan", "StepRules"]


@dataclass(slots=True)
class Held:
    """One request as the engine holds it.

    Attributes:
        handle: the scheduler's short name.
        rank: place in the scheduler's order; smaller is more urgent.
        latency_sensitive: its class.
        resident: it holds a slot and KV blocks (vLLM: in `running`).
        seated: it had a quota in the last step.
        left_tokens: tokens to compute before its next output token (1 while decoding, in-flight tokens counted).
        context_tokens: tokens computed so far (its KV cache).
        output_tokens: output tokens so far, in-flight ones included.
        decoding: its whole prompt is computed, it makes one token a step.
        arrival_ms: arrival at the scheduler, on the caller's clock.
        first_token_ms: when its first token left the engine; None before.
        ttft_ms, tpot_ms: its targets.
        blocks: KV blocks held.
        admissible: a waiting sequence that the engine could take now (not blocked on a grammar, a KV transfer, ...).
        credit: of credit batching, saved up over the steps so far; the engine keeps what the plan says.
        unseated_ms: start of the first step that it did not take part in since it last had a seat; 0 before it had one.
    """

    handle: int
    rank: int
    latency_sensitive: bool
    resident: bool
    seated: bool
    left_tokens: int
    context_tokens: int
    output_tokens: int
    decoding: bool
    arrival_ms: float
    first_token_ms: float | None
    ttft_ms: float
    tpot_ms: float
    blocks: int
    admissible: bool = True
    credit: float = 0.0
    unseated_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one step and the engine's memory allow.

    Attributes:
        token_budget: most tokens in a step (vLLM's max_num_batched_tokens).
        seats: most sequences in a step, where the rules do not say (they may go up to `slots`).
        slots: most resident sequences (vLLM's max_num_seqs).
        free_blocks: KV blocks that nobody holds.
        block_tokens: tokens in a block.
        chunked_prefill: whether a prefill may be cut into chunks.
        watermark_blocks: blocks left free when a waiting sequence enters beside others, for those that grow.
    """

    token_budget: int
    seats: int
    slots: int
    free_blocks: int
    block_tokens: int
    chunked_prefill: bool = True
    watermark_blocks: int = 0


@dataclass(slots=True)
class StepPlan:
    """The decision for one step.

    Attributes:
        quotas: handle to tokens, for every sequence that takes part; absent means 0.
        order: every handle, most urgent first: the order in which KV-shortage victims are *not* taken.
        admit: waiting handles that enter now, in this order.
        evict: resident handles whose KV is dropped now, so that the first of `admit` fits.
        planned_ms: predicted step time.
        credits: what each running LS decode has saved up after this step; empty without credit batching.
        share: what the oldest BE request has saved up after this step; the engine hands it to the next plan.
        share_taken: that request takes part in this step.
    """

    quotas: dict[int, int] = field(default_factory=dict[int, int])
    order: list[int] = field(default_factory=list[int])
    admit: list[int] = field(default_factory=list[int])
    evict: list[int] = field(default_factory=list[int])
    planned_ms: float = 0.0
    credits: dict[int, float] = field(default_factory=dict[int, float])
    share: ShareCredit = FULL
    share_taken: bool = False
