"""Serving speed of a predictor on this machine: `python -m bench.predict_serving [--predictor NAME --head DIR]`.

A predictor process is asked over gRPC by this one: first at a light, even rate, then with many questions in flight. No
prompt comes twice and each is a first question, so no cache helps. Then its sentence encoder, three ways: torch, ONNX
in float32 and ONNX in int8, with what each costs and how much accuracy it keeps (needs FAIRLEAD_DATA). Both processes
run on the first two cores that this one may use. About four minutes; on a busy machine look at the CPU times only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.predict_encoders import accuracy, encoders, timed
from fairlead.config import PredictorConfig
from fairlead.rpc import make_channel
from fairlead.v1 import predictor_pb2 as pb
from fairlead.v1 import predictor_pb2_grpc

WORDS = tuple(
    "write list explain a the of and story about river engine code table function short long three seven reasons why "  # noqa: SIM905
    "people city market weather history compare summary plan music garden number of steps please detail example".split()
)
WORDS_A_PROMPT = 88
"""About 100 word pieces."""

TARGETS = {"light_p50_ms": 7.0, "light_p99_ms": 20.0, "batched_per_s": 200.0, "rss_mb": 600.0}


def main() -> None:
    """Measures, prints a table, and writes --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--predictor", default=PredictorConfig().predictor, help="default: the one that serves by default"
    )
    parser.add_argument("--head", type=Path, help="folder of `fairlead predictor train`; default: the shipped one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20.0, help="questions a second at light load")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--cores", type=int, default=2, help="for predictor and load together")
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--no-encoders", action="store_true", help="leave the three encoders out (they need torch)")
    parser.add_argument("--json", type=Path, default=Path("build/predict-serving.json"))
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    result: dict[str, Any] = {"predictor": given.predictor, "threads": given.threads, "cores": given.cores, "seed": 0}
    result["service"] = asyncio.run(_service(given))
    _show(result)
    if not given.no_encoders:
        prompts = _prompts(1)
        with tempfile.TemporaryDirectory() as folder:
            ways = encoders(Path(folder), 128, given.threads)
            result["encoders"] = {way: timed(embed, [next(prompts) for _ in range(120)]) for way, embed in ways.items()}
            _show_encoders(result)
            data = os.environ.get("FAIRLEAD_DATA")
            result["accuracy"] = accuracy(ways, Path(data)) if data else []
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=1))
    for row in result.get("accuracy", []):
        print(f"  {row['dataset']:20} {row['encoder']:10} tau {row['kendall_tau']:.3f}  cosine {row['cosine']:.4f}")


async def _service(given: argparse.Namespace) -> dict[str, float]:
    async with _process(given) as (address, pid):
        channel = make_channel(address)
        stub = predictor_pb2_grpc.PredictorServiceStub(channel)
        prompts = _prompts(0)
        await _batched(stub, prompts, 2.0, 8)
        before_ms = _cpu_ms(pid)
        light = await _light(stub, prompts, given.rate, given.seconds)
        between_ms = _cpu_ms(pid)
        answered, rate = await _batched(stub, prompts, given.seconds, given.in_flight)
        after_ms = _cpu_ms(pid)
        await channel.close()
        rss_mb = _most_memory_mb(pid)
    return {
        "light_p50_ms": round(float(np.quantile(light, 0.5)), 2),
        "light_p99_ms": round(float(np.quantile(light, 0.99)), 2),
        "light_questions": len(light),
        "light_cpu_ms": round((between_ms - before_ms) / len(light), 2),
        "batched_per_s": round(rate, 1),
        "batched_cpu_ms": round((after_ms - between_ms) / answered, 2),
        "rss_mb": rss_mb,
    }


def _cpu_ms(pid: int) -> float:
    """CPU time that the process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _most_memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024, 1)


@asynccontextmanager
async def _process(given: argparse.Namespace) -> AsyncGenerator[tuple[str, int]]:
    """The service on a free port; late answers by `history` are turned off, so that only the predictor's count."""
    settings = {"FAIRLEAD_PREDICTOR__ANSWER_WITHIN_MS": "60000", "FAIRLEAD_PREDICTOR__THREADS": str(given.threads)}
    head = ["--head", str(given.head)] if given.head else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "predictor_svc", "--predictor", given.predictor, "--listen", "127.0.0.1:0", *head,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **settings},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
        if "ready at" not in line:
            raise SystemExit("the predictor did not start; its own words are above")
        yield line.split()[3], process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _light(stub: Any, prompts: Any, rate: float, seconds: float) -> list[float]:
    """Milliseconds from each question to its answer, asked at an even rate whatever came of the ones before."""
    call = stub.Predict()
    asked: dict[int, float] = {}
    spent: list[float] = []
    count = int(rate * seconds)

    async def read() -> None:
        for _ in range(count):
            response = await call.read()
            spent.append((time.perf_counter() - asked[response.query_id]) * 1000)

    reading = asyncio.create_task(read())
    start = time.perf_counter()
    for i in range(count):
        await asyncio.sleep(max(start + i / rate - time.perf_counter(), 0))
        asked[i] = time.perf_counter()
        await call.write(_question(i, next(prompts)))
    await reading
    await call.done_writing()
    return spent


async def _batched(stub: Any, prompts: Any, seconds: float, in_flight: int) -> tuple[int, float]:
    """Answers, and answers a second, with so many questions always in flight."""
    call = stub.Predict()
    start = time.perf_counter()
    for i in range(in_flight):
        await call.write(_question(i, next(prompts)))
    answered = 0
    while time.perf_counter() - start < seconds:
        await call.read()
        answered += 1
        await call.write(_question(in_flight + answered, next(prompts)))
    rate = answered / (time.perf_counter() - start)
    call.cancel()
    return answered, rate


def _question(query_id: int, prompt: str) -> pb.PredictRequest:
    return pb.PredictRequest(
        query_id=query_id, model="m", tenant="bench", prompt_tokens=100, max_tokens=2048, prompt=prompt
    )


def _prompts(seed: int) -> Any:
    """Prompts of about 100 word pieces, no two alike."""
    drawn = random.Random(seed)
    number = 0
    while True:
        number += 1
        yield " ".join([str(number), *drawn.choices(WORDS, k=WORDS_A_PROMPT)])


def _show(result: dict[str, Any]) -> None:
    print(f"predictor {result['predictor']}, {result['threads']} thread(s)")
    for name, value in result["service"].items():
        target = f"  (aim {TARGETS[name]:g})" if name in TARGETS else ""
        print(f"  {name:16} {value:g}{target}")


def _show_encoders(result: dict[str, Any]) -> None:
    for way, times in result["encoders"].items():
        told = (
            f"{times[name]:7.2f} {label}"
            for name, label in (("ms_p50", "ms p50"), ("ms_p99", "p99"), ("cpu_ms", "CPU"))
        )
        print(f"  {way:10} {' '.join(told)}, 100-token prompt", flush=True)


if __name__ == "__main__":
    main()
