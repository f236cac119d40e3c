"""What a user is told where a GPU is asked for and none is there."""

from __future__ import annotations

from pathlib import Path

from fairlead import gpu_check


def test_a_machine_without_a_driver_is_told_apart_from_one_with(tmp_path: Path) -> None:
    assert not gpu_check.has_driver(tmp_path)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").touch()
    assert gpu_check.has_driver(tmp_path)
