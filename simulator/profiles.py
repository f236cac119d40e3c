"""Named machines to simulate, each with its source. A profile can also be a file that `bench.step_profile` wrote.

There is none here without a source that can be checked, and none yet that we measured on a GPU ourselves.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from worker_svc.ordering import StepModel

DEFAULT_PROFILE = "design"


class ProfileError(ValueError):
    """No such profile, or a file that is none; the message names the field and lists the known ones."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A worker of the simulator.

    Attributes:
        source: where its figures are from, for a reader.
        step_model: step time, ms.
        seats, kv_tokens, token_budget, block_tokens: sizes.
    """

    name: str
    summary: str
    source: str
    step_model: StepModel
    seats: int = 64
    kv_tokens: int = 120_000
    token_budget: int = 2048
    block_tokens: int = 16


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            DEFAULT_PROFILE,
            "the project's reference: a GPU like an A100 or H100, 64 seats",
            'fairlead\'s design, scheduling, "What to reach": assumed for comparisons, not measured',
            StepModel(6.0, 0.045, 0.05, 0.00025),
        ),
        Profile(
            "design-256",
            "the same with 256 seats and three times the KV cache",
            'fairlead\'s design, scheduling, "What to reach", the row with 256 seats (c0 as in `design`): assumed, not '
            "measured",
            StepModel(6.0, 0.035, 0.03, 0.00005),
            seats=256,
            kv_tokens=400_000,
        ),
        Profile(
            "cpu-demo",
            "vLLM on two shared CPU cores with the demo model, 12 seats: what `fairlead up` runs without a GPU",
            "learned by the worker in the warm-up of docs/fidelity/load_0.9.json (vLLM 0.32.0, AMD EPYC), while the "
            "fit still lay below the mean: steps lasted up to a fifth longer. KV cache not measured: that of `design`. "
            "`python -m bench.step_profile --json FILE` measures the machine that you have",
            StepModel(4.17, 0.0674, 0.102, 0.000566),
            seats=12,
            block_tokens=32,
        ),
        Profile(
            "h100x8-llama2-70b",
            "eight H100 of 80 GB, Llama 2 70B in 16 bits, tensor parallel: slow steps, much KV cache",
            "fitted to the published measurements of Splitwise (Patel et al., ISCA 2024): github.com/Mutinifni/"
            "splitwise-sim, data/perf_model.csv at 3780880, medians of llama2-70b on h100-80gb, tensor_parallel 8, up "
            "to 2,048 prompt tokens; within 5 % from 512 prompt tokens on, too low for short prompts alone (128 tokens "
            "36 ms, measured 58). KV cache computed: (0.9 * 640 GB - 138 GB of weights) / 320 KiB a token",
            StepModel(29.38, 0.0492, 0.171, 0.000252),
            kv_tokens=1_300_000,
        ),
    )
}


def find_profile(text: str) -> Profile:
    """A profile by name, or from a JSON file.

    Raises:
        ProfileError: neither.
    """
    if text in PROFILES:
        return PROFILES[text]
    path = Path(text)
    if path.suffix == ".json" or path.is_file():
        return read_profile(path)
    raise ProfileError(f"{text}: unknown profile; known: {', '.join(PROFILES)}, or a file of `bench.step_profile`")


def read_profile(path: Path) -> Profile:
    """A profile from a file that `bench.step_profile` wrote. Raises ProfileError, naming the field."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read as a profile ({error})") from None
    if not isinstance(value, dict):
        raise ProfileError(f"{path}: is not an object")
    fields = cast("dict[str, Any]", value)
    steps = fields.get("step_ms")
    if not isinstance(steps, list) or len(cast("list[Any]", steps)) != 4:
        raise ProfileError(f"{path}: step_ms: must be four numbers, c0 to c3")
    numbers = [_number(path, "step_ms", each, 0.0) for each in cast("list[Any]", steps)]
    if numbers[0] <= 0:
        raise ProfileError(f"{path}: step_ms: the first, the time of an empty step, must be above 0")
    sizes = {
        name: int(_number(path, name, fields.get(name, getattr(PROFILES[DEFAULT_PROFILE], name)), 1.0))
        for name in ("seats", "kv_tokens", "token_budget", "block_tokens")
    }
    return Profile(
        str(fields.get("name", path.stem)),
        str(fields.get("summary", "")),
        str(fields.get("source", "")),
        StepModel(*numbers),
        sizes["seats"],
        sizes["kv_tokens"],
        sizes["token_budget"],
        sizes["block_tokens"],
    )


def write_profile(profile: Profile, path: Path, details: dict[str, Any]) -> None:
    """As `read_profile` reads it; `details` are for a reader."""
    model = profile.step_model
    value = {
        "name": profile.name,
        "summary": profile.summary,
        "source": profile.source,
        "step_ms": [
            model.c0_ms,
            model.c1_ms_per_prefill_token,
            model.c2_ms_per_decode,
            model.c3_ms_per_context_token,
        ],
        "seats": profile.seats,
        "kv_tokens": profile.kv_tokens,
        "token_budget": profile.token_budget,
        "block_tokens": profile.block_tokens,
        "details": details,
    }
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _number(path: Path, name: str, value: object, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise ProfileError(f"{path}: {name}: {value!r} must be a number of at least {least:g}")
    return float(value)
