"""`make fuzz MESSAGES=N`: so many hostile messages to each service, each in a process of its own, from a seed.

Random and mutated messages to every method, half streams, streams in the wrong order, floods of resets, hostile
metadata, bytes that are no HTTP/2. After each batch: the process lives, a sound request works, no status was UNKNOWN
or INTERNAL, no traceback was logged. At the end memory must be flat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from grpc import aio
from rich.console import Console
from rich.progress import Progress

from fairlead.v1 import worker_pb2
from tests.fault.fuzz_targets import KEY, Target, methods_of
from tests.fault.hostile import Hostile
from tests.fault.processes import rss_mb, service

SERVICES = ("predictor", "worker", "scheduler")
BATCH = 5_000
AT_ONCE = 48
CALL_WITHIN_S = 5.0
BAD = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
MOST_GROWTH_MB = 30.0
"""Memory may grow by so much from the first quarter to the end, whatever the number of messages."""
NEVER = ("/fairlead.v1.WorkerService/Drain", "/fairlead.v1.AdminService/DrainScheduler")
"""A sound message to these ends the service, as it should: damaged bytes alone are sent."""


class Fuzz:
    """Fires at one target.

    Args:
        target: a service.
        seed: of all that is sent.
    """

    def __init__(self, target: Target, seed: int) -> None:
        self.target = target
        self.sent = 0
        self.statuses: Counter[str] = Counter()
        self.bad: list[str] = []
        self._rng = random.Random(f"fuzz {target.name} {seed}")
        target.rng = self._rng
        self._hostile = Hostile(self._rng)

    async def batch(self, messages: int) -> None:
        """Sends so many messages, some dozens of calls at once, over several connections."""
        until = self.sent + messages
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(aio.insecure_channel(self.target.address, options=_OWN_CONNECTION))
                for _ in range(3)
            ]

            async def fire() -> None:
                while self.sent < until:
                    await self._one(self._rng.choice(channels))

            await asyncio.gather(*(fire() for _ in range(AT_ONCE)))
        for _ in range(3):
            await self._not_http()

    async def _one(self, channel: aio.Channel) -> None:
        rng = self._rng
        method = rng.choice(self.target.methods)
        path = f"/{method.containing_service.full_name}/{method.name}"
        if rng.random() < 0.01:
            path += rng.choice(("x", "/", "%00"))
        try:
            async with asyncio.timeout(CALL_WITHIN_S):
                if method.client_streaming:
                    await self._stream(channel, path, method)
                else:
                    await self._single(channel, path, method)
        except TimeoutError:
            self.statuses["none in time"] += 1  # a stream that was left half open
        except aio.AioRpcError as error:
            self._note(path, error)
        except (aio.UsageError, asyncio.InvalidStateError, ValueError):
            self.statuses["ended meanwhile"] += 1

    async def _single(self, channel: aio.Channel, path: str, method: MethodDescriptor) -> None:
        rng = self._rng
        sound = self.target.sound(method)
        data = self._hostile.data(method.input_type, sound)
        if path in NEVER:
            data = b"\xff" + rng.randbytes(rng.randrange(40))
        self.sent += 1
        metadata = self._hostile.metadata(KEY)
        make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = make(path)(data, metadata=metadata, timeout=rng.choice((None, None, 0.001, 2.0)))
        if rng.random() < 0.15:
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.005)
            call.cancel()
            self.statuses["reset"] += 1
            return
        if method.server_streaming:
            for _ in range(rng.choice((1, 3, 20))):
                if await call.read() is aio.EOF:
                    break
            call.cancel()
        else:
            await call
        self.statuses["OK"] += 1

    async def _stream(self, channel: aio.Channel, path: str, method: MethodDescriptor) -> None:
        """Messages in any order, sound ones first or not; then the end of it, a reset, or nothing more."""
        rng = self._rng
        make: Any = channel.stream_stream
        call = make(path)(metadata=self._hostile.metadata(KEY))
        reading = asyncio.create_task(_read_on(call))
        try:
            if method.name == "Execute" and rng.random() < 0.8:
                await self._write(call, self.target.first_command().SerializeToString())
            for _ in range(rng.choice((1, 5, 40, 200))):
                await self._write(call, self._stream_data(method))
                if reading.done():
                    break
            match rng.randrange(3):
                case 0:
                    await call.done_writing()
                    await asyncio.wait([reading], timeout=0.05)
                case 1:
                    await asyncio.sleep(rng.random() * 0.01)
                case _:
                    pass
            if reading.done():
                await reading
            self.statuses["OK"] += 1
        finally:
            call.cancel()
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, aio.AioRpcError):
                await reading

    def _stream_data(self, method: MethodDescriptor) -> bytes:
        sound = self.target.sound(method)
        if sound is not None and self._rng.random() < 0.5:
            return sound.SerializeToString()
        data = self._hostile.data(method.input_type, sound)
        return data if method.name != "Execute" else _harmless(data)

    async def _write(self, call: Any, data: bytes) -> None:
        self.sent += 1
        await call.write(data)

    async def _not_http(self) -> None:
        """Bytes that are no HTTP/2, or only its beginning."""
        host, _, port = self.target.address.rpartition(":")
        rng = self._rng
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            preface = rng.choice((b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
            writer.write(preface + rng.randbytes(rng.choice((0, 9, 400, 20_000))))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def _note(self, path: str, error: aio.AioRpcError) -> None:
        code = error.code()
        if error.details() == "Internal error from Core":
            self.statuses["refused by the sender's own gRPC"] += 1
            return
        self.statuses[code.name] += 1
        if code in BAD and len(self.bad) < 20:
            self.bad.append(f"{path}: {code.name}: {error.details()}")


_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


async def _read_on(call: Any) -> None:
    while await call.read() is not aio.EOF:
        pass


def _harmless(data: bytes) -> bytes:
    """Leads under an enormous epoch would shut out everybody for good, as they should: those are not sent."""
    try:
        command = worker_pb2.ExecuteRequest.FromString(data)
    except Exception:
        return data
    if command.WhichOneof("command") == "lead" and command.lead.epoch > 1:
        command.lead.epoch = 1
        return command.SerializeToString()
    return data


async def fuzz(name: str, messages: int, seed: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Fires so many messages at one service; what came of it."""
    task = progress.add_task(name, total=messages)
    async with service(name, folder) as running:
        target = Target(name, running.address, running.pid, methods_of(name), random.Random(seed))
        fire = Fuzz(target, seed)
        await target.works()
        began_s = time.monotonic()
        memory: list[tuple[int, float]] = []
        broken = ""
        while fire.sent < messages and not broken:
            await fire.batch(min(BATCH, messages - fire.sent))
            progress.update(task, completed=fire.sent)
            broken = await _what_broke(target, fire, running)
            memory.append((fire.sent, rss_mb(running.pid)))
        growth_mb = memory[-1][1] - memory[len(memory) // 4][1]
        if not broken and len(memory) >= 4 and growth_mb > MOST_GROWTH_MB:
            broken = f"memory grew by {growth_mb:.0f} MB: {memory[:: max(1, len(memory) // 8)]}"
        return {
            "service": name, "messages": fire.sent, "took_s": time.monotonic() - began_s, "seed": seed,
            "statuses": dict(fire.statuses.most_common()), "rss_mb": memory[:: max(1, len(memory) // 20)],
            "growth_mb": growth_mb, "broken": broken,
        }  # fmt: skip


async def _what_broke(target: Target, fire: Fuzz, running: Any) -> str:
    if not running.lives():
        return f"the process ended; its last words: {running.last_words()}"
    if fire.bad:
        return "; ".join(fire.bad[:5])
    try:
        await target.works()
    except Exception as error:
        words = running.last_words()
        return f"a sound request no longer works: {type(error).__name__}: {error}; its last words: {words}"
    said = running.tracebacks()
    return f"it logged a traceback: {said}" if said else ""


async def _all(
    names: Sequence[str], options: argparse.Namespace, folder: Path, progress: Progress
) -> list[dict[str, Any]]:
    return [await fuzz(name, options.messages, options.seed, folder, progress) for name in names]


def main() -> int:
    """Fuzzes the services that the command line names; 1 if one broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000, help="to each service")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--service", choices=SERVICES, action="append", help="only these")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, Progress(console=Console(stderr=True)) as progress:
        results = asyncio.run(_all(options.service or SERVICES, options, Path(folder), progress))
    for result in results:
        verdict = f"BROKE: {result['broken']}" if result["broken"] else "held"
        print(
            f"{result['service']}: {result['messages']} messages in {result['took_s']:.0f} s, memory "
            f"{result['growth_mb']:+.1f} MB, {verdict}\n  "
            + ", ".join(f"{k} {v}" for k, v in result["statuses"].items())
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(result["broken"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
