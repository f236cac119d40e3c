"""Between the contract's messages and the core's types."""

from __future__ import annotations

from dataclasses import asdict

from fairlead.steps import Chunking
from fairlead.v1 import types_pb2, worker_pb2
from scheduler_svc.core.types import AdmitRefusal, Change, Outcome, Rules, StepCost

OUTCOME_TO_WIRE = {
    Outcome.STOP: types_pb2.OUTCOME_STOP,
    Outcome.LENGTH: types_pb2.OUTCOME_LENGTH,
    Outcome.CANCELLED_BY_CLIENT: types_pb2.OUTCOME_CANCELLED_BY_CLIENT,
    Outcome.CANCELLED_BY_OPERATOR: types_pb2.OUTCOME_CANCELLED_BY_OPERATOR,
    Outcome.EXPIRED: types_pb2.OUTCOME_EXPIRED,
    Outcome.SLOW_READER: types_pb2.OUTCOME_SLOW_READER,
    Outcome.FAILED_ENGINE: types_pb2.OUTCOME_FAILED_ENGINE,
    Outcome.FAILED_WORKER_LOST: types_pb2.OUTCOME_FAILED_WORKER_LOST,
    Outcome.FAILED_INTERNAL: types_pb2.OUTCOME_FAILED_INTERNAL,
}
OUTCOME_FROM_WIRE = {number: outcome for outcome, number in OUTCOME_TO_WIRE.items()}

CHANGE_FROM_WIRE = {
    worker_pb2.SEQUENCE_CHANGE_KIND_STARTED: Change.STARTED,
    worker_pb2.SEQUENCE_CHANGE_KIND_PAUSED: Change.PAUSED,
    worker_pb2.SEQUENCE_CHANGE_KIND_RESUMED: Change.RESUMED,
    worker_pb2.SEQUENCE_CHANGE_KIND_EVICTED: Change.EVICTED,
}

_REFUSAL_FROM_WIRE = {
    worker_pb2.ADMIT_REFUSAL_REASON_FULL: AdmitRefusal.FULL,
    worker_pb2.ADMIT_REFUSAL_REASON_DRAINING: AdmitRefusal.DRAINING,
    worker_pb2.ADMIT_REFUSAL_REASON_INVALID: AdmitRefusal.INVALID,
    worker_pb2.ADMIT_REFUSAL_REASON_DUPLICATE: AdmitRefusal.DUPLICATE,
}

_CHUNKING_TO_WIRE: dict[Chunking, worker_pb2.ChunkSizing] = {
    "auto": worker_pb2.CHUNK_SIZING_UNSPECIFIED,
    "fixed": worker_pb2.CHUNK_SIZING_FIXED,
    "slack": worker_pb2.CHUNK_SIZING_SLACK,
}


def class_to_wire(latency_sensitive: bool) -> types_pb2.ServiceClass:
    """The contract's name of a class."""
    if latency_sensitive:
        return types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE
    return types_pb2.SERVICE_CLASS_BEST_EFFORT


def refusal_from_wire(reason: worker_pb2.AdmitRefusalReason) -> AdmitRefusal:
    """Why a worker refused; what is unknown to this release counts as INVALID, which is not tried again."""
    return _REFUSAL_FROM_WIRE.get(reason, AdmitRefusal.INVALID)


def rules_to_wire(rules: Rules) -> worker_pb2.StepRules:
    """How a step is filled, for the worker."""
    fields = asdict(rules)
    del fields["chunking"]
    return worker_pb2.StepRules(**fields, chunking=_CHUNKING_TO_WIRE[rules.chunking])


def cost_from_wire(model: worker_pb2.StepModel) -> StepCost | None:
    """A worker's step-time model; None where it told none, or one that can't be reckoned with."""
    values = (model.c0_ms, model.c1_ms_per_prefill_token, model.c2_ms_per_decode, model.c3_ms_per_context_token)
    if not all(0.0 <= value < 1e6 for value in values) or not any(values):  # NaN is not
        return None
    return StepCost(*values)
