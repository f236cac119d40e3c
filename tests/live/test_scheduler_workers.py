"""Workers that come, break, die and come back under a real scheduler; and predictors that fail."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fairlead.client import Admin, Completion, Delta, Event, Finished, Outcome, Unavailable
from fairlead.config import PROTOCOL_VERSION, SecurityConfig
from fairlead.rpc import Server, ServicerContext, free_port, make_server
from fairlead.v1 import predictor_pb2, predictor_pb2_grpc, types_pb2, worker_pb2, worker_pb2_grpc
from scheduler_svc.epoch import next_epoch
from scheduler_svc.worker_link import Patience
from tests.live.scheduler_suite import (
    WITHIN_S,
    Suite,
    check_whole,
    expected,
    running_process,
    running_suite,
    running_worker,
    until,
    worker_config,
    worker_section,
)
from tests.open_gate import OPEN

pytestmark = pytest.mark.live
LONG: dict[str, Any] = {"max_tokens": 800, "ignore_eos": True, "timeout_s": 60.0}


async def collect(stream: Any) -> tuple[list[Delta], Finished]:
    """All deltas and the end; checks that the tokens are 0, 1, 2 ... on the way."""
    deltas: list[Delta] = []
    event: Event
    async for event in stream:
        if isinstance(event, Delta):
            assert event.first_token == sum(delta.token_count for delta in deltas)
            deltas.append(event)
        elif isinstance(event, Finished):
            return deltas, event
    raise AssertionError("the stream ended without an outcome")


def out(suite: Suite) -> int:
    """Tokens out, of all live requests."""
    return sum(len(request.answer) for request in suite.scheduler.shell.book.live.values())


def all_out(suite: Suite, requests: int) -> bool:
    """Whether so many requests live and each has given tokens."""
    live = suite.scheduler.shell.book.live.values()
    return len(live) == requests and all(len(request.answer) > 5 for request in live)


async def worker_problem(suite: Suite, address: str) -> str:
    """Why the worker there is not connected, as an operator is told."""
    workers = (await suite.status()).workers
    return next((worker.problem for worker in workers if worker.address == address), "not there")


async def problem_says(suite: Suite, address: str, says: str) -> str:
    """Waits until an operator is told this of the worker there."""
    problem = ""
    try:
        async with asyncio.timeout(WITHIN_S):
            while says not in problem:
                problem = await worker_problem(suite, address)
    except TimeoutError:
        raise AssertionError(f"{address}: {problem!r} does not say {says!r}") from None
    return problem


async def test_several_workers_share_the_load(tmp_path: Path) -> None:
    workers = [worker_config(worker_id=name, slots=2, step_seats=2) for name in ("a", "b", "c")]
    async with running_suite(tmp_path, workers=workers) as suite:
        answers = await asyncio.gather(*(suite.client().complete(f"shared {index}") for index in range(30)))
        assert {answer.decision.worker_id for answer in answers} == {"a", "b", "c"}
        for index, answer in enumerate(answers):
            check_whole(f"shared {index}", answer)
        await suite.all_free()


async def test_a_killed_worker_costs_no_token_of_what_can_be_continued(tmp_path: Path) -> None:
    section = worker_section(worker_id="doomed")
    async with running_process(tmp_path, "worker_svc", worker=section) as doomed:
        addresses = [doomed.address]
        async with running_suite(tmp_path / "state", workers=0, addresses=addresses) as suite:
            await suite.connected(1)
            prompts = [f"survivor {index}" for index in range(6)]
            streams = [asyncio.create_task(collect(suite.client().generate(prompt, **LONG))) for prompt in prompts]
            seeded = asyncio.create_task(collect(suite.client().generate("seeded", seed=7, **LONG)))
            await until(lambda: all_out(suite, 7), "tokens of each")
            await doomed.end(signal.SIGKILL)
            async with running_worker(worker_config(doomed.address, worker_id="heir")):
                for prompt, stream in zip(prompts, streams, strict=True):
                    deltas, finished = await stream
                    assert "".join(delta.text for delta in deltas) == expected(prompt, 800)
                    assert finished.outcome is Outcome.LENGTH
                    assert (finished.decision.attempts, finished.decision.worker_id) == (2, "heir")
                    assert (finished.usage.prompt_tokens, finished.usage.output_tokens) == (2, 800)
                deltas, finished = await seeded
                assert finished.outcome is Outcome.FAILED_WORKER_LOST
                assert "seed" in finished.detail
                assert 0 < finished.usage.output_tokens == sum(delta.token_count for delta in deltas)


async def test_work_waits_while_no_worker_is_there_and_new_work_is_refused(tmp_path: Path) -> None:
    section = worker_section(worker_id="only")
    async with running_process(tmp_path, "worker_svc", worker=section) as only:
        addresses = [only.address]
        async with running_suite(tmp_path / "state", workers=0, addresses=addresses) as suite:
            await suite.connected(1)
            waiting = asyncio.create_task(suite.client().complete("patient", **LONG))
            await until(lambda: out(suite) > 10, "some tokens")
            await only.end(signal.SIGKILL)
            await suite.connected(0)
            with pytest.raises(Unavailable, match="no worker is connected") as caught:
                await suite.client("bob").complete("hello")
            assert caught.value.reason == "NO_WORKERS"
            assert caught.value.retry_after_ms is not None
            async with running_worker(worker_config(only.address, worker_id="later")):
                check_whole("patient", await waiting)


async def test_a_stream_that_breaks_is_taken_up_again_without_gap_or_repeat(tmp_path: Path) -> None:
    async with running_suite(tmp_path, patience=Patience(grace_s=30.0)) as suite:
        streams = [
            asyncio.create_task(
                collect(
                    suite.client(tenant).generate(
                        f"{tenant} unbroken", max_tokens=2000, ignore_eos=True, timeout_s=60.0
                    )
                )
            )
            for tenant in ("alice", "bob")
        ]
        for breaks in range(1, 6):
            await until(lambda least=breaks * 150: out(suite) > least, "some tokens")
            held = suite.workers[0].service._leader  # type: ignore[attr-defined]
            assert held is not None
            held.end()  # the worker ends the stream; what it holds goes on
            await until(lambda before=held: _leads_again(suite, before), "the next stream")
        for tenant, stream in zip(("alice", "bob"), streams, strict=True):
            deltas, finished = await stream
            assert "".join(delta.text for delta in deltas) == expected(f"{tenant} unbroken", 2000)
            assert (finished.outcome, finished.decision.attempts) == (Outcome.LENGTH, 1)
        await suite.all_free()


def _leads_again(suite: Suite, before: object) -> bool:
    leader = suite.workers[0].service._leader  # type: ignore[attr-defined]
    return leader is not None and leader is not before


async def test_a_worker_that_was_given_up_comes_back_clean(tmp_path: Path) -> None:
    """Its requests went on elsewhere or wait; when it is there again it lets the old ones go first."""
    async with running_suite(tmp_path, patience=Patience(grace_s=0.0)) as suite:
        running = [asyncio.create_task(suite.client().complete(f"again {index}", **LONG)) for index in range(8)]
        await until(lambda: all_out(suite, 8), "tokens of each")
        leader = suite.workers[0].service._leader  # type: ignore[attr-defined]
        assert leader is not None
        leader.end()
        for index, task in enumerate(running):
            answer = await task
            check_whole(f"again {index}", answer)
            assert answer.decision.attempts == 2
        await suite.all_free()


async def test_a_worker_added_later_takes_its_share(tmp_path: Path) -> None:
    later = f"127.0.0.1:{free_port()}"
    workers = [worker_config(worker_id="first", slots=2, step_seats=2)]
    async with running_suite(tmp_path, workers=workers, addresses=[later]) as suite:
        await problem_says(suite, later, "UNAVAILABLE")
        load = [suite.client().complete(f"load {index}", service_class="be", **LONG) for index in range(8)]
        running = [asyncio.create_task(each) for each in load]  # best effort: as LS, most would be refused at the door
        await until(lambda: out(suite) > 10, "some tokens")
        async with running_worker(worker_config(later, worker_id="second")):
            answers = await asyncio.gather(*running)
            assert {answer.decision.worker_id for answer in answers} == {"first", "second"}
            assert await worker_problem(suite, later) == ""


async def test_a_name_stands_for_its_workers(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        port = worker.address.rpartition(":")[2]
        names = [f"dns:///localhost:{port}", "dns:///no-such-host.invalid:1"]
        anywhere = SecurityConfig(allow_insecure=True)
        async with running_suite(tmp_path, workers=0, addresses=names, resolve_every_s=0.1, security=anywhere) as suite:
            await suite.connected(1)
            check_whole("by name", await suite.client().complete("by name"))
            await problem_says(suite, names[1], "can't be resolved")


async def test_one_worker_at_two_addresses_counts_once(tmp_path: Path) -> None:
    async with running_worker(worker_config()) as worker:
        twin = worker.address.replace("127.0.0.1", "localhost")
        async with running_suite(tmp_path, workers=0, addresses=[worker.address, twin]) as suite:
            await suite.connected(1)
            led, other = worker.address, twin
            if await worker_problem(suite, led):
                led, other = other, led
            await problem_says(suite, other, f"led already, at its other address {led}")
            check_whole("once", await suite.client().complete("once"))


async def test_a_draining_worker_gets_nothing_new_and_finishes(tmp_path: Path) -> None:
    workers = [worker_config(worker_id=name) for name in ("leaving", "staying")]
    async with running_suite(tmp_path, workers=workers) as suite:
        running = [asyncio.create_task(suite.client().complete(f"before {index}", **LONG)) for index in range(4)]
        await until(lambda: out(suite) > 40, "some tokens")
        draining = asyncio.create_task(suite.workers[0].drain(20_000))
        name = next(one for one in suite.scheduler.shell.workers if one.startswith("leaving"))
        await until(lambda: suite.scheduler.shell.core.workers[name].draining, "the word of it")
        late = await asyncio.gather(*(suite.client().complete(f"after {index}") for index in range(4)))
        assert {answer.decision.worker_id for answer in late} == {"staying"}
        answers = await asyncio.gather(*running)
        assert {answer.decision.worker_id for answer in answers} == {"leaving", "staying"}
        await draining


class OtherRelease(worker_pb2_grpc.WorkerServiceServicer):
    """A worker of another protocol version."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.led = False

    async def Describe(
        self, request: worker_pb2.WorkerServiceDescribeRequest, context: ServicerContext
    ) -> worker_pb2.WorkerServiceDescribeResponse:
        del request, context
        return worker_pb2.WorkerServiceDescribeResponse(
            worker_id="other", incarnation="1", protocol_version=self.version, model="demo", slots=1, step_seats=1,
            max_context_tokens=10,
        )  # fmt: skip

    async def Execute(
        self, request_iterator: AsyncIterator[worker_pb2.ExecuteRequest], context: ServicerContext
    ) -> AsyncIterator[worker_pb2.ExecuteResponse]:
        del request_iterator, context
        self.led = True
        yield worker_pb2.ExecuteResponse(capacity=worker_pb2.Capacity())


@asynccontextmanager
async def serving(add: Any, servicer: Any) -> AsyncIterator[Server]:
    server = make_server("127.0.0.1:0", [], port_setting="test", gate=OPEN)
    add(servicer, server.server)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def test_a_worker_of_another_protocol_version_is_not_used_and_the_others_are(tmp_path: Path) -> None:
    other = OtherRelease(PROTOCOL_VERSION + 1)
    async with serving(worker_pb2_grpc.add_WorkerServiceServicer_to_server, other) as server:
        addresses = [server.address]
        async with running_suite(tmp_path, addresses=addresses) as suite:
            says = f"speaks protocol version {PROTOCOL_VERSION + 1}, this scheduler {PROTOCOL_VERSION}"
            assert "run the same release on both" in await problem_says(suite, server.address, says)
            check_whole("others go on", await suite.client().complete("others go on"))
            assert not other.led
            assert len(await suite.client().list_models()) == 1


async def test_a_worker_that_does_not_keep_to_the_protocol_is_left_alone(tmp_path: Path) -> None:
    other = OtherRelease(PROTOCOL_VERSION)
    async with serving(worker_pb2_grpc.add_WorkerServiceServicer_to_server, other) as server:
        addresses = [server.address]
        async with running_suite(tmp_path, addresses=addresses) as suite:
            await problem_says(suite, server.address, "did not answer that this scheduler leads it")
            check_whole("others go on", await suite.client().complete("others go on"))


async def test_a_newer_scheduler_takes_the_workers_and_the_older_is_told(tmp_path: Path) -> None:
    """The second has its own folder, by mistake; when it is gone, the first one's next start is newer still."""
    async with running_suite(tmp_path / "old") as old:
        address = old.workers[0].address
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "epoch").write_text("7\n")
        async with running_suite(tmp_path / "new", workers=0, addresses=[address]) as new:
            await new.connected(1)
            check_whole("mine now", await new.client().complete("mine now"))
            problem = await problem_says(old, address, "under epoch 8, this one has 1")
            assert "stop the other one, then restart this one" in problem
    assert next_epoch(tmp_path / "old") == 9


@dataclass
class Liar(predictor_pb2_grpc.PredictorServiceServicer):
    """A predictor that answers `answer` to everything; None: never."""

    answer: types_pb2.LengthDistribution | None
    asked: list[predictor_pb2.PredictRequest] = field(default_factory=list)

    async def Describe(
        self, request: predictor_pb2.PredictorServiceDescribeRequest, context: ServicerContext
    ) -> predictor_pb2.PredictorServiceDescribeResponse:
        del request, context
        return predictor_pb2.PredictorServiceDescribeResponse(predictor="liar", protocol_version=PROTOCOL_VERSION)

    async def Predict(
        self, request_iterator: AsyncIterator[predictor_pb2.PredictRequest], context: ServicerContext
    ) -> AsyncIterator[predictor_pb2.PredictResponse]:
        del context
        async for request in request_iterator:
            self.asked.append(request)
            if self.answer is not None:
                yield predictor_pb2.PredictResponse(query_id=request.query_id + 1000)
                yield predictor_pb2.PredictResponse(query_id=request.query_id, distribution=self.answer)


Knots = types_pb2.LengthDistribution
LIES = {
    "silent": None,
    "nan": Knots(levels=[0.5, math.nan], tokens=[10, 20]),
    "negative": Knots(levels=[0.1, 0.5], tokens=[-10, 20]),
    "infinite": Knots(levels=[0.1, 0.5], tokens=[10, math.inf]),
    "unequal": Knots(levels=[0.1, 0.5], tokens=[10]),
    "falling": Knots(levels=[0.5, 0.1], tokens=[20, 10]),
    "empty": Knots(),
    "huge": Knots(levels=[index / 100_000 for index in range(1, 90_000)], tokens=range(1, 90_000)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_predictor_that_lies_or_is_silent_costs_no_answer(lie: str, tmp_path: Path) -> None:
    liar = Liar(LIES[lie])
    async with serving(predictor_pb2_grpc.add_PredictorServiceServicer_to_server, liar) as server:
        change = {"predictor": server.address, "predict_timeout_ms": 100, "repredict": "always", "window_tokens": 10}
        async with _suite_with_predictor(tmp_path, change) as suite:
            answers = await asyncio.gather(*(suite.client().complete(f"lied to {index}") for index in range(20)))
            for index, answer in enumerate(answers):
                check_whole(f"lied to {index}", answer)
                assert answer.decision.predictor == ""
            status = (await suite.status()).predictor
            assert status.connected
            assert (status.answered, status.predictor) == (0, "liar")
            assert liar.asked
            assert liar.asked[0].prompt.startswith("lied to")


@asynccontextmanager
async def _suite_with_predictor(state_dir: Path, change: dict[str, Any]) -> AsyncIterator[Suite]:
    address = change.pop("predictor")
    async with running_suite(state_dir, predictor=None, predictor_address=address, **change) as suite:
        await until(lambda: bool(suite.scheduler.predictor and suite.scheduler.predictor.connected), "the predictor")
        yield suite


async def test_a_predictor_killed_in_mid_run_costs_no_answer_and_comes_back(tmp_path: Path) -> None:
    section = {"predictor": "history", "listen": f"127.0.0.1:{free_port()}"}
    async with running_process(tmp_path, "predictor_svc", predictor=section) as predictor:
        change: dict[str, Any] = {"predictor": predictor.address, "repredict": "always", "window_tokens": 5}
        async with _suite_with_predictor(tmp_path / "state", change) as suite:
            first = await suite.client().complete("with a predictor", **LONG)
            assert (first.decision.predictor, first.decision.predictions > 0) == ("history", True)
            running = [asyncio.create_task(suite.client().complete(f"killed {index}", **LONG)) for index in range(20)]
            await until(lambda: out(suite) > 200, "some tokens")
            await predictor.end(signal.SIGKILL)
            await until(lambda: not _predicts(suite), "the break")
            for index in range(5):
                await suite.admin(Admin.set_policy, ("fcfs", "isrtf", "slo")[index % 3])
                check_whole(f"without {index}", await suite.client("bob").complete(f"without {index}"))
            for index, answer in enumerate(await asyncio.gather(*running)):
                check_whole(f"killed {index}", answer)
            async with running_process(tmp_path, "predictor_svc", predictor=section):
                await until(lambda: _predicts(suite), "the next predictor")
                back: Completion = await suite.client().complete("with one again", **LONG)
                assert back.decision.predictor == "history"
            await suite.all_free()


def _predicts(suite: Suite) -> bool:
    link = suite.scheduler.predictor
    return link is not None and link.connected


async def test_an_operators_hint_reaches_the_oracle(tmp_path: Path) -> None:
    async with running_suite(tmp_path, predictor="oracle") as suite:
        answer = await suite.client("op").complete("told", length_hint_tokens=77)
        assert answer.decision.predictor == "oracle"
        assert answer.decision.predicted_p50_tokens == pytest.approx(77, rel=0.05)
        without = await suite.client().complete("not told")
        assert without.decision.predictor == ""


async def test_no_more_is_placed_on_a_worker_than_it_says_it_holds(tmp_path: Path) -> None:
    small = worker_config(max_held=3, slots=8, step_seats=8)
    async with running_suite(tmp_path, workers=[small], look_ahead=8) as suite:
        (view,) = suite.scheduler.shell.core.workers.values()
        assert view.up.max_held == 3
        client = suite.client()
        asked = [asyncio.create_task(client.complete(f"question {index}", max_tokens=60)) for index in range(12)]
        most = 0
        while not all(task.done() for task in asked):
            most = max(most, len(suite.workers[0].service._ledger))  # type: ignore[attr-defined]
            await asyncio.sleep(0.002)
        for index, task in enumerate(asked):
            check_whole(f"question {index}", await task)
        assert 0 < most <= 3
