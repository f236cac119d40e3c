"""Quality of experience (Andes: Liu et al., arXiv 2404.16283): serve whom waiting would hurt most, per KV token."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler_svc.core.policies.base import Pace, Policy, context_tokens
from scheduler_svc.core.policies.options import option
from scheduler_svc.core.types import Job, Rules


def positive_area(start: float, slope: float, duration: float) -> float:
    """Integral of max(0, start + slope x t) over t from 0 to `duration`."""
    end = start + slope * duration
    if start >= 0 and end >= 0:
        return (start + end) / 2 * duration
    if start <= 0 and end <= 0:
        return 0.0
    return max(start, end) ** 2 / (2 * abs(slope))


def gain(late_tokens: float, whole: float, tpot_ms: float, step_ms: float, horizon_ms: float) -> float:
    """QoE that being served for `horizon_ms` keeps, against waiting; 0 to 1.

    QoE = 1 - delay area / whole area, both under the ideal curve of tokens over time, as a fluid.

    Args:
        late_tokens: that the ideal curve is ahead of what is out, now; negative while the answer is ahead.
        whole: area under the ideal curve until the horizon's end, token ms.
        tpot_ms: of the ideal curve.
        step_ms: between two tokens when served.
        horizon_ms: looked ahead.
    """
    if whole <= 0:
        return 0.0
    waiting = positive_area(late_tokens, 1 / tpot_ms, horizon_ms)
    served = positive_area(late_tokens, 1 / tpot_ms - 1 / max(step_ms, 1e-3), horizon_ms)
    return max(waiting - served, 0.0) / whole


class Qoe(Policy):
    """Greatest QoE gain per context token first; a request ahead of its reader waits until its buffer runs out.

    The ideal curve of a request is: first token at its TTFT target, then one each TPOT. The choice of who runs is a
    knapsack over KV memory, solved greedily by gain / context. Whoever has tokens to spare has no gain and paces
    itself: it gives its seat up, and is ranked by when its reader will have caught up. The reader's side of the pacing
    is `fairlead.pacing`.
    """

    name = "qoe"
    summary = "Andes: greatest gain in quality of experience per KV token; paced by how fast readers read"
    ages = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """See docs/policies/qoe.md."""

        horizon_ms: float = option(5000.0, "how far the gain is looked ahead", least=100.0, most=600_000.0)
        be_ttft_ms: float = option(30_000.0, "ideal first token of a BE request", least=1.0, most=86_400_000.0)
        be_tpot_ms: float = option(200.0, "ideal time a token of a BE request", least=1.0, most=600_000.0)

    options: Options

    def cost(self, job: Job, pace: Pace) -> float:
        """Time between two tokens when served, ms."""
        return pace.step_ms(context_tokens(job))

    def key(self, job: Job, now_ms: float) -> tuple[float, float]:
        """Those who gain, by gain per context token; then those ahead of their reader, by when they are needed."""
        spec, options = job.spec, self.options
        ls = spec.latency_sensitive
        tpot_ms = max(spec.tpot_ms if ls else options.be_tpot_ms, 1e-3)
        begin_ms = job.arrival_ms + (spec.ttft_ms if ls else options.be_ttft_ms)
        late_tokens = (now_ms - begin_ms) / tpot_ms - job.output_tokens
        until_ms = max(now_ms + options.horizon_ms - begin_ms, 0.0)
        gained = gain(late_tokens, until_ms**2 / (2 * tpot_ms), tpot_ms, job.cost, options.horizon_ms)
        if gained > 0.0:
            return (0.0, -gained / max(context_tokens(job), 1))
        return (1.0, begin_ms + job.output_tokens * tpot_ms)

    def rules(self) -> Rules:
        """Who gains more takes a seat."""
        return Rules(displace=True, step_seats=self.settings.step_seats)
