"""A worker in this process and a scheduler's end of its stream, for the tests of the worker service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from grpc import aio

from fairlead.config import PROTOCOL_VERSION, WorkerConfig
from fairlead.rpc import make_channel
from fairlead.v1 import types_pb2, worker_pb2, worker_pb2_grpc
from worker_svc.engines.base import Engine
from worker_svc.host import WorkerHost, make_engine

LS = types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE
BE = types_pb2.SERVICE_CLASS_BEST_EFFORT
WITHIN_S = 10.0


@dataclass
class Answer:
    """What a stream has brought of one request: token position to id, texts in order, its end."""

    tokens: dict[int, int] = field(default_factory=dict[int, int])
    text: str = ""
    end: worker_pb2.ExecutionEnd | None = None

    @property
    def ids(self) -> list[int]:
        assert sorted(self.tokens) == list(range(len(self.tokens))), "a gap in the answer"
        return [self.tokens[position] for position in range(len(self.tokens))]


class Stream:
    """A scheduler's end of Execute. What leaves a gap is dropped: the replay that was asked for brings it."""

    def __init__(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub) -> None:
        self.call = stub.Execute()
        self.answers: dict[int, Answer] = {}
        self.steps: list[worker_pb2.Steps] = []
        self.capacities: list[worker_pb2.Capacity] = []
        self.refused: list[worker_pb2.AdmitRefused] = []
        self.repeats = 0

    async def send(self, **command: object) -> None:
        await self.call.write(worker_pb2.ExecuteRequest(**command))  # pyright: ignore[reportArgumentType]

    async def lead(
        self, epoch: int = 1, scheduler_id: str = "one", version: int = PROTOCOL_VERSION
    ) -> worker_pb2.Leading:
        await self.send(lead=worker_pb2.Lead(scheduler_id=scheduler_id, epoch=epoch, protocol_version=version))
        event = await self.read()
        assert event.WhichOneof("event") == "leading"
        return event.leading

    async def admit(self, handle: int, prompt: list[int] | None = None, **fields: object) -> None:
        await self.send(admit=admit(handle, prompt, **fields))

    async def read(self) -> worker_pb2.ExecuteResponse:
        """The next event. Raises grpc.RpcError where the worker ended the stream with a status."""
        async with asyncio.timeout(WITHIN_S):
            event = await self.call.read()
        if event is aio.EOF:
            raise EOFError
        assert isinstance(event, worker_pb2.ExecuteResponse)
        return event

    async def until(self, done: Callable[[], object]) -> None:
        """Reads and enters events until `done`."""
        until = asyncio.get_running_loop().time() + WITHIN_S
        while not done():
            assert asyncio.get_running_loop().time() < until, "what is waited for does not come"
            event = await self.read()
            match event.WhichOneof("event"):
                case "steps":
                    self._enter_steps(event.steps)
                case "replayed":
                    replayed = event.replayed
                    end = replayed.end if replayed.HasField("end") else None
                    self._enter(replayed.handle, replayed.first_token, list(replayed.token_ids), replayed.text, end)
                case "capacity":
                    self.capacities.append(event.capacity)
                case "admit_refused":
                    self.refused.append(event.admit_refused)
                case _:
                    raise AssertionError(event)

    async def until_ended(self, *handles: int) -> None:
        await self.until(lambda: all(self.answer(handle).end for handle in handles))

    async def status(self) -> grpc.RpcError:
        """The status with which the worker ends the stream; what comes before is read and forgotten."""
        try:
            while True:
                await self.read()
        except aio.AioRpcError as error:
            return error

    def answer(self, handle: int) -> Answer:
        return self.answers.setdefault(handle, Answer())

    def kinds(self, handle: int) -> list[int]:
        return [change.kind for steps in self.steps for change in steps.changes if change.handle == handle]

    def _enter_steps(self, steps: worker_pb2.Steps) -> None:
        self.steps.append(steps)
        at = 0
        for handle, first, count, text in zip(
            steps.handles, steps.first_tokens, steps.token_counts, steps.texts, strict=True
        ):
            self._enter(handle, first, list(steps.token_ids[at : at + count]), text, None)
            at += count
        assert at == len(steps.token_ids)
        for end in steps.ends:
            if end.output_tokens == len(self.answer(end.handle).tokens):
                self.answer(end.handle).end = end

    def _enter(self, handle: int, first: int, ids: list[int], text: str, end: worker_pb2.ExecutionEnd | None) -> None:
        answer = self.answer(handle)
        if first > len(answer.tokens):
            return
        for position, token in enumerate(ids, first):
            self.repeats += position in answer.tokens
            assert answer.tokens.setdefault(position, token) == token, "one position, two tokens"
        answer.text += text
        answer.end = end or answer.end


def admit(handle: int, prompt: list[int] | None = None, **fields: object) -> worker_pb2.Admit:
    values: dict[str, object] = {
        "handle": handle,
        "attempt": 1,
        "request_key": f"tenant/{handle}",
        "token_ids": prompt or [7, 7, handle % 100],
        "sampling": types_pb2.SamplingParams(max_tokens=20, ignore_eos=True),
        "service_class": LS,
    }
    return worker_pb2.Admit(**{**values, **fields})  # pyright: ignore[reportArgumentType]


def length(tokens: int) -> types_pb2.SamplingParams:
    return types_pb2.SamplingParams(max_tokens=tokens, ignore_eos=True)


@asynccontextmanager
async def running_worker(
    step_ms: float = 1.0, engine: Engine | None = None, **settings: object
) -> AsyncIterator[tuple[WorkerHost, worker_pb2_grpc.WorkerServiceAsyncStub]]:
    """A real server round the simulated engine, on a free port, and a stub for it."""
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "engine": "simulated",
        "simulated_step_ms": (step_ms, 0.0, 0.0, 0.0),
        "max_context_tokens": 2000,
    }
    config = WorkerConfig.model_validate({**values, **settings})
    host = WorkerHost(config, engine or make_engine(config))
    await host.start()
    channel = make_channel(host.address)
    try:
        yield host, worker_pb2_grpc.WorkerServiceStub(channel)
    finally:
        await channel.close()
        await host.stop()
