"""The last event of a request: how it ended, what it used, and what the scheduler did with it."""

from __future__ import annotations

from fairlead.length_wire import to_wire
from fairlead.v1 import inference_pb2, predictor_pb2, types_pb2
from scheduler_svc.core.types import End, Job
from scheduler_svc.requests import Request
from scheduler_svc.wire import OUTCOME_TO_WIRE, class_to_wire


def finished(request: Request, job: Job, end: End, policy: str, now_ms: float) -> inference_pb2.Finished:
    """What the client is told last."""
    return inference_pb2.Finished(
        outcome=OUTCOME_TO_WIRE[end.outcome],
        usage=types_pb2.Usage(
            prompt_tokens=request.accepted.prompt_tokens,
            cached_prompt_tokens=request.cached_prompt_tokens,
            output_tokens=len(request.answer),
        ),
        decision=_decision(request, job, policy, now_ms),
        detail=end.detail,
        matched_stop=request.matched_stop,
    )


def observation(request: Request, job: Job, end: End) -> predictor_pb2.Observation:
    """What the predictor learns from."""
    return predictor_pb2.Observation(
        model=request.accepted.model,
        tenant=request.accepted.tenant,
        service_class=class_to_wire(request.latency_sensitive),
        prompt_tokens=request.accepted.prompt_tokens,
        max_tokens=request.accepted.max_tokens,
        output_tokens=len(request.answer),
        outcome=OUTCOME_TO_WIRE[end.outcome],
        predicted=to_wire(job.predicted) if job.predicted is not None else None,
    )


def _decision(request: Request, job: Job, policy: str, now_ms: float) -> types_pb2.Decision:
    placed_ms = job.first_assigned_ms if job.first_assigned_ms is not None else now_ms
    decision = types_pb2.Decision(
        effective_class=class_to_wire(request.latency_sensitive and not job.relegated),
        policy=policy,
        queue_ms=placed_ms - job.arrival_ms,
        evictions=job.evictions,
        pauses=job.pauses,
        attempts=job.attempt,
        worker_id=request.worker_id,
        predictions=job.predictions,
    )
    if job.first_token_ms is not None:
        decision.ttft_ms = job.first_token_ms - job.arrival_ms
    if job.predicted is not None:
        decision.predicted_p50_tokens = job.predicted.quantile(0.5)
        decision.predicted_p90_tokens = job.predicted.quantile(0.9)
        decision.predictor = job.predicted.source
    return decision
