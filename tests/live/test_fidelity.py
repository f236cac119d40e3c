"""`python -m bench.fidelity` from end to end, on the simulated engine in real time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.live
def test_the_same_requests_live_and_in_virtual_time(tmp_path: Path) -> None:
    out, rows_file = tmp_path / "out", tmp_path / "rows.json"
    said = subprocess.run(
        [sys.executable, "-m", "bench.fidelity", "--quick", "--engine", "simulated", "--predictor", "history",
         "--policy", "fcfs,slo", "--load", "0.7", "--out", str(out), "--json", str(rows_file)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    told = json.loads(rows_file.read_text())
    about, rows = told["about"], told["rows"]
    assert about["finished"] == {"fcfs": about["requests"], "slo": about["requests"]}
    assert {(row["policy"], row["class"]) for row in rows} == {
        (policy, name) for policy in ("fcfs", "slo") for name in ("all", "ls", "be")
    }
    # The simulated engine's step times are known exactly, and the recording tells them.
    assert about["learned"]["step_model"]["c0_ms"] == pytest.approx(6.0)
    assert (out / "fidelity.png").stat().st_size > 5_000
