"""The default: LS by deadline, BE by Gittins index, a step budget so that LS decodes keep their pace.

The order inside LS needs the engine's own clock, so workers make it at each step from the targets that came with the
request (`worker_svc/ordering.py`, design: scheduling, "The default policy `slo`"); what is decided here is which LS
request enters first, the whole order of BE, and who may enter.
"""

from __future__ import annotations

from scheduler_svc.core.policies.base import Pace, Policy
from scheduler_svc.core.types import Job, Rules

_LS, _BE = 0.0, 1.0

RUNNING_FACTOR = 0.7
"""A running BE job's cost counts this much, so that near-ties do not swap seats."""

AGEING_MS = 300_000.0
"""A BE job's key halves when it has waited this long; 60 s cost a quarter of BE's mean in simulation, 300 s 5 %."""

WORK_MS_PER_PREFILL_TOKEN = 0.1
RELEGATED_BY_MS = 30_000.0


class Slo(Policy):
    """LS before BE; LS by time to first token, BE by cost = 1 / Gittins index, in ms of work, aged."""

    name = "slo"
    summary = "the default: LS by deadline with a step budget, BE by Gittins index, paused with its KV cache kept"
    ages = True
    admits_by_memory = True

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
        return job.distribution.gittins_cost_ms(job.output_tokens, per_token, prefill)

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """LS: when its first token is due. BE: aged cost."""
        spec = job.spec
        if spec.latency_sensitive:
            due_ms = job.arrival_ms + spec.ttft_ms
            late = job.first_token_ms is None and now_ms > due_ms
            return (_LS, due_ms + WORK_MS_PER_PREFILL_TOKEN * spec.prompt_tokens + (RELEGATED_BY_MS if late else 0.0))
        idle_ms = now_ms - (job.arrival_ms if job.last_token_ms is None else job.last_token_ms)
        running = RUNNING_FACTOR if job.seated else 1.0
        return (_BE, job.cost * running / (1.0 + (idle_ms / AGEING_MS) ** 2))

    def rules(self) -> Rules:
        """Tiers, step budget, pauses; eviction only for KV blocks or slots."""
        settings = self.settings
        return Rules(
            class_tiers=True,
            step_budget=True,
            yield_when_ahead=True,
            displace=True,
            evict=True,
            step_seats=settings.step_seats,
            be_share=settings.be_share,
            max_itl_factor=settings.max_itl_factor,
        )
