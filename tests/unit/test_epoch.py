"""The leadership epoch grows over restarts, and a file that can't be trusted stops the start."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scheduler_svc.epoch import BadEpoch, default_state_dir, hold_folder, next_epoch, note_epoch


def test_it_begins_with_one_and_grows(tmp_path: Path) -> None:
    assert [next_epoch(tmp_path / "new" / "folder") for _ in range(3)] == [1, 2, 3]


def test_starts_at_once_get_different_epochs(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(next_epoch, [tmp_path] * 40))
    assert sorted(taken) == list(range(1, 41))


@pytest.mark.parametrize("content", [b"", b"x", b"-3", b"1.5", b"\xff\xfe", b"99999999999999999999"])
def test_a_corrupt_file_stops_the_start_and_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch").write_bytes(content)
    with pytest.raises(BadEpoch, match="write into it a whole number"):
        next_epoch(tmp_path)
    assert (tmp_path / "epoch").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadEpoch, match="set another folder"):
        next_epoch(tmp_path / "file" / "state")


def test_a_half_written_number_is_never_read(tmp_path: Path) -> None:
    next_epoch(tmp_path)
    (tmp_path / "epoch.new").write_text("")  # what a crash in the middle of a start leaves
    assert next_epoch(tmp_path) == 2


def test_the_default_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.fspath(tmp_path))
    assert default_state_dir() == tmp_path / "fairlead"


def test_one_scheduler_has_a_folder_at_a_time(tmp_path: Path) -> None:
    held = hold_folder(tmp_path)
    with pytest.raises(BadEpoch, match=rf"another scheduler \(process {os.getpid()}\) runs with .*stop that one first"):
        hold_folder(tmp_path)
    held.close()
    hold_folder(tmp_path).close()


def test_a_newer_epoch_that_was_seen_is_surpassed_at_the_next_start(tmp_path: Path) -> None:
    assert next_epoch(tmp_path) == 1
    note_epoch(tmp_path, 41)
    note_epoch(tmp_path, 7)
    assert next_epoch(tmp_path) == 42
