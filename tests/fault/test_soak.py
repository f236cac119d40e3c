"""A fraction of `make soak`: load that comes and goes leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.soak import soak


@pytest.mark.live
async def test_load_that_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    result = await soak(tmp_path, minutes=0.1, seed=0)
    # So short a run fills pools and caches: memory is judged by the long one.
    wrong = [what for what in result["wrong"] if "rss_mb" not in what]
    assert not wrong, wrong
    assert {"STOP", "LENGTH", "left", "NotFound", "CANCELLED_BY_CLIENT"} <= result["outcomes"].keys()
    assert all(figures["more_files"] <= 30 for figures in result["growth"].values())
