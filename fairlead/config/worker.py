"""Settings of a worker."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fairlead.config.base import Count, Section


class WorkerConfig(Section):
    """A worker: a gRPC server round one engine."""

    listen: str = "127.0.0.1:7602"
    """host:port for the scheduler; no key is asked for."""
    worker_id: str | None = None
    """Stable name; null: host name and port."""
    engine: str = "vllm"
    """`vllm`, `simulated` (no model is loaded), or an installed plug-in's name."""
    model: str = "demo"
    """Hugging Face id, local folder, or `demo` for the shipped model."""
    served_model: str | None = None
    """Name that clients ask for; null: the last part of `model`."""
    slots: Count = 48
    """Sequences resident in the engine (vLLM's max_num_seqs); more than seats, since a pause keeps its slot."""
    step_seats: Count = 16
    """Places in a step; at most `slots`."""
    step_token_budget: Count = 2048
    """Tokens in a step, prefill and decode together (vLLM's max_num_batched_tokens); at least `slots`."""
    max_context_tokens: Count | None = None
    """Prompt and answer of one request; null: what the model allows."""
    kv_blocks: Count | None = None
    """KV cache blocks; null: what the engine finds room for."""
    kv_block_tokens: Count = 32
    """Tokens in a KV cache block: a multiple of 16, on a CPU of 32."""
    max_held: Count = 256
    """Requests held at once, waiting ones included."""
    dtype: str = "auto"
    """Of the weights, in vLLM's words: auto, bfloat16, float16, float32."""
    enforce_eager: bool | None = None
    """No compiled graphs; null: none on a CPU, vLLM's own choice on a GPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that vLLM may take."""
    tensor_parallel_size: Count = 1
    """GPUs that one worker spreads the model over."""
    engine_cpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """CPUs of the engine's main thread on a CPU build; null: any. `fairlead up` keeps one free of everything else."""
    scheduling: Literal["fairlead", "vllm-fcfs", "vllm-priority"] = "fairlead"
    """`fairlead`: our order at each step; the others are vLLM's own, for comparison."""
    simulated_step_ms: tuple[float, float, float, float] = (6.0, 0.045, 0.05, 0.00025)
    """c0..c3 of the simulated engine's step time."""
    simulated_answer_tokens: Count = 128
    """Median answer of the simulated engine."""
    seed: int = 0
    """Of sampling where a request states none."""

    @field_validator("kv_block_tokens")
    @classmethod
    def _whole_blocks(cls, value: int) -> int:
        if value % 16:
            raise ValueError("kv_block_tokens must be a multiple of 16 (of 32 on a CPU)")
        return value

    @model_validator(mode="after")
    def _seats_fit(self) -> WorkerConfig:
        if self.step_seats > self.slots:
            raise ValueError(f"step_seats ({self.step_seats}) must not exceed slots ({self.slots})")
        return self
