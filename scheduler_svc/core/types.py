"""The words that the core and its shells speak, in one place: events go in, decisions come out, and both are of jobs.

They are made in `events.py`, `decisions.py`, `job.py` and `settings.py`.
"""

from __future__ import annotations

from scheduler_svc.core.decisions import (
    AskPrediction,
    Assign,
    CancelOn,
    Decision,
    End,
    PolicyFault,
    Reorder,
    Rules,
)
from scheduler_svc.core.events import (
    DEFAULT_COST,
    AdmitRefusal,
    Arrived,
    AssignRefused,
    CancelRequested,
    Change,
    Event,
    ExecutionEnded,
    Outcome,
    PolicyChanged,
    Predicted,
    StepCost,
    Stepped,
    TenantsChanged,
    WorkerLost,
    WorkerUp,
    WorkerUpdated,
)
from scheduler_svc.core.job import (
    Job,
)
from scheduler_svc.core.settings import (
    OptionValue,
    PolicySettings,
    TenantTerms,
)

__all__ = [
    "DEFAULT_COST",
    "AdmitRefusal",
    "Arrived",
    "AskPrediction",
    "Assign",
    "AssignRefused",
    "CancelOn",
    "CancelRequested",
    "Change",
    "Decision",
    "End",
    "Event",
    "ExecutionEnded",
    "Job",
    "OptionValue",
    "Outcome",
    "PolicyChanged",
    "PolicyFault",
    "PolicySettings",
    "Predicted",
    "Reorder",
    "Rules",
    "StepCost",
    "Stepped",
    "TenantTerms",
    "TenantsChanged",
    "WorkerLost",
    "WorkerUp",
    "WorkerUpdated",
]
