"""A fraction of `make chaos`: every invariant under faults in virtual time; and the harness sees what is broken."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from scheduler_svc.core.fairness import FairShares
from scheduler_svc.core.placing import Round
from scheduler_svc.executions import Executions
from scheduler_svc.outbox import Outbox
from scheduler_svc.shell import Shell
from tests.fault.world import kind_of, run_seed
from worker_svc.step_filler import Filler

SEEDS = 20
FLOODED, CROWDED = 124, 399


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What services log in mid-fault is no news here."""
    before = structlog.get_config()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    yield
    gc.collect()  # what killed processes left behind ends while nobody listens
    structlog.configure(**before)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, 5))
def test_every_invariant_holds_under_faults(first: int) -> None:
    for seed in range(first, first + 5):
        result = run_seed(seed)
        assert not result.broken, f"python -m tests.fault.chaos --seed {seed}: {result.broken[:3]}"
        assert result.tokens > 0
        assert sum(result.faults.values()) >= 3


def test_one_seed_gives_the_same_decisions_and_tokens_byte_for_byte() -> None:
    for seed in (3, 46):
        assert run_seed(seed).digest == run_seed(seed).digest, f"seed {seed}: two runs differ (I9)"


def test_a_link_that_asks_for_no_replay_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness can fail: without replays, tokens are lost with every broken stream."""

    def resume(self: Any, held: Any, outbox: Outbox) -> None:
        del held
        self._outbox = outbox

    monkeypatch.setattr(Executions, "resume", resume)
    assert any(run_seed(seed, fault_count=8).broken for seed in range(12))


def test_tokens_that_come_twice_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness can fail: tokens that are delivered twice are seen by the clients."""
    deliver = Shell.deliver

    def twice(self: Any, request: Any, token_ids: Any, text: str) -> None:
        deliver(self, request, token_ids, text)
        if len(request.answer) == 3:
            deliver(self, request, token_ids, text)

    monkeypatch.setattr(Shell, "deliver", twice)
    assert any("I2" in what for what in run_seed(0).broken)


def test_waits_and_shares_hold_where_requests_press(monkeypatch: pytest.MonkeyPatch) -> None:
    """I6 under a flood, I7 in a crowd; and the harness can fail: without the seat of BE, without charges."""
    assert (kind_of(FLOODED), kind_of(CROWDED)) == ("flooded", "crowded")
    for seed in (FLOODED, CROWDED):
        result = run_seed(seed)
        assert not result.broken, f"python -m tests.fault.chaos --seed {seed}: {result.broken[:3]}"
        assert result.waits_kept > 0
    with monkeypatch.context() as broken:
        broken.setattr(Filler, "_give_share", lambda *_: None)
        broken.setattr(Round, "share", lambda _: None)
        assert any("I6" in what for what in run_seed(FLOODED).broken)
    with monkeypatch.context() as broken:
        broken.setattr(FairShares, "_charge", lambda *_: None)
        assert any("I7" in what for what in run_seed(CROWDED).broken)
