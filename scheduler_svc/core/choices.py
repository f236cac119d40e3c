"""What may be chosen beside the policy: each has a section in docs/choices.md; what excludes what is in `checks.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fairlead.steps import StepRules

ALLOWED: dict[str, tuple[str, ...]] = {
    "kv_admission": ("auto", "none", "peak"),
    "admission": ("none", "guards", "dp_soft"),
    "chunking": ("auto", "fixed", "slack"),
    "batching": ("rank", "credit"),
    "overload": ("auto", "queue", "reject", "relegate"),
    "predict": ("always", "skip", "delay"),
    "fair_shares": ("auto", "on", "off"),
}
"""The names of each choice whose set is closed; placements are found by entry point."""

LENGTH_PLACEMENTS = frozenset(("max_min", "waiting_time"))
"""Placements that reckon with predicted lengths."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What combines with any policy.

    Attributes:
        kv_admission: whether a request enters a worker only while its predicted KV peak fits; auto: as the policy has.
        admission: who may be LS at all: all, those that SCORPIO's guards let through, or those that SLOs-Serve's
            dynamic programme picks (the rest is served as BE).
        chunking: how much prefill a step takes; auto: as the policy's step budget has it.
        chunk_tokens: most prefill tokens in a step under `chunking: fixed`; None: the engine's token budget.
        batching: all running requests in rank order, or LS decodes by SCORPIO's credits.
        overload: what happens to a request that will miss its target: it waits, is refused, or becomes BE; auto:
            as the policy has it.
        placement: which worker takes a request, by name.
        predict: ask about every request, only about those that look long, or only about those that turn out long.
        predict_tokens: what counts as long under `predict: skip` and `delay`, output tokens.
        fair_shares: whether tenants share what is served by their weights; auto: as the policy has it.
        fair_bound_tokens: weighted tokens inside which the policy's order stands before fairness.
        output_token_weight: input tokens that an output token counts.
        class_tiers, relegate_late, hold_be_decodes, min_chunk_tokens: ingredients of the step's rules (see
            `fairlead.steps.StepRules`); None: as the policy has them.
    """

    kv_admission: str = "auto"
    admission: str = "none"
    chunking: str = "auto"
    chunk_tokens: int | None = None
    batching: str = "rank"
    overload: str = "auto"
    placement: str = "min_load"
    predict: str = "always"
    predict_tokens: int = 100
    fair_shares: str = "auto"
    fair_bound_tokens: int = 8_192
    output_token_weight: int = 4
    class_tiers: bool | None = None
    relegate_late: bool | None = None
    hold_be_decodes: bool | None = None
    min_chunk_tokens: int | None = None

    @property
    def reckons(self) -> bool:
        """Whether work ahead has to be reckoned with: mean and deviation of what is left of each request."""
        return (
            self.admission != "none" or self.overload in ("reject", "relegate") or self.placement in LENGTH_PLACEMENTS
        )

    @property
    def wants_lengths(self) -> bool:
        """Whether predictions serve something beside the order."""
        return self.kv_admission == "peak" or self.reckons

    def step_rules(self, rules: StepRules) -> StepRules:
        """A policy's rules as these choices change them."""
        changed: dict[str, object] = {
            name: value
            for name in ("class_tiers", "relegate_late", "hold_be_decodes", "min_chunk_tokens")
            if (value := getattr(self, name)) is not None
        }
        if self.chunking != "auto":
            changed |= {"chunking": self.chunking, "chunk_tokens": self.chunk_tokens}
        if self.batching == "credit":
            changed["credit_batching"] = True
        return replace(rules, **changed) if changed else rules
