"""What tests of policies begin with: jobs, and a core with one worker that does what it is told."""

from __future__ import annotations

from dataclasses import replace

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.policies import BUILT_IN, Pace, Policy
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import (
    Arrived,
    Assign,
    Decision,
    Job,
    OptionValue,
    PolicySettings,
    Predicted,
    Reorder,
    StepCost,
    WorkerUp,
)

ONE_MS_A_TOKEN = Pace(StepCost(1.0, 0.0, 0.0, 0.0), seats=1)
"""A step takes 1 ms, prefill nothing: lengths in tokens are times in ms."""


def point(tokens: float) -> LengthDistribution:
    return LengthDistribution.from_point(tokens)


def policy_of(name: str, **options: OptionValue) -> Policy:
    return BUILT_IN[name](PolicySettings(options=tuple(options.items())))


def job_of(job_id: int = 1, tokens: float = 100, *, ls: bool = False, arrival_ms: float = 0.0, **spec: object) -> Job:
    """A waiting job whose answer is predicted to have `tokens`."""
    arrived = Arrived(job_id, "acme", "demo", ls, 1000.0, 50.0, prompt_tokens=10, max_tokens=4096)
    job = Job(replace(arrived, **spec), arrival_ms, point(tokens))
    job.predicted = job.distribution
    return job


def key_of(policy: Policy, job: Job, now_ms: float = 0.0, pace: Pace = ONE_MS_A_TOKEN) -> tuple[float, float]:
    """Its key as the core would make it."""
    job.cost = policy.cost(job, pace)
    return policy.key(job, now_ms)


def order_of(policy: Policy, jobs: list[Job], now_ms: float = 0.0, pace: Pace = ONE_MS_A_TOKEN) -> list[int]:
    """Ids, most urgent first."""
    return [job.job_id for job in sorted(jobs, key=lambda job: (key_of(policy, job, now_ms, pace), job.job_id))]


def core_of(
    policy: str, seats: int = 2, policies: dict[str, type[Policy]] | None = None, **options: OptionValue
) -> SchedulerCore:
    """A core with one worker of 8 slots, nothing held in advance."""
    settings = PolicySettings(be_share=0.0, options=tuple(options.items()))
    core = SchedulerCore(policy, settings, Limits(look_ahead=0), policies=policies or BUILT_IN)
    core.handle(WorkerUp("w1", "demo", 8, seats, kv_blocks=1000, kv_block_tokens=32, max_held=64), 0.0)
    core.tick(0.0)
    return core


def arrive(core: SchedulerCore, job_id: int, tokens: float, now_ms: float = 0.0, **spec: object) -> None:
    """A request comes, and with it what is predicted of it."""
    core.handle(job_of(job_id, **spec).spec, now_ms)  # type: ignore[arg-type]
    core.handle(Predicted(job_id, 0, point(tokens)), now_ms)


def assigned(decisions: list[Decision]) -> list[int]:
    return [decision.job_id for decision in decisions if isinstance(decision, Assign)]


def last_order(decisions: list[Decision]) -> tuple[int, ...]:
    return [decision for decision in decisions if isinstance(decision, Reorder)][-1].job_ids
