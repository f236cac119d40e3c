"""Which requests the predictor is asked about, and when: predictions cost time, and not every one changes an order."""

from __future__ import annotations

from scheduler_svc.core.policies.guard import PolicyGuard
from scheduler_svc.core.types import Job, PolicySettings


def should_ask(job: Job, guard: PolicyGuard, settings: PolicySettings) -> bool:
    """Whether to ask about `job` now, at its arrival or after a window.

    `predict: always` asks as the policy wants. The other two ask about nobody who turns out short, that is, ends within
    `predict_tokens` (Shahout & Mitzenmacher, "SkipPredict: When to Invest in Predictions for Scheduling", 2024):

    - `skip`: the cheap forecast is free here, the distribution of requests of the same kind. Whose median is short is
      asked about only once it has outlived it; all others at arrival.
    - `delay` (their DelayPredict): everybody begins without a prediction; whoever outlives `predict_tokens` is asked
      about then.

    Until then the request stands where its kind's distribution, given the tokens that are out, puts it.
    """
    generated = job.output_tokens
    if settings.repredict == "never":
        return False
    if settings.repredict == "always":
        return True
    first = generated == job.spec.received_tokens
    if settings.predict != "always" and not job.predictions:
        if generated < settings.predict_tokens:
            looks_short = job.distribution.quantile(0.5, generated) <= settings.predict_tokens
            if settings.predict == "delay" or looks_short:
                return False
        else:
            generated = 0  # its first question, put off
            first = True
    return (first and settings.wants_lengths) or guard.wants_prediction(job, generated)
