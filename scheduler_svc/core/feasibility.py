"""Who can't be served in time: refused at the door, or served as best effort, as the choices in force say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from scheduler_svc.core import outlook
from scheduler_svc.core.admission import AdmissionRefusal, RefusalReason, bounded_retry_ms
from scheduler_svc.core.dispatcher import Dispatcher
from scheduler_svc.core.recent import Recent
from scheduler_svc.core.soft_admission import Demand, admitted
from scheduler_svc.core.types import Arrived, Job
from scheduler_svc.core.workers import WorkerView

MOST_NEW = 64
"""New requests that one run of the dynamic programme decides on; those that come with more are declined."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """How much of what there is may be promised to LS: the estimates are means, and what comes next is not known.

    Attributes:
        ttft: of a TTFT target.
        pace: of a TPOT target.
        kv: of the KV cache.
    """

    ttft: float
    pace: float
    kv: float


WITHIN_SHARE = Headroom(0.7, 0.9, 0.8)
BEYOND_SHARE = Headroom(0.5, 0.75, 0.6)
"""A tenant that was lately let in with more than its share leaves the rest to those with less (docs/overload.md)."""


class Feasibility:
    """Judges requests by the dispatcher's state.

    Args:
        dispatcher: knows what waits and what is where.
        live: accepted and not ended, by id.
        weight: of a tenant.
    """

    def __init__(self, dispatcher: Dispatcher, live: dict[int, Job], weight: Callable[[str], float]) -> None:
        self._dispatcher = dispatcher
        self._live = live
        self._recent = Recent(weight)
        self._hopeless: list[tuple[float, int]] = []
        self._undecided: dict[str, list[int]] = {}
        self._admitted: dict[str, dict[int, None]] = {}

    def refusal_of(self, spec: Arrived, mean_tokens: float, now_ms: float) -> AdmissionRefusal | None:
        """Whether a request that would arrive now can't be served at all, or (where chosen) not in time.

        Args:
            spec: the request.
            mean_tokens: expected output tokens.
            now_ms: its arrival.
        """
        workers = self._dispatcher.workers_of(spec.model)
        if not workers:
            return None
        impossible = _never_fits(spec, workers)
        if impossible is not None or spec.received_tokens:
            # One whose answer is begun was accepted, by a scheduler that is lost: it is not refused in mid-answer.
            return impossible
        if self._dispatcher.settings.admission == "guards":
            return self._late_first_token(spec, workers, now_ms) if spec.latency_sensitive else None
        if self._dispatcher.overload != "reject" or (spec.latency_sensitive and spec.may_become_be):
            return None
        if not spec.latency_sensitive:
            return self._late_completion(spec, mean_tokens, workers, now_ms)
        return self._out_of_reach(spec, mean_tokens, workers, now_ms)

    def arrived(self, job: Job, now_ms: float) -> None:
        """Takes note of a request that was accepted."""
        if not job.spec.latency_sensitive:
            return
        self._recent.add(job.spec.tenant, job.expected_tokens, now_ms)
        if job.output_tokens:
            return
        overload = self._dispatcher.overload
        if self._dispatcher.settings.admission == "dp_soft":
            self._undecided.setdefault(job.spec.model, []).append(job.job_id)
        elif overload == "relegate" or (overload == "reject" and job.spec.may_become_be):
            workers = self._dispatcher.workers_of(job.spec.model)
            due_ms = job.arrival_ms + job.spec.ttft_ms
            if not workers:
                heappush(self._hopeless, (due_ms, job.job_id))
                return
            mean_tokens = job.distribution.mean_remaining()
            late = self._out_of_reach(job.spec, mean_tokens, workers, now_ms, counted=True) is not None
            # At the latest when not even its own prompt can be done in time any more.
            own_ms = min(worker.cost.c1_ms_per_prefill_token for worker in workers) * job.spec.prompt_tokens
            heappush(self._hopeless, (now_ms if late else due_ms - own_ms, job.job_id))

    def next_due_ms(self) -> float | None:
        """When `take` has something to say, if nothing happens before."""
        while self._hopeless and not self._waits(self._hopeless[0][1]):
            heappop(self._hopeless)
        return self._hopeless[0][0] if self._hopeless else None

    def take(self, now_ms: float) -> list[Job]:
        """Waiting LS requests that are to be served as BE from now on."""
        found: list[Job] = []
        while self._hopeless and self._hopeless[0][0] <= now_ms:
            _, job_id = heappop(self._hopeless)
            if self._waits(job_id):
                found.append(self._live[job_id])
        if self._undecided:
            for model, new in self._undecided.items():
                found += self._declined(model, new, now_ms)
            self._undecided.clear()
        return found

    def settings_changed(self) -> None:
        """Other choices are in force: what was noted for the last ones is void."""
        self._hopeless.clear()
        self._undecided.clear()
        self._admitted.clear()

    def _waits(self, job_id: int) -> bool:
        job = self._live.get(job_id)
        return job is not None and job.worker is None and job.spec.latency_sensitive and job.first_token_ms is None

    def terms_changed(self) -> None:
        """Other weights hold."""
        self._recent.weights_changed()

    def _out_of_reach(
        self, spec: Arrived, mean_tokens: float, workers: list[WorkerView], now_ms: float, *, counted: bool = False
    ) -> AdmissionRefusal | None:
        """Whether an LS request would miss its targets, or make those that are there miss theirs.

        `counted`: it waits already, so that it is among what is ahead of it.
        """
        backlog, rules = self._dispatcher.backlog(spec.model), self._dispatcher.rules
        first = outlook.first_token(spec, now_ms + spec.ttft_ms, backlog, workers, rules)
        crowd = outlook.crowd(spec, mean_tokens, backlog, workers, rules, counted=counted)
        # Who could not be in time on an idle worker either is judged by the wait alone: coming back would not help.
        idle_ms = outlook.idle_prefill_ms(spec, workers)
        own_ms = 0.0 if idle_ms > spec.ttft_ms else first.own_ms
        expected_ms = max(first.wait_ms, own_ms) if counted else first.wait_ms + own_ms
        beyond = self._dispatcher.fair.rules.on and self._recent.beyond_share(spec.tenant, now_ms)
        room = BEYOND_SHARE if beyond else WITHIN_SHARE
        allowed_ms = room.ttft * spec.ttft_ms
        if allowed_ms < idle_ms <= spec.ttft_ms:  # in time on an idle worker, where there is little to be cautious of
            allowed_ms = 0.5 * (idle_ms + spec.ttft_ms)
        if expected_ms > allowed_ms:
            return _late(first, spec, expected_ms - allowed_ms)
        pace, kv = crowd.step_ms / spec.tpot_ms / room.pace, crowd.kv_share / room.kv
        if crowd.count == 1 or max(pace, kv) <= 1.0:
            return None
        text = (
            f"with it each token would take about {crowd.step_ms:.0f} ms, its target is {spec.tpot_ms:.0f} ms"
            if pace > kv
            else f"with it latency-sensitive requests would fill {crowd.kv_share:.0%} of the KV cache"
        )
        return AdmissionRefusal(RefusalReason.TPOT_OUT_OF_REACH, text, bounded_retry_ms(crowd.end_ms))

    def _late_first_token(self, spec: Arrived, workers: list[WorkerView], now_ms: float) -> AdmissionRefusal | None:
        """SCORPIO's TTFT guard."""
        backlog = self._dispatcher.backlog(spec.model)
        found = outlook.first_token(spec, now_ms + spec.ttft_ms, backlog, workers, self._dispatcher.rules)
        return None if found.ms <= spec.ttft_ms else _late(found, spec, found.ms - spec.ttft_ms)

    def _late_completion(
        self, spec: Arrived, mean_tokens: float, workers: list[WorkerView], now_ms: float
    ) -> AdmissionRefusal | None:
        if spec.completion_ms is None:
            return None
        key = self._dispatcher.key_of(spec, mean_tokens, now_ms)
        found = outlook.completion(
            spec, mean_tokens, key, self._dispatcher.backlog(spec.model), workers, self._dispatcher.rules
        )
        if found.ms <= spec.completion_ms:
            return None
        text = (
            f"it would be complete in about {found.ms / 1000:.1f} s, its target is {spec.completion_ms / 1000:.1f} s: "
            f"{found.wait_ms / 1000:.1f} s of work are ahead of it"
        )
        retry_ms = bounded_retry_ms(min(found.ms - spec.completion_ms, found.wait_ms))
        return AdmissionRefusal(RefusalReason.COMPLETION_OUT_OF_REACH, text, retry_ms)

    def _declined(self, model: str, new: list[int], now_ms: float) -> list[Job]:
        """What the dynamic programme does not admit of the LS requests that came since the last tick."""
        workers = self._dispatcher.workers_of(model)
        if not workers:
            return []
        kept = self._admitted.setdefault(model, {})
        for job_id in [job_id for job_id in kept if not self._waits(job_id)]:
            del kept[job_id]
        c1 = sum(worker.cost.c1_ms_per_prefill_token for worker in workers) / len(workers)
        fresh = [self._live[job_id] for job_id in new if self._waits(job_id)]
        if not fresh:
            return []

        def demand(job: Job, forced: bool) -> Demand:
            due_ms = job.arrival_ms + job.spec.ttft_ms - now_ms
            return Demand(job.job_id, due_ms, c1 * (job.spec.prompt_tokens + job.base_tokens), forced)

        rate = outlook.ls_rate(workers, min(job.spec.tpot_ms for job in fresh), self._dispatcher.rules)
        running_ms = c1 * sum(worker.tally.prefill for worker in workers if worker.tally.latency_sensitive)
        demands = [demand(self._live[job_id], True) for job_id in kept]
        demands += [demand(job, False) for job in fresh[:MOST_NEW]]
        chosen = admitted(demands, rate, running_ms)
        kept.update(dict.fromkeys(sorted(chosen)))
        return [job for job in fresh if job.job_id not in chosen]


def _late(found: outlook.Estimate, spec: Arrived, late_ms: float) -> AdmissionRefusal:
    text = (
        f"its first token would come in about {found.ms:.0f} ms, its target is {spec.ttft_ms:.0f} ms: "
        f"{found.wait_ms:.0f} ms of work are ahead of it"
    )
    return AdmissionRefusal(RefusalReason.TTFT_OUT_OF_REACH, text, bounded_retry_ms(min(late_ms, found.wait_ms)))


def _never_fits(spec: Arrived, workers: list[WorkerView]) -> AdmissionRefusal | None:
    sizes = [worker.up.kv_blocks * worker.up.kv_block_tokens for worker in workers]
    needed = spec.prompt_tokens + spec.received_tokens + 1
    if 0 in sizes or needed <= max(sizes):  # 0: it did not say
        return None
    text = f"{needed} tokens of context exceed the KV cache of {max(sizes)} tokens on every worker of {spec.model!r}"
    return AdmissionRefusal(RefusalReason.NEVER_FITS, text, None)
