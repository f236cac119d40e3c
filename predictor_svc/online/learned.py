"""Corrections and contests as named arrays, and back; parts of several owners in one set of names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictor_svc.models.base import below, prefixed
from predictor_svc.online.contest import Contest
from predictor_svc.online.correction import Group
from predictor_svc.online.packing import packed, unpacked
from predictor_svc.predictors.base import Arrays

GroupKey: TypeAlias = tuple[str, str, int]
"""Model, tenant, and 0 for first questions, 1 for later ones."""

PARTS = ("calibration", "history", "inner")


def joined(parts: Mapping[str, Arrays]) -> dict[str, NDArray[Any]]:
    """One set of names for all parts."""
    return {name: array for part, arrays in parts.items() for name, array in prefixed(part, arrays).items()}


def parted(arrays: Arrays) -> dict[str, dict[str, NDArray[Any]]]:
    """The parts again."""
    return {part: below(part, arrays) for part in PARTS}


def kept_groups(
    about: Mapping[str, str], groups: Mapping[GroupKey, Group], contests: Mapping[tuple[str, str], Contest]
) -> dict[str, NDArray[Any]]:
    """Groups and contests, least lately used first."""
    columns = [group.columns() for group in groups.values()]
    nothing = (np.empty(0, np.float32), np.empty(0, np.bool_), np.empty(0, np.uint32))
    z, ended, who = (np.concatenate(column) for column in zip(nothing, *columns, strict=True))
    return {
        "about": packed(about),
        "groups": packed([[*key, group.facts()] for key, group in groups.items()]),
        "contests": packed([[*key, contest.facts()] for key, contest in contests.items()]),
        "counts": np.array([len(column[0]) for column in columns], np.int32),
        "z": z,
        "ended": ended.astype(np.uint8),
        "who": who,
    }


def restored_groups(
    arrays: Arrays, about: Mapping[str, str]
) -> tuple[OrderedDict[GroupKey, Group], OrderedDict[tuple[str, str], Contest]] | None:
    """From `kept_groups`; None where they are about another predictor or other weights.

    Raises:
        ValueError, KeyError, TypeError: arrays that are not that.
    """
    if not arrays or unpacked(arrays["about"]) != dict(about):
        return None
    groups: OrderedDict[GroupKey, Group] = OrderedDict()
    at = 0
    for (model, tenant, stage, facts), count in zip(unpacked(arrays["groups"]), arrays["counts"].tolist(), strict=True):
        part = slice(at, at + count)
        z, ended, who = arrays["z"][part], arrays["ended"][part].astype(np.bool_), arrays["who"][part]
        if count < 0 or len(z) != count:
            raise ValueError("groups and places don't belong together")
        groups[str(model), str(tenant), int(stage)] = Group.restored(z, ended, who, facts)
        at += count
    contests = OrderedDict(
        ((str(model), str(tenant)), Contest.restored(facts)) for model, tenant, facts in unpacked(arrays["contests"])
    )
    return groups, contests
