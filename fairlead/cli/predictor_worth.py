"""`fairlead predictor evaluate` asks here what predictions are worth in a scheduler: the simulator answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairlead.lengths import LengthDistribution


def measure_worth(
    answers: Sequence[tuple[int, int]],
    said: Mapping[str, Sequence[Sequence[tuple[int, LengthDistribution]]]],
    told: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Mean JCT and LS goodput with each predictor, between `fcfs` and one that knows; see `simulator.worth.worth`."""
    from simulator.worth import Answer, worth  # noqa: PLC0415 - the core: only when it is called

    return worth([Answer(prompt, output) for prompt, output in answers], said, told=told)
