"""What is fuzzed: each service's methods, sound messages for them, and a request that must work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from fairlead.client import AsyncClient, Retry
from fairlead.config import PROTOCOL_VERSION
from fairlead.rpc import make_channel
from fairlead.v1 import (
    admin_pb2,
    inference_pb2,
    predictor_pb2,
    predictor_pb2_grpc,
    types_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from worker_svc.engines import simulated_text as words

KEY, WORKS_KEY = "fuzz-key", "works-key"
"""Of an operator, under whose name all is sent, and of another tenant, whose requests must work meanwhile."""
WORKS_WITHIN_S = 30.0


@dataclass
class Target:
    """One service under fire.

    Attributes:
        name: of the service.
        address: host:port.
        pid: of its process.
        methods: all that it serves.
        sound: makes a message that a method would take, by the method's name; None: nothing sound is sent to it.
        works: a sound request from end to end; raises AssertionError where it does not do what it should.
        epoch: newest that led a worker.
    """

    name: str
    address: str
    pid: int
    methods: list[MethodDescriptor]
    rng: random.Random
    works: Callable[[], Any] = field(init=False)
    epoch: int = 1

    def __post_init__(self) -> None:
        works = {"scheduler": self._scheduler_works, "worker": self._worker_works, "predictor": self._predictor_works}
        self.works = works[self.name]

    def sound(self, method: MethodDescriptor) -> Message | None:
        """A message that this method would take."""
        rng = self.rng
        match method.name:
            case "Generate":
                return inference_pb2.GenerateRequest(
                    text="hello there", sampling=types_pb2.SamplingParams(max_tokens=rng.randint(1, 4)),
                    request_id=f"f{rng.randrange(200)}" if rng.random() < 0.5 else None,
                )  # fmt: skip
            case "Attach":
                return inference_pb2.AttachRequest(request_id=f"f{rng.randrange(200)}", from_token=rng.randrange(3))
            case "Cancel":
                return inference_pb2.CancelRequest(request_id=f"f{rng.randrange(200)}")
            case "SetPolicy":
                return admin_pb2.SetPolicyRequest(policy=rng.choice(("slo", "fcfs", "isrtf")))
            case "Tokenize":
                return worker_pb2.TokenizeRequest(model="demo", text="hello there")
            case "Execute":
                return self.command()
            case "Predict":
                return predictor_pb2.PredictRequest(
                    query_id=rng.randrange(2**32), model="demo", tenant="t", prompt="hello there", prompt_tokens=2,
                    max_tokens=rng.randint(1, 500), service_class=types_pb2.SERVICE_CLASS_BEST_EFFORT,
                )  # fmt: skip
            case "Observe":
                one = predictor_pb2.Observation(
                    model="demo", tenant="t", prompt_tokens=2, max_tokens=500, output_tokens=rng.randint(1, 400),
                    outcome=types_pb2.OUTCOME_STOP,
                )  # fmt: skip
                return predictor_pb2.ObserveRequest(observations=[one] * rng.choice((1, 3)))
            case _:
                return None

    def first_command(self) -> worker_pb2.ExecuteRequest:
        """Takes the lead of a worker, as its newest scheduler."""
        self.epoch += 1
        lead = worker_pb2.Lead(scheduler_id="fuzz", epoch=self.epoch, protocol_version=PROTOCOL_VERSION)
        return worker_pb2.ExecuteRequest(lead=lead)

    def command(self) -> worker_pb2.ExecuteRequest:
        """Some command of a leader."""
        rng = self.rng
        handle = rng.randrange(1, 40)
        match rng.randrange(6):
            case 0:
                return worker_pb2.ExecuteRequest(
                    admit=worker_pb2.Admit(
                        handle=handle, attempt=rng.randint(1, 3), request_key=f"t/{handle}", token_ids=[7, 7, handle],
                        sampling=types_pb2.SamplingParams(max_tokens=rng.randint(1, 5)),
                        service_class=types_pb2.SERVICE_CLASS_BEST_EFFORT,
                    )
                )  # fmt: skip
            case 1:
                return worker_pb2.ExecuteRequest(ranks=worker_pb2.Ranks(version=rng.randrange(100), handles=[handle]))
            case 2:
                return worker_pb2.ExecuteRequest(cancel=worker_pb2.CancelExecution(handles=[handle]))
            case 3:
                return worker_pb2.ExecuteRequest(replay=worker_pb2.Replay(handle=handle, from_token=rng.randrange(4)))
            case _:
                return worker_pb2.ExecuteRequest(release=worker_pb2.Release(handles=list(range(1, 40))))

    async def _scheduler_works(self) -> None:
        async with (
            AsyncClient(self.address, WORKS_KEY, retry=Retry(attempts=8)) as client,
            asyncio.timeout(WORKS_WITHIN_S),
        ):
            completion = await client.complete("does it work", max_tokens=8, ignore_eos=True)
            key = words.answer_key(words.tokenize("does it work"), 0)
            assert completion.text == words.detokenize([words.answer_token(key, index) for index in range(8)])

    async def _worker_works(self) -> None:
        async with make_channel(self.address) as channel, asyncio.timeout(WORKS_WITHIN_S):
            stub: Any = worker_pb2_grpc.WorkerServiceStub(channel)
            described = await stub.Describe(worker_pb2.WorkerServiceDescribeRequest())
            assert not described.draining, "something drained it"
            call = stub.Execute()
            await call.write(self.first_command())
            leading = await call.read()
            held = [one.handle for one in leading.leading.held]
            await call.write(worker_pb2.ExecuteRequest(release=worker_pb2.Release(handles=held)))
            admit = worker_pb2.Admit(
                handle=1_000_000 + self.epoch, attempt=1, request_key="t/works", token_ids=[1, 2, 3],
                sampling=types_pb2.SamplingParams(max_tokens=6, ignore_eos=True),
                service_class=types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE,
            )  # fmt: skip
            ids: list[int] = []
            await call.write(worker_pb2.ExecuteRequest(admit=admit))
            while len(ids) < 6:
                event = await call.read()
                if event.WhichOneof("event") == "admit_refused":
                    assert event.admit_refused.reason == worker_pb2.ADMIT_REFUSAL_REASON_FULL, event
                    await asyncio.sleep(0.02)  # what was released has not left the engine yet
                    await call.write(worker_pb2.ExecuteRequest(admit=admit))
                at = 0
                for handle, count in zip(event.steps.handles, event.steps.token_counts, strict=True):
                    if handle == admit.handle:
                        ids.extend(event.steps.token_ids[at : at + count])
                    at += count
            key = words.answer_key([1, 2, 3], 0)
            assert ids == [words.answer_token(key, index) for index in range(6)]
            await call.write(worker_pb2.ExecuteRequest(release=worker_pb2.Release(handles=[admit.handle])))
            await call.done_writing()

    async def _predictor_works(self) -> None:
        async with make_channel(self.address) as channel, asyncio.timeout(WORKS_WITHIN_S):
            stub: Any = predictor_pb2_grpc.PredictorServiceStub(channel)
            call = stub.Predict()
            question = predictor_pb2.PredictRequest(
                query_id=5, model="demo", tenant="works", prompt="does it work", prompt_tokens=3, max_tokens=100,
                service_class=types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE,
            )  # fmt: skip
            await call.write(question)
            answer = await call.read()
            assert answer.query_id == 5
            assert answer.WhichOneof("result") == "distribution", answer
            await call.done_writing()


def methods_of(service: str) -> list[MethodDescriptor]:
    """Every method that the service's port answers."""
    of = {
        "scheduler": [inference_pb2, admin_pb2],
        "worker": [worker_pb2],
        "predictor": [predictor_pb2],
    }[service]
    return [
        method for module in of for found in module.DESCRIPTOR.services_by_name.values() for method in found.methods
    ]
