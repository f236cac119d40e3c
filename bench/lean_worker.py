"""A worker that costs next to nothing, to load a scheduler: `python -m bench.lean_worker` prints where it listens.

It speaks the contract as `worker_svc` does, one message a step for all sequences, BE tokens in groups; but there is no
engine, no order and nothing is kept: each step every sequence has its next token. A stream that breaks is not resumed.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fairlead import event_loop
from fairlead.config import PROTOCOL_VERSION, SecurityConfig
from fairlead.rpc import Gate, Role, ServicerContext, make_server, scheduler_only
from fairlead.v1 import types_pb2, worker_pb2, worker_pb2_grpc

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
LISTEN = "127.0.0.1:0"
MODEL = "lean"
CONTEXT_TOKENS = 8192
KV_BLOCKS = 1_000_000
CAPACITY_EVERY_S = 1.0
TEXT = " word"
TOKEN = 7


@dataclass(slots=True)
class Sequence:
    """One answer; `group` tokens go together."""

    handle: int
    attempt: int
    wanted: int
    group: int
    made: int = 0
    sent: int = 0


class LeanWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Makes tokens at a pace.

    Args:
        slots: sequences at once.
        tokens_per_s: of each.
    """

    def __init__(self, slots: int, tokens_per_s: float) -> None:
        self._slots = slots
        self._step_s = 1 / tokens_per_s
        self._name = secrets.token_hex(8)
        pace = worker_pb2.StepModel(c0_ms=1000 * self._step_s)
        self._capacity = worker_pb2.Capacity(slots_free=slots, kv_blocks_free=KV_BLOCKS, step_model=pace)
        self._live: dict[int, Sequence] = {}
        self._new: list[int] = []
        self._ended: list[worker_pb2.ExecutionEnd] = []
        self._steps = 0

    async def Describe(
        self,
        request: worker_pb2.WorkerServiceDescribeRequest,  # noqa: ARG002
        context: ServicerContext,  # noqa: ARG002
    ) -> worker_pb2.WorkerServiceDescribeResponse:
        """Room for all; every id below the context is a token, so that no prompt has to be looked at."""
        return worker_pb2.WorkerServiceDescribeResponse(
            worker_id=self._name, incarnation=self._name, protocol_version=PROTOCOL_VERSION, model=MODEL, engine="lean",
            max_context_tokens=CONTEXT_TOKENS, slots=self._slots, step_seats=self._slots, kv_blocks=KV_BLOCKS,
            kv_block_tokens=32, max_held=2 * self._slots, vocabulary_tokens=CONTEXT_TOKENS,
            step_model=self._capacity.step_model,
        )  # fmt: skip

    async def Tokenize(
        self, request: worker_pb2.TokenizeRequest, context: ServicerContext
    ) -> worker_pb2.TokenizeResponse:
        """Token ids as they are; there is no tokenizer for anything else."""
        del context
        return worker_pb2.TokenizeResponse(token_ids=request.token_ids.ids)

    async def Drain(self, request: worker_pb2.DrainRequest, context: ServicerContext) -> worker_pb2.DrainResponse:
        """Nothing is kept that could be finished."""
        del request, context
        return worker_pb2.DrainResponse()

    async def Execute(
        self, request_iterator: AsyncIterator[worker_pb2.ExecuteRequest], context: ServicerContext
    ) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Answers Lead, then a message a step; what a slow reader does not take joins the next."""
        commands = aiter(request_iterator)
        await anext(commands)
        leading = worker_pb2.Leading(worker_id=self._name, incarnation=self._name, protocol_version=PROTOCOL_VERSION)
        await context.write(worker_pb2.ExecuteResponse(leading=leading))
        reading = asyncio.create_task(self._read(commands))
        loop = asyncio.get_running_loop()
        due_s = told_s = loop.time()
        try:
            while not reading.done():
                due_s += self._step_s
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                # Steps that were missed, since a reader was slow or the CPU was taken, are made good in one.
                missed = max(0, int((loop.time() - due_s) / self._step_s))
                due_s += missed * self._step_s
                steps = self._step(1 + missed)
                if steps.handles or steps.ends or steps.changes:
                    await context.write(worker_pb2.ExecuteResponse(steps=steps))
                if loop.time() - told_s >= CAPACITY_EVERY_S:
                    told_s = loop.time()
                    await context.write(worker_pb2.ExecuteResponse(capacity=self._capacity))
        finally:
            reading.cancel()

    async def _read(self, commands: AsyncIterator[worker_pb2.ExecuteRequest]) -> None:
        async for command in commands:
            match command.WhichOneof("command"):
                case "admit":
                    admit = command.admit
                    made = Sequence(admit.handle, admit.attempt, admit.sampling.max_tokens, admit.coalesce_tokens or 1)
                    self._live[admit.handle] = made
                    self._new.append(admit.handle)
                case "cancel":
                    for handle in command.cancel.handles:
                        ended = self._live.pop(handle, None)
                        if ended is not None:
                            self._end(ended, types_pb2.OUTCOME_CANCELLED_BY_CLIENT)
                case _:
                    pass

    def _step(self, times: int) -> worker_pb2.Steps:
        """The next tokens of all."""
        self._steps += times
        due: list[Sequence] = []
        for sequence in self._live.values():
            sequence.made = min(sequence.made + times, sequence.wanted)
            if sequence.made - sequence.sent >= sequence.group or sequence.made == sequence.wanted:
                due.append(sequence)
        counts = [sequence.made - sequence.sent for sequence in due]
        started = worker_pb2.SEQUENCE_CHANGE_KIND_STARTED
        steps = worker_pb2.Steps(
            step_count=self._steps,
            step_ms=1000 * self._step_s,
            handles=[sequence.handle for sequence in due],
            attempts=[sequence.attempt for sequence in due],
            first_tokens=[sequence.sent for sequence in due],
            token_counts=counts,
            token_ids=[TOKEN] * sum(counts),
            texts=[TEXT * count for count in counts],
            changes=[worker_pb2.SequenceChange(handle=handle, kind=started) for handle in self._new],
            running=len(self._live),
        )
        self._new.clear()
        for sequence in due:
            sequence.sent = sequence.made
            if sequence.made == sequence.wanted:
                del self._live[sequence.handle]
                self._end(sequence, types_pb2.OUTCOME_LENGTH)
        steps.ends.extend(self._ended)
        self._ended.clear()
        return steps

    def _end(self, sequence: Sequence, outcome: types_pb2.Outcome) -> None:
        self._ended.append(
            worker_pb2.ExecutionEnd(
                handle=sequence.handle, attempt=sequence.attempt, outcome=outcome, output_tokens=sequence.sent
            )
        )


async def serve(slots: int, tokens_per_s: float) -> None:
    """Until standard input ends."""
    gate = Gate({Role.SCHEDULER: scheduler_only(SecurityConfig(), "worker", LISTEN)})
    server = make_server(LISTEN, (SERVICE,), port_setting="--listen", service="worker", gate=gate)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(LeanWorker(slots, tokens_per_s), server.server)
    await server.start(SERVICE)
    print(server.address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    event_loop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
