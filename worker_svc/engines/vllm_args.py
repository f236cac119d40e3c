"""Our configuration and requests in vLLM's terms."""

from __future__ import annotations

from typing import Any

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from fairlead.config import WorkerConfig
from worker_svc.engines.base import BadPrompt, EngineFailed, EngineRequest
from worker_svc.engines.vllm_setup import Setup
from worker_svc.engines.vllm_wire import EXTRA_KEY, RequestNote

REFUSALS = (VLLMValidationError, ValueError, TypeError)
"""What vLLM raises when it refuses a configuration or a request."""

_HOOK = "worker_svc.engines.vllm_hook."
_SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)


def engine_config(config: WorkerConfig, setup: Setup) -> VllmConfig:
    """vLLM's configuration. Raises EngineFailed with vLLM's own words where it refuses."""
    ordered = config.scheduling == "fairlead"
    # vLLM's own schedulers know no seats: what is resident takes part in every step.
    slots = config.slots if ordered else config.step_seats
    arguments: dict[str, Any] = {
        "model": setup.model,
        "served_model_name": setup.served_model,
        "trust_remote_code": False,
        "dtype": config.dtype,
        "seed": config.seed,
        # Compiling takes 20 s on a CPU and gains nothing once a batch is more than a few sequences.
        "enforce_eager": setup.cpu if config.enforce_eager is None else config.enforce_eager,
        "max_num_seqs": slots,
        "max_num_batched_tokens": config.step_token_budget,
        "max_model_len": config.max_context_tokens,
        "block_size": config.kv_block_tokens,
        "num_gpu_blocks_override": None if config.kv_blocks is None else config.kv_blocks + 1,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel_size,
        "scheduling_policy": "fcfs" if config.scheduling == "vllm-fcfs" else "priority",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "additional_config": {
            EXTRA_KEY: {"step_seats": config.step_seats, "cpus": config.engine_cpus if setup.cpu else None}
        },
    }
    if setup.cpu:
        arguments["worker_extension_cls"] = "worker_svc.engines.vllm_cpu_seeds.SeededChunks"
    if setup.cpu and config.tensor_parallel_size == 1:
        # vLLM would add a worker process on a CPU: 10 s more to start, and a busy wait between the two at each step.
        arguments["distributed_executor_backend"] = UniProcExecutor
    _check_sizes(config, slots, setup.cpu)
    try:
        made = AsyncEngineArgs(**arguments).create_engine_config()
    except OSError as error:
        raise EngineFailed(
            f"worker.model: {setup.model!r} is no local folder and could not be fetched ({first_lines(error, 1)}); "
            "give a folder, 'demo', or a Hugging Face id that this machine reaches"
        ) from error
    except (*REFUSALS, RuntimeError) as error:
        raise EngineFailed(f"vLLM does not take this configuration of the worker: {first_lines(error)}") from error
    context_tokens = made.model_config.max_model_len
    if config.kv_blocks is not None and config.kv_blocks * config.kv_block_tokens < context_tokens:
        raise EngineFailed(
            f"worker.kv_blocks: {config.kv_blocks} blocks of {config.kv_block_tokens} tokens do not hold a sequence of "
            f"{context_tokens} tokens; take more blocks or a smaller worker.max_context_tokens"
        )
    asynchronous = "Async" if made.scheduler_config.async_scheduling else ""
    kind = "Ordered" if ordered else "Recording"
    made.scheduler_config.scheduler_cls = f"{_HOOK}{kind}{asynchronous}Scheduler"
    return made


def _check_sizes(config: WorkerConfig, slots: int, cpu: bool) -> None:
    """What vLLM would refuse in terms of its own names, or only once the model is loaded."""
    if config.step_token_budget < slots:
        name = "worker.slots" if config.scheduling == "fairlead" else "worker.step_seats"
        raise EngineFailed(
            f"worker.step_token_budget ({config.step_token_budget}) must be at least {name} ({slots}): "
            "each sequence may need a token in each step"
        )
    if cpu and config.kv_block_tokens % 32:
        raise EngineFailed(f"worker.kv_block_tokens must be a multiple of 32 on a CPU, not {config.kv_block_tokens}")


def sampling_params(request: EngineRequest, defaults: dict[str, Any]) -> SamplingParams:
    """The request's sampling over the model's defaults. Raises BadPrompt where a value is out of its range."""
    sampling = request.sampling
    given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(sampling, name)) is not None}
    note = RequestNote(
        request.handle,
        request.latency_sensitive,
        request.arrival_ms,
        request.ttft_ms,
        request.tpot_ms,
        request.rank,
    )
    drawn: dict[str, Any] = {**defaults, **given}
    try:
        return SamplingParams(
            **drawn,
            max_tokens=sampling.max_tokens,
            min_tokens=sampling.min_tokens,
            stop=list(sampling.stop),
            stop_token_ids=list(sampling.stop_token_ids),
            ignore_eos=sampling.ignore_eos,
            output_kind=RequestOutputKind.DELTA,
            extra_args=note.packed(),
        )
    except REFUSALS as error:
        raise BadPrompt(f"sampling: {first_lines(error)}") from error


def default_sampling(config: VllmConfig) -> dict[str, Any]:
    """What the model's own generation configuration says, for fields that a request leaves open."""
    defaults = dict(config.model_config.get_diff_sampling_param())
    defaults.pop("max_tokens", None)
    return defaults


def first_lines(error: BaseException, lines: int = 4) -> str:
    """The beginning of an error's message, for one line of ours."""
    return " ".join(str(error).strip().splitlines()[:lines]) or type(error).__name__
