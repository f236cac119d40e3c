"""What an operator sets with a policy, and what a tenant was granted."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.choices import Choices

OptionValue = bool | int | float | str


@dataclass(frozen=True, slots=True)
class PolicySettings(Choices):
    """What an operator may set with a policy: its own settings, and the choices that combine with any (`Choices`).

    Attributes:
        step_seats: places in a step on each worker; None: each worker's own.
        window_tokens: output tokens after which a request is estimated again.
        be_share: of step tokens and seats, for the oldest BE request.
        max_itl_factor: longest step while LS decodes run, in multiples of the least TPOT target.
        repredict: "auto" (as the policy wants), "always" or "never".
        options: of the policy itself, (name, value) each; texts are converted. `policies/options.py` checks them.
    """

    step_seats: int | None = None
    window_tokens: int = 50
    be_share: float = 0.05
    max_itl_factor: float = 4.0
    repredict: str = "auto"
    options: tuple[tuple[str, OptionValue], ...] = ()


@dataclass(frozen=True, slots=True)
class TenantTerms:
    """What holds for one tenant; a tenant without terms has these defaults. None: no bound of its own.

    Attributes:
        name: of the tenant, as in `Arrived`.
        weight: its part of a fair share, > 0.
        max_in_flight: accepted requests that have not ended.
        max_queued_requests: of them, those that wait in the pool.
        max_queued_tokens: prompt and expected answer tokens of those that wait in the pool.
        tokens_per_minute: prompt and answer tokens that it may use in the long run.
        burst_tokens: that it may use at once after a pause; None: those of a minute.
    """

    name: str
    weight: float = 1.0
    max_in_flight: int | None = None
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None
    tokens_per_minute: float | None = None
    burst_tokens: float | None = None
