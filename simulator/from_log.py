"""Recorded traffic under another policy: "what would it have done with yesterday's traffic?"

Arrivals, prompts, classes, targets, tenants with their weights and true lengths are the recorded ones, and so is what
the predictor said, when it was asked, and how long that took. Workers have the sizes that they described and the pace
that they learned; they come up when they did and are not lost. The core and the step order are the code that serves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from fairlead.lengths import LengthDistribution
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import TenantsChanged, TenantTerms, WorkerUp
from simulator.figures import Origin, Row, rows_of
from simulator.policies import Choice, find_placements, find_policies, parse_choice
from simulator.predictor import Answer, Predictor
from simulator.recorded import Answers, Traffic
from simulator.run import run_to_the_end
from simulator.world import Machine, Request, World
from worker_svc.engines.simulated_core import SimulatedLimits
from worker_svc.ordering import StepModel

RECORDED = "recorded"
"""Name of the row that says how it went when it was recorded."""
AS_RECORDED = 1.0
UNKNOWN_KV_TOKENS = 1_000_000
UNKNOWN_BLOCK_TOKENS = 16
NOTHING = LengthDistribution.from_point(1.0)


class RecordedPredictor:
    """Says of each request what was said when it was recorded, at the latest point not beyond the tokens that are out.

    Args:
        answers: by job id.
    """

    def __init__(self, answers: dict[int, Answers]) -> None:
        self._answers = {job_id: sorted(said, key=_asked_at) for job_id, said in answers.items() if said}

    def predict(self, job_id: int, answer_tokens: int, generated_tokens: int) -> Answer:  # noqa: ARG002
        """The recorded answer after the recorded delay; never where there was none."""
        said = self._answers.get(job_id)
        if said is None:
            return None, NOTHING
        place = bisect_right(said, generated_tokens, key=_asked_at)
        _, delay_ms, law = said[max(0, place - 1)]
        return (None, NOTHING) if law is None else (delay_ms, law)


class KnowingPredictor:
    """Knows each length, for policies that are told it."""

    def predict(self, job_id: int, answer_tokens: int, generated_tokens: int) -> Answer:  # noqa: ARG002
        """At once."""
        return 0.0, LengthDistribution.from_point(answer_tokens, source="oracle")


def replay(
    traffic: Traffic, choice: Choice, token_budget: int, seed: int, progress: Callable[[float], None] | None = None
) -> list[Row]:
    """The rows of recorded traffic under a policy."""
    offered = [_fresh(request) for request in traffic.offered]
    if choice.ls_alone:
        offered = [request for request in offered if request.spec.latency_sensitive]
    bound = len(offered) + 1
    core = SchedulerCore(
        choice.name, choice.settings, Limits(bound, bound), policies=find_policies(), placements=find_placements()
    )
    world = World(core, _predictor(traffic, choice), seed=seed)
    for at_ms, terms in traffic.terms:  # without their limits: who was refused then is not in the recording
        world.at(at_ms, world.tell, TenantsChanged(tuple(TenantTerms(each.name, each.weight) for each in terms)))
    for worker in traffic.workers:
        world.at(worker.up_ms, _come_up, world, machine_of(worker.up, choice, token_budget))
    run_to_the_end(world, offered, progress)
    rules = choice.settings.step_rules(find_policies()[choice.name](choice.settings).rules())
    origin = Origin(traffic.name, choice.text, AS_RECORDED, rules.class_tiers and rules.relegate_late)
    return rows_of(origin, offered, pace_of(traffic), choice.token_budget or token_budget)


def as_recorded(traffic: Traffic, token_budget: int) -> list[Row]:
    """The rows of how it went live, by the times at which the scheduler had the tokens."""
    origin = Origin(traffic.name, f"{RECORDED} ({traffic.policy})", AS_RECORDED)
    return rows_of(origin, traffic.served, pace_of(traffic), token_budget)


def recorded_choice(text: str, traffic: Traffic) -> Choice:
    """One policy as the command line names it; `recorded`: that of the recording as it was set. Raises PolicyError."""
    if text == RECORDED:
        return Choice(f"{traffic.policy} again", traffic.policy, traffic.settings)
    return parse_choice(text)


def pace_of(traffic: Traffic) -> StepModel:
    """The step model that slowdown is reckoned with: of the first worker."""
    return _model(traffic.workers[0].up)


def machine_of(up: WorkerUp, choice: Choice, token_budget: int) -> Machine:
    """A recorded worker, with the sizes that the policy asks for."""
    seats = choice.seats or up.step_seats
    slots = choice.slots or max(up.slots, seats)
    block_tokens = up.kv_block_tokens or UNKNOWN_BLOCK_TOKENS
    blocks = up.kv_blocks or UNKNOWN_KV_TOKENS // block_tokens
    limits = SimulatedLimits(choice.token_budget or token_budget, min(seats, slots), slots, blocks, block_tokens)
    return Machine(limits, _model(up), up.max_held)


def _model(up: WorkerUp) -> StepModel:
    cost = up.cost
    return StepModel(cost.c0_ms, cost.c1_ms_per_prefill_token, cost.c2_ms_per_decode, cost.c3_ms_per_context_token)


def _predictor(traffic: Traffic, choice: Choice) -> Predictor | None:
    if choice.tau == 0.0:
        return None
    return KnowingPredictor() if choice.tau == 1.0 else RecordedPredictor(traffic.answers)


def _come_up(world: World, machine: Machine) -> None:
    world.add_worker(machine)


def _fresh(request: Request) -> Request:
    return Request(request.spec, request.answer_tokens, arrival_ms=request.arrival_ms)


def _asked_at(said: tuple[int, float, LengthDistribution | None]) -> int:
    return said[0]
