"""Seeded sampling beside chunked prefill on a CPU.

Each chunk of a prefill but the last samples a token that vLLM throws away, and vLLM then winds the request's own
random generator back by a GPU generator's offset. A CPU generator has none: the call raises and takes the engine with
it (vLLM 0.32.0). Here such a row does not use its generator at all, so there is nothing to wind back and a seeded
answer does not depend on how its prefill was cut.

vLLM imports this module in every process that runs the model (`worker_extension_cls`).
"""

from __future__ import annotations

from typing import Any

from vllm.v1.worker.cpu_model_runner import CPUModelRunner

_sample_tokens: Any = CPUModelRunner.sample_tokens


class SeededChunks:
    """Named in vLLM's configuration so that this module is imported; adds nothing to vLLM's worker."""


def _sample_with_own_seeds(runner: Any, *args: Any, **kwargs: Any) -> Any:
    batch = runner.input_batch
    discarded = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0]
    aside = {int(row): batch.generators.pop(int(row)) for row in discarded if int(row) in batch.generators}
    try:
        return _sample_tokens(runner, *args, **kwargs)
    finally:
        batch.generators.update(aside)


setattr(CPUModelRunner, "sample_tokens", _sample_with_own_seeds)  # noqa: B010 - vLLM types it as a method
