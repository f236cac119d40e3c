"""What the order is: one small file a policy.

Reading guide: `base.py` is the interface; `slo.py` is the default. A policy is one class and one entry point of the
group `fairlead.policies`; nothing else changes.
"""

from scheduler_svc.core.policies.base import Pace, Policy, UnknownPolicy
from scheduler_svc.core.policies.fcfs import Fcfs
from scheduler_svc.core.policies.isrtf import Isrtf
from scheduler_svc.core.policies.slo import Slo

BUILT_IN: dict[str, type[Policy]] = {policy.name: policy for policy in (Fcfs, Isrtf, Slo)}

__all__ = ["BUILT_IN", "Fcfs", "Isrtf", "Pace", "Policy", "Slo", "UnknownPolicy"]
