"""Asks the demo model the built-in prompts through vLLM and reports lengths, endings, speed and right answers."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demo.grading import is_right
from fairlead.workload.tasks import Task, prompts

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams

_SPREAD_PROMPTS, _SPREAD_SAMPLES = 24, 8


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.check_model",
        description=__doc__,
        epilog="With --out the answers become the training rows of the length predictor: one JSON object a line with "
        "prompt, response, response_tokens (the end token included), prompt_tokens and kind. "
        "Example: python -m demo.check_model --count 6000 --concurrent 32 --out answers.jsonl",
    )
    add = parser.add_argument
    add("--model", type=Path, default=Path("worker_svc/demo_model"), help="model folder (default: %(default)s)")
    add("--count", type=int, default=300, help="prompts to answer (default: %(default)s)")
    add("--seed", type=int, default=1, help="seed of prompts and sampling (default: %(default)s)")
    add("--concurrent", type=int, default=12, help="sequences in the engine at once (default: %(default)s)")
    add("--max-tokens", type=int, default=512, help="most tokens of an answer (default: %(default)s)")
    add(
        "--dtype",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="type of the weights (default: %(default)s)",
    )
    add("--temperature", type=float, help="instead of the model's own default")
    add("--compile", action="store_true", help="let vLLM compile the model: slower start, faster steps")
    add("--show", type=int, default=0, help="print this many prompts with their answers")
    add("--out", type=Path, help="write the answers as JSON lines to this file")
    return parser.parse_args()


def start_engine(args: argparse.Namespace) -> LLM:
    """A vLLM engine on one CPU thread; prints how long it took to start."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    from vllm import LLM  # noqa: PLC0415  vLLM reads the environment when it is imported

    start = time.monotonic()
    engine = LLM(
        str(args.model),
        dtype=args.dtype,
        enforce_eager=not args.compile,
        max_model_len=1024,
        block_size=32,
        max_num_seqs=args.concurrent,
        seed=args.seed,
    )
    print(f"engine started in {time.monotonic() - start:.1f} s ({args.dtype})", flush=True)
    return engine


def chats(tasks: Sequence[Task]) -> list[list[dict[str, str]]]:
    """Each prompt as a conversation of one user message."""
    return [[{"role": "user", "content": task.prompt}] for task in tasks]


def answer(engine: LLM, tasks: Sequence[Task], sampling: SamplingParams) -> list[RequestOutput]:
    """The engine's outputs in the order of the tasks, with the speed printed."""
    start = time.monotonic()
    outputs = engine.chat(chats(tasks), sampling, use_tqdm=False)  # type: ignore[arg-type]
    took = time.monotonic() - start
    tokens = sum(len(sample.token_ids) for output in outputs for sample in output.outputs)
    print(f"{tokens} tokens in {took:.1f} s: {tokens / took:.0f} tokens/s", flush=True)
    return outputs


def report_lengths(outputs: Sequence[RequestOutput]) -> None:
    """Prints how long the answers are and how many ended by themselves."""
    lengths = sorted(len(output.outputs[0].token_ids) for output in outputs)
    at = {share: lengths[min(len(lengths) - 1, int(len(lengths) * share / 100))] for share in (10, 50, 90, 99)}
    ended = sum(output.outputs[0].finish_reason == "stop" for output in outputs) / len(outputs)
    quantiles = "  ".join(f"p{share} {value}" for share, value in at.items())
    print(f"answer tokens: mean {statistics.fmean(lengths):.0f}  {quantiles}  max {lengths[-1]}")
    print(f"ended by themselves: {ended:.1%}")


def report_kinds(tasks: Sequence[Task], outputs: Sequence[RequestOutput]) -> None:
    """Prints, kind by kind, mean length and the share of right answers where right and wrong can be told."""
    lengths: dict[str, list[int]] = defaultdict(list)
    marks: dict[str, list[bool]] = defaultdict(list)
    for task, output in zip(tasks, outputs, strict=True):
        lengths[task.kind].append(len(output.outputs[0].token_ids))
        right = is_right(task, output.outputs[0].text)
        if right is not None:
            marks[task.kind].append(right)
    for kind, values in sorted(lengths.items(), key=lambda item: statistics.fmean(item[1])):
        graded = marks[kind]
        share = f"{statistics.fmean(graded):.0%} right of {len(graded)}" if graded else "no right or wrong"
        print(f"  {kind:15} {len(values):5} answers  mean {statistics.fmean(values):5.0f} tokens  {share}")


def report_spread(engine: LLM, tasks: Sequence[Task], sampling: SamplingParams) -> None:
    """Prints how much the length varies when one prompt is answered several times."""
    repeated = sampling.clone()
    repeated.n = _SPREAD_SAMPLES
    ratios: list[float] = []
    for task, output in zip(tasks, answer(engine, tasks, repeated), strict=True):
        lengths = sorted(len(sample.token_ids) for sample in output.outputs)
        ratios.append(statistics.pstdev(lengths) / statistics.fmean(lengths))
        print(f"  {task.prompt[:60]!r}: {lengths}")
    print(f"within one prompt: standard deviation / mean = {statistics.fmean(ratios):.2f} over {len(tasks)} prompts")


def write_rows(path: Path, tasks: Sequence[Task], outputs: Sequence[RequestOutput]) -> None:
    """Writes one JSON line for each answer."""
    with path.open("w", encoding="utf-8") as file:
        for task, output in zip(tasks, outputs, strict=True):
            row = {
                "prompt": task.prompt,
                "response": output.outputs[0].text,
                "response_tokens": len(output.outputs[0].token_ids),
                "prompt_tokens": len(output.prompt_token_ids or ()),
                "kind": task.kind,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(tasks)} answers written to {path}")


def main() -> None:
    """Runs every check and prints the report."""
    args = parse_arguments()
    tasks = prompts(args.seed, args.count)
    engine = start_engine(args)
    sampling = engine.get_default_sampling_params()
    sampling.max_tokens = args.max_tokens
    if args.temperature is not None:
        sampling.temperature = args.temperature
    print("one sequence at a time:", end=" ")
    answer(engine, [task for task in tasks if task.kind == "story"][:1] or tasks[:1], sampling)
    print(f"{args.concurrent} at a time:", end=" ")
    outputs = answer(engine, tasks, sampling)
    if args.out:
        write_rows(args.out, tasks, outputs)
    for task, output in list(zip(tasks, outputs, strict=True))[: args.show]:
        print(f"--- {task.kind}: {task.prompt}\n{output.outputs[0].text}")
    report_lengths(outputs)
    report_kinds(tasks, outputs)
    report_spread(engine, tasks[:_SPREAD_PROMPTS], sampling)


if __name__ == "__main__":
    main()
