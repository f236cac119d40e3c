"""A recorded run once more, in virtual time: the same requests, lengths and predictions, the simulator's own steps."""

from __future__ import annotations

from dataclasses import replace

from bench.fidelity.recorded import RecordedRun, Seen
from fairlead.steps import StepModel
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from simulator.figures import finished
from simulator.from_log import RecordedPredictor, machine_of
from simulator.policies import Choice, find_placements, find_policies
from simulator.run import run_to_the_end
from simulator.worker import Network
from simulator.world import MODEL, Request, World


def simulate_again(run: RecordedRun, model: StepModel, *, token_budget: int, network: Network, seed: int) -> list[Seen]:
    """Simulates what was recorded; what came of each request, in the order of the recording.

    Args:
        run: what was recorded; requests that brought no token are left out, on both sides.
        model: of the step time, on every worker.
        token_budget: tokens in a step, which a recording does not tell.
        network: delays between scheduler and worker.
        seed: of those delays.
    """
    order = sorted(whole(run), key=lambda each: each.arrival_ms)
    start_ms = order[0].arrival_ms
    requests = [
        Request(
            replace(each.spec, job_id=index, model=MODEL, completion_ms=None, expires_ms=None, received_tokens=0),
            each.tokens,
            arrival_ms=each.arrival_ms - start_ms,
        )
        for index, each in enumerate(order)
    ]
    limits = Limits(len(order) + 1, len(order) + 1, look_ahead=run.look_ahead)
    choice = Choice(run.policy, run.policy, run.settings)
    core = SchedulerCore(run.policy, run.settings, limits, policies=find_policies(), placements=find_placements())
    predictor = RecordedPredictor({index: each.answers for index, each in enumerate(order)})
    world = World(core, predictor, network=network, seed=seed)
    for up in run.workers:
        world.add_worker(machine_of(replace(up, cost=model), choice, token_budget))
    run_to_the_end(world, requests, None)
    return [
        Seen(each.spec, each.arrival_ms, each.received, each.first_ms, each.last_ms, finished(each))
        for each in requests
    ]


def whole(run: RecordedRun) -> list[Seen]:
    """Requests of a run that finished with a token at least: those that can be compared."""
    return [each for each in run.requests.values() if each.finished and each.tokens]
