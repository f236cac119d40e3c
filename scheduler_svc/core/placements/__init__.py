"""Which of the workers with room takes a request: one small file a placement.

Reading guide: `base.py` is the interface; `min_load.py` is the default. A placement is one class and one entry point
of the group `fairlead.placements`; nothing else changes. Who has room is not asked here but in `core/placement.py`.
"""

from scheduler_svc.core.placements.base import Placement
from scheduler_svc.core.placements.freeness import Freeness
from scheduler_svc.core.placements.max_min import MaxMin
from scheduler_svc.core.placements.min_load import MinLoad
from scheduler_svc.core.placements.round_robin import RoundRobin
from scheduler_svc.core.placements.waiting_time import WaitingTime

BUILT_IN_PLACEMENTS: dict[str, type[Placement]] = {
    placement.name: placement for placement in (RoundRobin, MinLoad, Freeness, MaxMin, WaitingTime)
}

__all__ = ["BUILT_IN_PLACEMENTS", "Freeness", "MaxMin", "MinLoad", "Placement", "RoundRobin", "WaitingTime"]
