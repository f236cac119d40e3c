"""The default: LS by deadline, BE by Gittins index, a step budget so that LS decodes keep their pace.

The order inside LS needs the engine's own clock, so workers make it at each step from the targets that came with the
request (`worker_svc/ordering.py`, design: scheduling, "The default policy `slo`"); what is decided here is which LS
request enters first, the whole order of BE, and who may enter.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules

_LS, _BE = 0.0, 1.0

WORK_MS_PER_PREFILL_TOKEN = 0.1
RELEGATED_BY_MS = 30_000.0


class Slo(Policy):
    """LS before BE; LS by time to first token, BE by cost = 1 / Gittins index, in ms of work, aged."""

    name = "slo"
    summary = "the default: LS by deadline with a step budget, BE by Gittins index, paused with its KV cache kept"
    ages = True
    admits_by_memory = True
    fair_shares = True
    classes_apart = True
    sheds_load = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """Every ingredient can be switched off, so that its worth can be shown; see docs/policies/slo.md."""

        be_order: str = option(
            "gittins", "inside BE: Gittins index, mean work left, or arrival", choices=("gittins", "mean", "fcfs")
        )
        running_factor: float = option(
            0.7, "a running BE request's cost counts this much, so that near-ties do not swap seats; 1: off",
            least=0.01, most=1.0,
        )  # fmt: skip
        ageing_ms: float = option(
            0.0, "a BE request's key halves when it has waited this long; 0: off", least=0.0, most=86_400_000.0
        )
        step_budget: bool = option(True, "a step ends in time for the LS decodes in it")
        borrow_tpots: float = option(
            4.0, "TPOTs that an LS decode may fall behind its pace for a while, so that steps are fuller; 0: off",
            least=0.0, most=100.0,
        )  # fmt: skip
        yield_when_ahead: bool = option(True, "an LS decode a whole TPOT ahead of its pace may yield its seat")
        displace: bool = option(True, "a better-ranked request takes a seat; the displaced one keeps its KV cache")
        evict: bool = option(True, "the worst BE request loses its KV cache where an LS request needs the room")

    options: Options

    def wants_prediction(self, job: Job, generated_tokens: int) -> bool:
        """At arrival; after a window only for BE, since LS is not ordered by length."""
        return generated_tokens == 0 or not job.spec.latency_sensitive

    def cost(self, job: Job, pace: Pace) -> float:
        """Gittins cost in ms of what is left: prefill, then decode."""
        spec = job.spec
        if spec.latency_sensitive:
            return 0.0
        prefill = 0.0 if job.output_tokens > job.base_tokens else pace.prefill_ms(spec.prompt_tokens + job.base_tokens)
        per_token = pace.ms_per_token(spec.prompt_tokens + job.output_tokens)
        order = self.options.be_order
        if order == "gittins":
            return job.distribution.gittins_cost_ms(job.output_tokens, per_token, prefill)
        return prefill + per_token * job.distribution.mean_remaining(job.output_tokens) if order == "mean" else 0.0

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """LS: when its first token is due. BE: aged cost."""
        spec = job.spec
        if spec.latency_sensitive:
            due_ms = job.arrival_ms + spec.ttft_ms
            late = job.first_token_ms is None and now_ms > due_ms
            return (_LS, due_ms + WORK_MS_PER_PREFILL_TOKEN * spec.prompt_tokens + (RELEGATED_BY_MS if late else 0.0))
        options = self.options
        if options.be_order == "fcfs":
            return (_BE, job.arrival_ms)
        cost = job.cost * options.running_factor if job.seated else job.cost
        if options.ageing_ms <= 0.0:
            return (_BE, cost)
        idle_ms = now_ms - (job.arrival_ms if job.last_token_ms is None else job.last_token_ms)
        return (_BE, cost / (1.0 + (idle_ms / options.ageing_ms) ** 2))

    def rules(self) -> Rules:
        """Tiers, step budget, pauses; eviction only for KV blocks or slots."""
        settings, options = self.settings, self.options
        return Rules(
            class_tiers=True,
            step_budget=options.step_budget,
            yield_when_ahead=options.yield_when_ahead,
            displace=options.displace,
            evict=options.evict,
            step_seats=settings.step_seats,
            be_share=settings.be_share,
            max_itl_factor=settings.max_itl_factor,
            borrow_tpots=options.borrow_tpots,
        )
