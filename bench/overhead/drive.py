"""The client process: keeps a number of requests in flight for a while and tells what came back, when.

Commands come as JSON lines on standard input, answers go to standard output:
`{"concurrency": 64, "seconds": 8.0, "seed": 1, "variant": 0}`. The first line is the way to the engine.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.overhead.clients import DirectClient, HttpClient, StreamClient, SuiteClient
from bench.overhead.plan import Ask, asks
from fairlead import event_loop


@dataclass(slots=True)
class Answer:
    """What came of one request; times in s from the start of the run, `at_s` one for each piece of `counts` tokens."""

    sent_s: float
    wanted: int
    at_s: list[float] = field(default_factory=list[float])
    counts: list[int] = field(default_factory=list[int])


def open_client(way: dict[str, Any]) -> StreamClient:
    """The client for `way`: `{"kind": "direct" | "http" | "suite", ...}`."""
    kind = way.pop("kind")
    if kind == "direct":
        return DirectClient(way)
    return HttpClient(**way) if kind == "http" else SuiteClient(**way)


async def keep_in_flight(
    client: StreamClient, requests: Iterator[Ask], concurrency: int, seconds: float
) -> list[Answer]:
    """Closed loop: each of `concurrency` senders asks again as soon as it has its answer, until `seconds` are over."""
    answers: list[Answer] = []
    begun_s = time.perf_counter()

    async def sender() -> None:
        while (now_s := time.perf_counter() - begun_s) < seconds:
            ask = next(requests)
            answer = Answer(now_s, ask.answer_tokens)
            answers.append(answer)
            async for count in client.stream(ask):
                if count:
                    answer.at_s.append(time.perf_counter() - begun_s)
                    answer.counts.append(count)

    await asyncio.gather(*(sender() for _ in range(concurrency)))
    return answers


async def serve() -> None:
    """Reads commands until standard input ends."""
    loop = asyncio.get_running_loop()

    async def line() -> dict[str, Any] | None:
        text = await loop.run_in_executor(None, sys.stdin.readline)
        return json.loads(text) if text.strip() else None

    way = await line()
    assert way is not None, "the first line says which way to go"
    client = open_client(way)
    print(json.dumps({"ready": True}), flush=True)
    while (told := await line()) is not None:
        requests = asks(told["seed"], told["vocabulary"], told["variant"])
        answers = await keep_in_flight(client, requests, told["concurrency"], told["seconds"])
        print(json.dumps([asdict(answer) for answer in answers]), flush=True)
    await client.close()


def main() -> None:
    """Runs on uvloop, which vLLM's own server uses as well."""
    event_loop.run(serve())


if __name__ == "__main__":
    main()
