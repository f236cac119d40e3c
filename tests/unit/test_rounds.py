"""Streams take turns: at once while the loop has time, after a rest in proportion once messages take it all."""

from __future__ import annotations

import asyncio

from scheduler_svc.rounds import MAX_REST_S, MOST_AT_ONCE, REST, Rounds


class Stream:
    """Takes so long at each turn, by the clock that it is given."""

    def __init__(self, clock: list[float], takes_s: float = 0.0) -> None:
        self.turns = 0
        self._clock = clock
        self._takes_s = takes_s

    def take_turn(self) -> None:
        self.turns += 1
        asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._clock[0] += self._takes_s


async def turn_of_the_loop(times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_all_that_wait_have_one_turn_each_at_once() -> None:
    clock = [0.0]
    rounds, streams = Rounds(lambda: clock[0]), [Stream(clock) for _ in range(5)]
    for stream in streams * 3:
        rounds.wait(stream)
    await turn_of_the_loop()
    assert [stream.turns for stream in streams] == [1] * 5


async def test_a_round_of_many_leaves_the_loop_to_others_in_between() -> None:
    clock = [0.0]
    rounds, streams = Rounds(lambda: clock[0]), [Stream(clock) for _ in range(2 * MOST_AT_ONCE + 1)]
    for stream in streams:
        rounds.wait(stream)
    for served in (MOST_AT_ONCE, 2 * MOST_AT_ONCE, 2 * MOST_AT_ONCE + 1):
        await turn_of_the_loop()
        assert sum(stream.turns for stream in streams) == served
    assert {stream.turns for stream in streams} == {1}


async def test_rounds_that_take_no_time_follow_each_other_without_a_rest() -> None:
    clock = [0.0]
    rounds, stream = Rounds(lambda: clock[0]), Stream(clock)
    for expected in range(1, 6):
        rounds.wait(stream)
        await turn_of_the_loop(3)
        assert stream.turns == expected


async def test_after_a_round_that_took_long_tokens_join_until_its_rest_is_over() -> None:
    loop, clock = asyncio.get_running_loop(), [0.0]
    rounds, stream = Rounds(lambda: clock[0]), Stream(clock, takes_s=0.01)
    rounds.wait(stream)
    begun_s = loop.time()
    await turn_of_the_loop(3)
    assert stream.turns == 1
    while stream.turns == 1:
        rounds.wait(stream)
        await turn_of_the_loop()
    assert loop.time() - begun_s >= REST * 0.01 - loop_resolution(loop)


async def test_a_rest_is_bounded() -> None:
    loop, clock = asyncio.get_running_loop(), [0.0]
    rounds, stream = Rounds(lambda: clock[0]), Stream(clock, takes_s=1000.0)
    rounds.wait(stream)
    await turn_of_the_loop(3)
    rounds.wait(stream)
    assert rounds._not_before_s <= loop.time() + MAX_REST_S


async def test_who_comes_while_others_send_is_not_forgotten() -> None:
    clock = [0.0]
    rounds, late = Rounds(lambda: clock[0]), Stream(clock)

    class Bringing(Stream):
        def take_turn(self) -> None:
            super().take_turn()
            rounds.wait(late)

    rounds.wait(Bringing(clock))
    await turn_of_the_loop(4)
    assert late.turns == 1


def loop_resolution(loop: asyncio.AbstractEventLoop) -> float:
    """A timer may come this much too early."""
    return getattr(loop, "_clock_resolution", 0.001)
