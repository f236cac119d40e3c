"""How a step is filled and how long it takes: what the scheduler decides and a worker carries out.

The scheduler's policy makes the rules, a worker's fit makes the model; both travel as `fairlead.v1` messages of the
same names and fields. Plain data, standard library only; imports nothing of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Chunking = Literal["auto", "fixed", "slack"]
"""How much prefill a step takes: sized like the step (`auto`), up to a fixed number, or by the least LS slack."""


@dataclass(frozen=True, slots=True)
class StepModel:
    """Step time in ms = c0 + c1 * prefill tokens + c2 * decoding sequences + c3 * context tokens in the batch.

    The defaults stand for a worker that has told nothing yet: a data-centre GPU (design: scheduling, "What to reach").
    """

    c0_ms: float = 6.0
    c1_ms_per_prefill_token: float = 0.045
    c2_ms_per_decode: float = 0.05
    c3_ms_per_context_token: float = 0.00025

    def step_ms(self, prefill_tokens: int, decodes: int, context_tokens: int) -> float:
        """Predicted time of a step, ms."""
        return (
            self.c0_ms
            + self.c1_ms_per_prefill_token * prefill_tokens
            + self.c2_ms_per_decode * decodes
            + self.c3_ms_per_context_token * context_tokens
        )


@dataclass(frozen=True, slots=True)
class StepRules:
    """How a step is filled from the order; the fields are those of `fairlead.v1.StepRules`.

    Attributes:
        class_tiers: LS decode by least slack, LS prefill by deadline, then BE by rank; off: by rank alone.
        step_budget: with LS decodes running, the step ends in time for them.
        displace: a better-ranked request takes the seat of a running one, which keeps its KV cache.
        evict: a better-ranked waiting request may cost the worst-ranked one its KV where no block or slot is free.
        step_seats: places in a step; None: the worker's own.
        be_share: share of a step's seats that the oldest BE request gets over time, one seat at most; 0: none.
        max_itl_factor: longest step while LS decodes run, in multiples of the least TPOT target.
        yield_when_ahead: an LS decode more than one TPOT ahead of its pace yields its seat to an LS prefill.
        relegate_late: an LS prefill that has missed its TTFT target moves behind those that have not.
        hold_be_decodes: the step budget binds BE decodes too; off: BE prefill alone.
        min_chunk_tokens: prefill that the most urgent waiting LS request gets however little time is left (twice as
            much once half its TTFT target is used up).
        chunking: "auto": prefill is sized by the step budget, where there is one; "fixed": at most `chunk_tokens` in a
            step, whatever its time; "slack": the step ends by the least slack of its LS decodes, under any policy.
        chunk_tokens: most prefill tokens in a step under "fixed"; None: the engine's token budget.
        credit_batching: an LS decode takes part once it has saved up a whole credit; each step brings it the least TPOT
            target over its own.
        borrow_tpots: slack that a step may borrow: its LS decodes may fall so many TPOTs behind their pace for a while.
    """

    class_tiers: bool = False
    step_budget: bool = False
    displace: bool = False
    evict: bool = False
    step_seats: int | None = None
    be_share: float = 0.0
    max_itl_factor: float = 4.0
    yield_when_ahead: bool = False
    relegate_late: bool = True
    hold_be_decodes: bool = True
    min_chunk_tokens: int = 512
    chunking: Chunking = "auto"
    chunk_tokens: int | None = None
    credit_batching: bool = False
    borrow_tpots: float = 0.0
