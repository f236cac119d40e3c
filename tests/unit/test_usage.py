"""What tenants used: counted exactly, kept over restarts, rolled into days, never lost to a full or broken disk."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler_svc.tenants.usage import UsageMeter
from scheduler_svc.tenants.usage_store import DAY_S, HOUR_S, HOURS_KEPT_S, UsageStore

NOON_S = int(datetime(2026, 12, 1, 12, 30, tzinfo=UTC).timestamp())
EVER = (0, NOON_S + 400 * DAY_S)


class Clock:
    def __init__(self) -> None:
        self.now_s = float(NOON_S)

    def __call__(self) -> float:
        return self.now_s


def meter(folder: Path, clock: Clock, keep_days: float = 92) -> UsageMeter:
    return UsageMeter(UsageStore(folder, keep_days * DAY_S), clock)


async def refusals(usage: UsageMeter, tenant: str, start_s: int = EVER[0], end_s: int = EVER[1]) -> dict[str, int]:
    (found,) = await usage.export([tenant], start_s, end_s)
    return {what.removeprefix("refused:"): amount for (_, what), amount in found.sums.items()}


async def test_sums_are_exact_before_and_after_they_are_written(tmp_path: Path) -> None:
    clock = Clock()
    usage = meter(tmp_path, clock)
    for index in range(10):
        usage.refused("a", "QUEUE_FULL" if index % 2 else "DRAINING")
        if index == 4:
            await usage.flush()
    assert await refusals(usage, "a") == {"QUEUE_FULL": 5, "DRAINING": 5}
    assert await refusals(usage, "b") == {}
    await usage.flush()
    again = meter(tmp_path, clock)
    again.refused("a", "DRAINING")
    assert await refusals(again, "a") == {"QUEUE_FULL": 5, "DRAINING": 6}
    assert await again.tenants() == ["a"]


async def test_a_time_is_told_in_hours_and_long_ago_in_days(tmp_path: Path) -> None:
    clock = Clock()
    usage = meter(tmp_path, clock)
    for _ in range(3):
        usage.refused("a", "DRAINING")
        clock.now_s += HOUR_S
    hour = NOON_S // HOUR_S * HOUR_S
    assert await refusals(usage, "a", hour + HOUR_S, hour + 2 * HOUR_S) == {"DRAINING": 1}
    assert usage.rounded(NOON_S, NOON_S + 1) == (hour, hour + HOUR_S)
    clock.now_s += HOURS_KEPT_S + DAY_S
    await usage.flush()
    day = NOON_S // DAY_S * DAY_S
    assert usage.rounded(NOON_S, NOON_S + 1) == (day, day + DAY_S)
    assert await refusals(usage, "a", day, day + DAY_S) == {"DRAINING": 3}, "hours became a day, nothing twice"
    assert await usage.earliest_s() == day
    clock.now_s += 93 * DAY_S
    await usage.flush()
    assert await refusals(usage, "a") == {}, "and then it goes"


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20 * 24), st.sampled_from("abc"), st.booleans()), max_size=20))
async def test_no_tidying_changes_a_sum(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, str, bool]]
) -> None:
    clock = Clock()
    usage = meter(tmp_path_factory.mktemp("usage"), clock)
    for hours, tenant, flush in sorted(events):
        clock.now_s = NOON_S + hours * HOUR_S
        usage.refused(tenant, "DRAINING")
        if flush:
            await usage.flush()
    for tenant in "abc":
        count = sum(each == tenant for _, each, _ in events)
        assert (await refusals(usage, tenant)).get("DRAINING", 0) == count


async def test_what_can_not_be_written_is_counted_on_and_written_later(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    usage = meter(folder, Clock())
    usage.refused("a", "DRAINING")
    await usage.flush()
    await usage.flush()
    assert usage.problem
    assert await refusals(usage, "a") == {"DRAINING": 1}
    folder.unlink()
    await usage.flush()
    assert usage.problem == ""
    assert await refusals(meter(folder, Clock()), "a") == {"DRAINING": 1}


async def test_a_broken_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "usage.db").write_bytes(b"not a database" * 100)
    usage = meter(tmp_path, Clock())
    usage.refused("a", "DRAINING")
    assert await refusals(usage, "a") == {"DRAINING": 1}
    assert "not a database" in usage.problem
    await usage.flush()
    assert usage.problem == ""
    assert (tmp_path / "usage.db.damaged").exists()
    assert await refusals(meter(tmp_path, Clock()), "a") == {"DRAINING": 1}


async def test_a_file_that_another_holds_is_waited_for_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scheduler_svc.tenants.usage_store.BUSY_S", 0.01)
    usage = meter(tmp_path, Clock())
    usage.refused("a", "DRAINING")
    await usage.flush()
    with sqlite3.connect(tmp_path / "usage.db") as other:
        other.execute("BEGIN IMMEDIATE")
        usage.refused("a", "DRAINING")
        await usage.flush()
        assert "locked" in usage.problem
    other.close()
    await usage.flush()
    assert await refusals(meter(tmp_path, Clock()), "a") == {"DRAINING": 2}
