"""What a user is told where a GPU is asked for and none is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead import gpu_check
from worker_svc.engines.base import EngineFailed
from worker_svc.engines.vllm_setup import check_gpu


def test_a_worker_for_gpus_that_sees_none_says_what_helps(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"needs a GPU and none can be seen here; install its driver.*worker-cpu"):
        check_gpu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidiactl").touch()
    check_gpu(tmp_path)


def test_a_machine_without_a_driver_is_told_apart_from_one_with(tmp_path: Path) -> None:
    assert not gpu_check.has_driver(tmp_path)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").touch()
    assert gpu_check.has_driver(tmp_path)
