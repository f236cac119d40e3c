"""Token pacing on the reader's side."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from fairlead.client_stream import Event
from fairlead.client_types import Delta
from fairlead.pacing import Pacer, paced


class Clock:
    """Virtual time: sleeping moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


async def burst(tokens: int) -> AsyncGenerator[Event, None]:
    for first in range(tokens):
        yield Delta(first, 1, f"t{first} ")


def test_a_token_is_shown_a_tpot_after_the_one_before_or_when_it_comes() -> None:
    """By hand, 100 ms a token: at 0 come one token and three more, at 1000 another one."""
    pacer = Pacer(100.0)
    assert [pacer.due_ms(0.0, 1), pacer.due_ms(0.0, 3), pacer.due_ms(50.0, 1), pacer.due_ms(1000.0, 1)] == [
        0.0, 100.0, 400.0, 1000.0,
    ]  # fmt: skip


@pytest.mark.parametrize("tpot_ms", [0.0, -1.0, float("nan")])
def test_a_pace_that_is_none_is_refused(tpot_ms: float) -> None:
    with pytest.raises(ValueError, match="tpot_ms"):
        Pacer(tpot_ms)


async def test_a_burst_is_shown_at_an_even_rate_whole_and_in_order() -> None:
    clock = Clock()
    shown = [
        (clock.now_s, event.text)
        async for event in paced(burst(4), 50.0, clock_s=clock, sleep=clock.sleep)
        if isinstance(event, Delta)
    ]
    assert [text for _, text in shown] == ["t0 ", "t1 ", "t2 ", "t3 "]
    assert [at for at, _ in shown] == pytest.approx([0.0, 0.05, 0.10, 0.15])


async def test_an_error_comes_after_what_came_before_it() -> None:
    async def broken() -> AsyncGenerator[Event, None]:
        yield Delta(0, 1, "a")
        raise ConnectionError("gone")

    clock, seen = Clock(), list[Event]()
    with pytest.raises(ConnectionError, match="gone"):
        async for event in paced(broken(), 50.0, clock_s=clock, sleep=clock.sleep):
            seen.append(event)
    assert seen == [Delta(0, 1, "a")]


async def test_closing_it_closes_the_stream() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            async for event in burst(1_000):
                yield event
        finally:
            closed.append(True)

    clock = Clock()
    events = paced(endless(), 50.0, clock_s=clock, sleep=clock.sleep)
    await anext(events)
    await events.aclose()
    assert closed == [True]
