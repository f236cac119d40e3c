"""One worker's stream against the real shell and core: commands down, tokens up, and nothing twice after a break."""

from __future__ import annotations

import asyncio
import random
from array import array
from dataclasses import dataclass, field

import pytest

from fairlead.v1 import inference_pb2, types_pb2, worker_pb2
from scheduler_svc.answer import Answer
from scheduler_svc.core.admission import Limits
from scheduler_svc.core.scheduler import SchedulerCore
from scheduler_svc.core.types import Arrived, Outcome, PolicySettings, Rules, WorkerUp
from scheduler_svc.executions import BE_COALESCE_TOKENS, Executions
from scheduler_svc.outbox import MAX_COMMANDS, Outbox, WorkerDoesNotRead
from scheduler_svc.requests import Book, Request
from scheduler_svc.shell import Shell

STOP = types_pb2.OUTCOME_STOP


@dataclass
class Rig:
    """A shell with one worker whose stream is played by hand."""

    slots: int = 8
    shell: Shell = field(init=False)
    outbox: Outbox = field(init=False)
    executions: Executions = field(init=False)

    def __post_init__(self) -> None:
        core = SchedulerCore("fcfs", PolicySettings(), Limits())
        self.shell = Shell(core, Book(100, 1), max_buffered_tokens=10_000, clock_ms=lambda: 0.0)
        self.outbox = Outbox()
        self.executions = Executions("w/1", "w", self.shell, self.outbox)
        self.shell.worker_up(WorkerUp("w/1", "m", self.slots, self.slots, 100, 16, 64), self.executions)

    def accept(self, *, latency_sensitive: bool = True, received: list[int] | None = None) -> Request:
        handle = self.shell.book.next_handle()
        request = Request(
            handle=handle,
            accepted=inference_pb2.Accepted(
                request_id=f"r{handle}", tenant="t", model="m", prompt_tokens=3, max_tokens=50
            ),
            digest=b"", latency_sensitive=latency_sensitive, prompt_ids=array("I", [1, 2, 3]), prompt_text="p",
            sampling=types_pb2.SamplingParams(max_tokens=50, min_tokens=10, temperature=0.5), slo=types_pb2.Slo(),
            arrived_ms=0.0, expires_ms=1e9, resume_grace_ms=0, return_token_ids=False, length_hint=None,
            answer=Answer(received or []),
        )  # fmt: skip
        out = len(received or [])
        arrived = Arrived(handle, "t", "m", latency_sensitive, 1000.0, 50.0, 3, 50, received_tokens=out)
        self.shell.accept(request, arrived)
        return request

    async def commands(self) -> list[worker_pb2.ExecuteRequest]:
        """All that waits to be written, after the loop has turned."""
        await asyncio.sleep(0)
        written: list[worker_pb2.ExecuteRequest] = []
        while True:
            next_one = asyncio.ensure_future(self.outbox.next())
            await asyncio.sleep(0)
            if not next_one.done():
                next_one.cancel()
                return written
            written.append(next_one.result())

    def new_stream(self, held: list[worker_pb2.Held]) -> None:
        self.outbox = Outbox()
        self.executions.resume(held, self.outbox)


def kinds(commands: list[worker_pb2.ExecuteRequest]) -> list[str]:
    return [command.WhichOneof("command") or "" for command in commands]


def steps(
    handle: int, first: int, ids: list[int], text: str, *, attempt: int = 1, ends: bool = False
) -> worker_pb2.Steps:
    end = worker_pb2.ExecutionEnd(handle=handle, attempt=attempt, outcome=STOP, output_tokens=first + len(ids))
    return worker_pb2.Steps(
        handles=[handle], attempts=[attempt], first_tokens=[first], token_counts=[len(ids)], token_ids=ids,
        texts=[text], ends=[end] if ends else [],
    )  # fmt: skip


async def test_an_admission_carries_what_the_engine_needs() -> None:
    rig = Rig()
    interactive, batch = rig.accept(), rig.accept(latency_sensitive=False)
    first, second, ranks = await rig.commands()
    assert (first.admit.handle, first.admit.attempt, first.admit.request_key) == (
        interactive.handle, 1, f"t/{interactive.accepted.request_id}",
    )  # fmt: skip
    assert list(first.admit.token_ids) == [1, 2, 3]
    assert first.admit.sampling == interactive.sampling
    assert (first.admit.cache_salt, first.admit.coalesce_tokens) == (rig.shell.cache_salt("t"), 1)
    assert (second.admit.handle, second.admit.coalesce_tokens) == (batch.handle, BE_COALESCE_TOKENS)
    assert list(ranks.ranks.handles) == [interactive.handle, batch.handle]
    assert ranks.ranks.HasField("rules")


async def test_tokens_that_a_client_received_before_count_as_output() -> None:
    rig = Rig()
    request = rig.accept(received=[7, 8])
    admit = (await rig.commands())[0].admit
    assert (list(admit.token_ids), admit.forced_tokens) == ([1, 2, 3, 7, 8], 2)
    assert (admit.sampling.max_tokens, admit.sampling.min_tokens) == (48, 8)
    rig.executions.take_steps(steps(request.handle, 2, [9], " nine"))
    assert list(request.answer.tokens) == [7, 8, 9]


async def test_steps_of_another_attempt_or_of_nobody_are_dropped() -> None:
    rig = Rig()
    request = rig.accept()
    await rig.commands()
    rig.executions.take_steps(steps(request.handle, 0, [1], "a", attempt=2))
    rig.executions.take_steps(steps(999, 0, [1], "a"))
    assert len(request.answer) == 0


async def test_a_gap_asks_for_a_replay_and_nothing_counts_until_it_comes() -> None:
    rig = Rig()
    request = rig.accept()
    await rig.commands()
    rig.executions.take_steps(steps(request.handle, 0, [1], "a"))
    rig.executions.take_steps(steps(request.handle, 2, [3], "c"))
    rig.executions.take_steps(steps(request.handle, 3, [4], "d", ends=True))
    assert list(request.answer.tokens) == [1]
    (replay,) = await rig.commands()
    assert (replay.replay.handle, replay.replay.from_token) == (request.handle, 0)
    end = worker_pb2.ExecutionEnd(handle=request.handle, attempt=1, outcome=STOP, output_tokens=4)
    rig.executions.take_replay(
        worker_pb2.Replayed(
            handle=request.handle, attempt=1, first_token=0, token_ids=[1, 2, 3, 4], text="abcd", end=end
        )
    )
    (release,) = await rig.commands()
    assert list(release.release.handles) == [request.handle]
    assert request.finished is not None
    assert (request.finished.outcome, request.finished.usage.output_tokens) == (STOP, 4)
    assert request.answer.text() == "abcd"


async def test_an_end_that_knows_of_more_tokens_waits_for_the_replay() -> None:
    rig = Rig()
    request = rig.accept()
    await rig.commands()
    rig.executions.take_steps(
        worker_pb2.Steps(
            ends=[worker_pb2.ExecutionEnd(handle=request.handle, attempt=1, outcome=STOP, output_tokens=2)]
        )
    )
    assert kinds(await rig.commands()) == ["replay"]
    assert request.finished is None


@pytest.mark.parametrize("seed", range(30))
async def test_streams_that_break_anywhere_lose_and_repeat_neither_tokens_nor_text(seed: int) -> None:
    """The worker's side is played as it is built: pieces of text at tokens, text that comes late, replays in parts."""
    draw = random.Random(seed)
    rig = Rig()
    request = rig.accept(received=[0] * draw.choice([0, 0, 2]))
    base = len(request.answer)
    await rig.commands()
    ids = list(range(base, base + 40))
    pieces = [draw.choice(["", "x", f"<{index}>"]) for index in ids]
    made = sent = 0
    while sent < len(ids):
        made = min(len(ids), made + draw.randint(1, 6))
        if draw.random() < 0.4:  # the stream breaks; part of what was made may have arrived
            lost_after = draw.randint(sent, made)
            if lost_after > sent:
                rig.executions.take_steps(_part(request.handle, base, ids, pieces, sent, lost_after))
            held = worker_pb2.Held(handle=request.handle, attempt=1, output_tokens=base + made)
            rig.new_stream([held])
            assert kinds(await rig.commands())[0] == "replay"
            rig.executions.take_steps(_part(request.handle, base, ids, pieces, made, made))  # before the replay
            split = draw.randint(0, made)
            rig.executions.take_replay(
                worker_pb2.Replayed(
                    handle=request.handle, attempt=1, first_token=base, token_ids=ids[:split],
                    text="".join(pieces[:split]),
                )
            )  # fmt: skip
            if split < made:
                rig.executions.take_steps(_part(request.handle, base, ids, pieces, split, made))
        else:
            rig.executions.take_steps(_part(request.handle, base, ids, pieces, sent, made))
            if draw.random() < 0.3:  # text of tokens that were sent already
                pieces[made - 1] += "~"
                late = steps(request.handle, base + made, [], "~")
                if draw.random() < 0.7:
                    rig.executions.take_steps(late)
                else:  # ... and lost with the stream
                    rig.new_stream([worker_pb2.Held(handle=request.handle, attempt=1, output_tokens=base + made)])
                    rig.executions.take_replay(
                        worker_pb2.Replayed(
                            handle=request.handle, attempt=1, first_token=base, token_ids=ids[:made],
                            text="".join(pieces[:made]),
                        )
                    )  # fmt: skip
        sent = made
        assert list(request.answer.tokens[base:]) == ids[:made]
        assert request.answer.text() == "".join(pieces[:made])
    job = rig.shell.core.job(request.handle)
    assert job is not None
    assert job.output_tokens == len(request.answer)


def _part(handle: int, base: int, ids: list[int], pieces: list[str], begin: int, end: int) -> worker_pb2.Steps:
    return steps(handle, base + begin, ids[begin:end], "".join(pieces[begin:end]))


async def test_a_new_stream_sends_again_what_did_not_arrive_and_ends_what_is_not_wanted() -> None:
    rig = Rig()
    arrived, missed, cancelled, gone = (rig.accept() for _ in range(4))
    await rig.commands()
    rig.shell.cancel(cancelled, Outcome.CANCELLED_BY_CLIENT, "")
    rig.shell.cancel(gone, Outcome.CANCELLED_BY_CLIENT, "")
    await rig.commands()
    held = [
        worker_pb2.Held(handle=arrived.handle, attempt=1),
        worker_pb2.Held(handle=cancelled.handle, attempt=1),
        worker_pb2.Held(handle=5, attempt=1),
        worker_pb2.Held(handle=6, attempt=1, outcome=STOP),
    ]
    rig.new_stream(held)
    commands = await rig.commands()
    told = [(command.WhichOneof("command"), *_handles(command)) for command in commands]
    everything = (arrived.handle, missed.handle, cancelled.handle, gone.handle)  # it drops from an order what it lacks
    assert sorted(told[:-2]) == [
        ("admit", missed.handle),
        ("cancel", 5),
        ("cancel", cancelled.handle),
        ("replay", arrived.handle),
        ("replay", cancelled.handle),
    ]
    assert told[-2:] == [("ranks", *everything), ("release", 6)]
    assert rig.shell.core.workers["w/1"].leaving == {cancelled.handle}, "the other one is not there any more"


def _handles(command: worker_pb2.ExecuteRequest) -> list[int]:
    match command.WhichOneof("command"):
        case "admit":
            return [command.admit.handle]
        case "replay":
            return [command.replay.handle]
        case "cancel":
            return list(command.cancel.handles)
        case "ranks":
            return list(command.ranks.handles)
        case _:
            return list(command.release.handles)


async def test_a_worker_that_was_lost_gives_its_requests_back_with_what_is_out() -> None:
    rig = Rig()
    request = rig.accept()
    await rig.commands()
    rig.executions.take_steps(steps(request.handle, 0, [5, 6], "five six"))
    rig.shell.worker_lost("w/1")
    other_outbox = Outbox()
    other = Executions("w/2", "w2", rig.shell, other_outbox)
    rig.shell.worker_up(WorkerUp("w/2", "m", 8, 8, 100, 16, 64), other)
    rig.outbox = other_outbox
    admit = (await rig.commands())[0].admit
    assert (list(admit.token_ids), admit.forced_tokens, admit.attempt) == ([1, 2, 3, 5, 6], 2, 2)
    other.take_steps(steps(request.handle, 2, [7], " seven", attempt=2, ends=True))
    await rig.commands()
    assert request.finished is not None
    assert request.answer.text() == "five six seven"
    assert (request.finished.usage.prompt_tokens, request.finished.usage.output_tokens) == (3, 3)
    assert (request.finished.decision.attempts, request.finished.decision.worker_id) == (2, "w2")


async def test_arrays_that_do_not_fit_together_are_no_steps() -> None:
    rig = Rig()
    with pytest.raises(ValueError, match="zip"):
        rig.executions.take_steps(worker_pb2.Steps(handles=[1, 2], attempts=[1]))


async def test_the_newest_order_replaces_one_that_waits_and_keeps_its_rules() -> None:
    outbox = Outbox()
    outbox.order((1, 2), Rules(displace=True))
    outbox.order((2, 1), None)
    outbox.put(worker_pb2.ExecuteRequest(admit=worker_pb2.Admit(handle=3)))
    outbox.cancel([1])
    outbox.cancel([2])
    outbox.release(8)
    outbox.release(9)
    written = [await outbox.next() for _ in range(4)]
    assert kinds(written) == ["admit", "cancel", "ranks", "release"]
    assert list(written[1].cancel.handles) == [1, 2]
    assert (list(written[2].ranks.handles), written[2].ranks.rules.displace) == ([2, 1], True)
    assert list(written[3].release.handles) == [8, 9]
    outbox.order((3,), None)
    assert (await outbox.next()).ranks.version > written[2].ranks.version


async def test_a_worker_that_does_not_read_is_found_out() -> None:
    outbox = Outbox()
    for handle in range(MAX_COMMANDS + 1):
        outbox.put(worker_pb2.ExecuteRequest(replay=worker_pb2.Replay(handle=handle)))
    with pytest.raises(WorkerDoesNotRead):
        await outbox.next()


async def test_a_core_that_fails_decides_nothing_more_and_says_so() -> None:
    rig = Rig()
    request = rig.accept()
    rig.shell.worker_up(WorkerUp("w/1", "m", 8, 8, 100, 16, 64), rig.executions)
    assert "came up twice" in await rig.shell.died
    assert await rig.commands() == []
    assert request.finished is None
