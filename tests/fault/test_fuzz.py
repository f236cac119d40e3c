"""A fraction of `make fuzz`: hostile messages to each service as a real process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.v1 import inference_pb2, worker_pb2
from tests.fault.hostile import Hostile

MESSAGES = 3000


@pytest.mark.live
def test_hostile_messages_get_a_typed_answer_and_harm_nobody(tmp_path: Path) -> None:
    """In a process of its own: gRPC's thread belongs to one event loop, and calls that were left open outlive it."""
    command = [sys.executable, "-m", "tests.fault.fuzz", "--messages", str(MESSAGES), "--json", str(tmp_path / "fuzz")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout[-3000:]}"
    for result in json.loads((tmp_path / "fuzz").read_text()):
        assert result["messages"] >= MESSAGES
        assert result["statuses"]["INVALID_ARGUMENT"] > 50
        assert result["statuses"]["OK"] > 50


def test_what_is_sent_follows_from_the_seed() -> None:
    made = []
    for _ in range(2):
        hostile = Hostile(random.Random(5))
        made.append([hostile.data(worker_pb2.ExecuteRequest.DESCRIPTOR) for _ in range(200)])
    assert made[0] == made[1]
    readable = 0
    for data in made[0]:
        try:
            worker_pb2.ExecuteRequest.FromString(data)
            readable += 1
        except Exception:
            continue
    assert 80 < readable < 190, "both messages and damaged ones"


def test_a_sound_message_is_disturbed_in_one_place() -> None:
    hostile = Hostile(random.Random(1))
    sound = inference_pb2.GenerateRequest(text="hello", request_id="r")
    made = {hostile.disturbed(sound).SerializeToString() for _ in range(50)}
    assert len(made) > 10
