"""A fraction of `make chaos-live`: real processes killed, stopped and cut off under load; no token lost or repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.chaos_live import chaos

pytestmark = pytest.mark.live
FAULTS = {"scheduler killed": 1, "worker killed": 1, "worker stopped": 1, "link reset": 1, "predictor killed": 1}


async def test_no_token_is_lost_or_repeated_over_killed_processes_and_broken_links(tmp_path: Path) -> None:
    result = await chaos(tmp_path, seed=1, requests=80, job_lines=40, faults=FAULTS, vllm=False, tls=True)
    assert not result["wrong"], f"seed {result['seed']}: {result['wrong'][:3]}"
    assert result["faults"] == FAULTS
    assert result["requests"] >= 80
    assert result["job"]["lines_ended"] >= 40
    assert result["recovery_s"], "no fault met load"
