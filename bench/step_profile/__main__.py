from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.overhead.report import machine
from bench.step_profile.fit import Fit, Step, fit_steps
from demo.machine import OtherCpu
from fairlead.cli.problems import EXIT_USAGE, fail, wide_console
from fairlead.steps import StepModel
from simulator.profiles import Profile, write_profile


def step_profile(
    name: Annotated[str, typer.Option(help="Of the profile.")] = "measured",
    model: Annotated[str, typer.Option(help="For vLLM: `demo`, a folder, or a Hugging Face id.")] = "demo",
    slots: Annotated[int, typer.Option(min=1, help="Sequences of the engine that is measured.")] = 48,
    tokens: Annotated[int, typer.Option(min=8, help="Output tokens of each sequence.")] = 60,
    repetitions: Annotated[int, typer.Option(min=1, help="Of every cell.")] = 3,
    seed: Annotated[int, typer.Option(help="Of prompts.")] = 0,
    torch: Annotated[
        bool, typer.Option("--torch", help="A Llama with random weights in plain PyTorch instead of vLLM.")
    ] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="With --torch: a tiny shape, a check that it works.")] = False,
    device: Annotated[str | None, typer.Option(help="With --torch: cuda or cpu; default: cuda where it is.")] = None,
    kv_gib: Annotated[float, typer.Option(min=0.001, help="With --torch: largest KV cache of a cell, GiB.")] = 40.0,
    kv_tokens: Annotated[int, typer.Option(min=64, help="KV cache that the profile states.")] = 120_000,
    seats: Annotated[int, typer.Option(min=1, help="Seats that the profile states.")] = 64,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the profile here.")] = None,
) -> None:
    """Measure step times and fit c0 + c1 * prefill tokens + c2 * decodes + c3 * context tokens to them.

    The default measures vLLM on this machine. `--torch` measures prefill and decode steps of a Llama of 8B shape
    (bfloat16, 16 GB of weights) over batch and context sizes, for a GPU where vLLM cannot be had.

    Example: python -m bench.step_profile --json cpu.json && fairlead simulate --profile cpu.json
    """
    console = wide_console()
    others = OtherCpu()
    if torch:
        fit, about = _torch(console, tiny, device, repetitions, kv_gib)
        sizes = {"seats": seats, "kv_tokens": kv_tokens}
    else:
        fit, about, sizes = _engine(model, slots, tokens, repetitions, seed)
    used = others.cpus()
    model_found = fit.model
    console.print(_words(model_found))
    console.print(
        f"{fit.steps} steps, {fit.left_out} outliers left out of the fit; mean error {fit.error:.1%} "
        f"(with prefill {_share(fit.prefill_error)}, decodes alone {_share(fit.decode_error)})"
        + (f"; other programs used {used:.2f} CPUs meanwhile" if used is not None else "")
    )
    if json_file is not None:
        details = about | machine() | {"fit": asdict(fit), "other_programs_cpus": used}
        profile = Profile(
            name, about["what"], f"measured by python -m bench.step_profile: {about['what']}", model_found, **sizes
        )
        write_profile(profile, json_file, details)


def _engine(
    model: str, slots: int, tokens: int, repetitions: int, seed: int
) -> tuple[Fit, dict[str, Any], dict[str, int]]:
    from bench.step_profile.engine import measure_engine  # noqa: PLC0415 - vLLM is not wanted for --torch
    from worker_svc.engines.base import EngineFailed  # noqa: PLC0415

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        steps, info = asyncio.run(measure_engine(model, slots=slots, tokens=tokens, repetitions=repetitions, seed=seed))
    except EngineFailed as error:
        fail(str(error))
    what = f"{info.engine} {info.engine_version} on {info.device}, model {info.model}"
    sizes = {
        "seats": slots,
        "kv_tokens": info.kv_blocks * info.kv_block_tokens,
        "token_budget": info.step_token_budget,
        "block_tokens": info.kv_block_tokens,
    }
    return _fitted(steps), {"what": what}, sizes


def _torch(
    console: Console, tiny: bool, device: str | None, repetitions: int, kv_gib: float
) -> tuple[Fit, dict[str, Any]]:
    import torch  # noqa: PLC0415 - only where it is asked for

    from bench.step_profile.llama import FULL_GRID, TINY, TINY_GRID, Shape, measure_llama  # noqa: PLC0415

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        fail(
            "--device cuda: PyTorch sees no GPU here; leave it out, or take --tiny --device cpu for a check", EXIT_USAGE
        )
    if device == "cpu" and not tiny:
        fail("--torch: no GPU here, and 8 billion weights are nothing for a CPU; take --tiny for a check", EXIT_USAGE)
    shape = TINY if tiny else Shape()
    steps = measure_llama(
        shape, TINY_GRID if tiny else FULL_GRID, device=device, repetitions=repetitions, kv_gib=kv_gib,
        told=console.print,
    )  # fmt: skip
    on = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    what = f"PyTorch {torch.__version__} on {on}, a Llama of {shape.layers} layers x {shape.hidden}, random weights"
    return _fitted(steps), {"what": what, "shape": asdict(shape), "steps": [asdict(step) for step in steps]}


def _fitted(steps: Sequence[Step]) -> Fit:
    try:
        return fit_steps(steps)
    except ValueError as error:
        fail(str(error))


def _words(model: StepModel) -> str:
    return (
        f"step = {model.c0_ms:.4f} ms + {model.c1_ms_per_prefill_token:.6f} ms a prefill token + "
        f"{model.c2_ms_per_decode:.5f} ms a decode + {model.c3_ms_per_context_token:.8f} ms a context token"
    )


def _share(error: float | None) -> str:
    return "-" if error is None else f"{error:.1%}"


if __name__ == "__main__":
    typer.run(step_profile)
