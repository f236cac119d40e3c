"""What the order is: one small file a policy.

Reading guide: `base.py` is the interface, `options.py` its settings, `making.py` finds one by name, `guard.py` says
what holds when one fails. `slo.py` is the default, `planned.py` what `sorted_f` and `anneal` share; every other file is
one policy. A policy is one class and one entry point of the group `fairlead.policies`; nothing else changes.
docs/policies says which to choose when.
"""

from scheduler_svc.core.policies.anneal import Anneal
from scheduler_svc.core.policies.base import BrokenPolicy, Pace, Policy, Room, UnknownPolicy
from scheduler_svc.core.policies.doubling_budget import DoublingBudget
from scheduler_svc.core.policies.edf import Edf
from scheduler_svc.core.policies.fcfs import Fcfs
from scheduler_svc.core.policies.gittins import Gittins
from scheduler_svc.core.policies.goodput import Goodput
from scheduler_svc.core.policies.hrrn import Hrrn
from scheduler_svc.core.policies.hybrid_slo import HybridSlo
from scheduler_svc.core.policies.interval_min import IntervalMin
from scheduler_svc.core.policies.isrtf import Isrtf
from scheduler_svc.core.policies.making import make_policy
from scheduler_svc.core.policies.memory_time import MemoryTime
from scheduler_svc.core.policies.mlfq import Mlfq
from scheduler_svc.core.policies.options import BadOption, OptionInfo, PolicyError
from scheduler_svc.core.policies.priority import Priority
from scheduler_svc.core.policies.qoe import Qoe
from scheduler_svc.core.policies.rank import Rank
from scheduler_svc.core.policies.slo import Slo
from scheduler_svc.core.policies.sorted_f import SortedF
from scheduler_svc.core.policies.srpt import Srpt
from scheduler_svc.core.policies.srpt_limited import SrptLimited
from scheduler_svc.core.policies.ssjf import Ssjf
from scheduler_svc.core.policies.tail_penalty import TailPenalty

_ALL: tuple[type[Policy], ...] = (
    Fcfs,
    Priority,
    Edf,
    Ssjf,
    Srpt,
    Isrtf,
    SrptLimited,
    Rank,
    Mlfq,
    Hrrn,
    TailPenalty,
    IntervalMin,
    HybridSlo,
    Goodput,
    Qoe,
    MemoryTime,
    SortedF,
    DoublingBudget,
    Anneal,
    Gittins,
    Slo,
)
BUILT_IN: dict[str, type[Policy]] = {policy.name: policy for policy in _ALL}

__all__ = [
    "BUILT_IN",
    "BadOption",
    "BrokenPolicy",
    "Fcfs",
    "Isrtf",
    "OptionInfo",
    "Pace",
    "Policy",
    "PolicyError",
    "Room",
    "Slo",
    "UnknownPolicy",
    "make_policy",
]
