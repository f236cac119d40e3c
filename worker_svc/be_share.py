"""The share of an engine that the oldest BE request keeps, as a credit of turns: what bounds a BE request's wait (I6).

A turn is one seat in one step: one token of a decode, or a prefill of `be_share` of the token budget. Each step of an
engine with N seats brings `be_share` x N turns; a step in which the oldest BE request takes part, by the share or by
its rank, costs one. They are saved up to `BURST_TURNS` and spent in a burst, so that nobody is paused and resumed at
every step. In any n steps in which a BE request is the oldest and could run, it thus takes part in at least
min(n, be_share x N x n - MOST_TURNS) of them. With so many seats that each step brings a whole turn the seat is never
given back. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_TURNS = 50.0
"""As many as a window has tokens: order is made anew about as often."""

MOST_TURNS = BURST_TURNS + 1.0
"""So that the step that completes a burst loses nothing."""


@dataclass(frozen=True, slots=True)
class ShareCredit:
    """What the engine keeps from step to step.

    Attributes:
        turns: saved up, 0 to `MOST_TURNS`.
        spending: the oldest BE request has a seat now.
    """

    turns: float = BURST_TURNS
    spending: bool = True


FULL = ShareCredit()


def share_after(before: ShareCredit, earned: float, took_part: bool) -> ShareCredit:
    """The credit after a step.

    Args:
        before: that step.
        earned: turns that a step brings.
        took_part: whether the oldest BE request did.
    """
    turns = min(max(before.turns + earned - (1.0 if took_part else 0.0), 0.0), MOST_TURNS)
    if not before.spending:
        return ShareCredit(turns, turns >= BURST_TURNS)
    return ShareCredit(turns, turns >= 1.0 or not took_part)


def share_after_steps(before: ShareCredit, earned: float, took_part: bool, steps: int) -> ShareCredit:
    """The credit after so many steps of one kind; the same floats as one by one."""
    for _ in range(steps):
        after = share_after(before, earned, took_part)
        if after == before:
            break
        before = after
    return before


def steps_alike(before: ShareCredit, earned: float, took_part: bool, most: int) -> int:
    """In how many of the next steps of one kind `spending` is what it is now, `most` at the utmost."""
    spending = before.spending
    for step in range(most):
        if before.spending is not spending:
            return step
        after = share_after(before, earned, took_part)
        if after == before:
            break
        before = after
    return most
