"""Real vLLM behind the engine interface: AsyncLLM in this process, EngineCore with our scheduler in a second one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fairlead.config import WorkerConfig
from worker_svc.engines.base import BadPrompt, EngineFailed, EngineInfo, EngineRequest, StepBatch, is_whole
from worker_svc.engines.vllm_guard import keep_signals_apart
from worker_svc.engines.vllm_setup import Setup, prepare
from worker_svc.engines.vllm_wire import pack_rules
from worker_svc.step_types import StepModel, StepRules

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

    from worker_svc.engines.vllm_streams import Streams

_STOP_TIMEOUT_S = 10.0


class VllmEngine:
    """vLLM. Imported lazily: its import takes seconds and reads the environment that `start` prepares."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._llm: AsyncLLM | None = None
        self._abandoned = False
        self._streams: Streams | None = None
        self._defaults: dict[str, Any] = {}
        self._reader: asyncio.Task[None] | None = None
        self._order: tuple[list[int], StepRules | None] | None = None
        self._order_sender: asyncio.Task[None] | None = None

    async def start(self) -> EngineInfo:
        """Loads the model; some 15 s on a CPU, most of it imports. Raises EngineFailed with a remedy."""
        setup = prepare(self._config)
        # In a thread: it takes seconds, and vLLM would start its own output handler if it saw a running loop.
        try:
            await asyncio.to_thread(self._create, setup)
        except asyncio.CancelledError:
            self._abandoned = True  # the thread goes on and ends what it has started
            raise
        from worker_svc.engines.vllm_streams import Streams  # noqa: PLC0415 - imports vLLM

        self._streams = Streams()
        self._reader = asyncio.create_task(self._read(), name="vllm-outputs")
        return self._info(setup)

    async def stop(self) -> None:
        """Ends EngineCore and frees all it holds."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        with contextlib.suppress(Exception):  # a dead engine has nothing to release
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await llm.engine_core.call_utility_async("fairlead_release")
        tasks = [task for task in (self._order_sender, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._streams is not None:
            self._streams.close()
        await asyncio.to_thread(llm.shutdown, _STOP_TIMEOUT_S)
        del llm
        # Now: AsyncLLM has a finaliser that fails noisily where the interpreter is already going down.
        gc.unfreeze()
        gc.collect()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a plain prompt, special tokens as the model wants them."""
        return list(self._tokenizer.encode(text))

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Applies the model's chat template. Raises BadPrompt."""
        conversation = [dict(message) for message in messages]
        try:
            rendered = self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs of the model's author and raise what they like
            raise BadPrompt(f"the model's chat template does not take these messages: {error}") from error
        return str(rendered)

    def tokenize_rendered(self, text: str) -> list[int]:
        """Token ids of a rendered conversation: no special tokens are added beyond the template's."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of these ids, without special tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    async def admit(self, request: EngineRequest) -> None:
        """Takes a sequence. Raises BadPrompt."""
        from worker_svc.engines.vllm_args import REFUSALS, first_lines, sampling_params  # noqa: PLC0415 - imports vLLM

        llm, streams = self._running()
        if request.handle in streams:
            raise BadPrompt(f"handle {request.handle} is in use")
        params = sampling_params(request, self._defaults)
        prompt: Any = {"type": "token", "prompt_token_ids": list(request.token_ids)}
        if request.cache_salt:
            prompt["cache_salt"] = request.cache_salt
        try:
            made = llm.input_processor.process_inputs(
                str(request.handle),
                prompt,
                params,
                supported_tasks=("generate",),
                arrival_time=request.arrival_ms / 1e3,
                priority=0 if request.latency_sensitive else 1,
            )
            llm.input_processor.assign_request_id(made)
        except REFUSALS as error:
            raise BadPrompt(first_lines(error)) from error
        drawn = made.sampling_params
        if drawn is not None and is_whole(request, {drawn.eos_token_id, *(drawn.stop_token_ids or ())}):
            streams.end_whole(request.handle)
            return
        streams.open(request.handle, made, self._tokenizer)
        try:
            await llm.engine_core.add_request_async(made)
        except Exception as error:
            streams.drop(request.handle)
            raise EngineFailed(f"the engine is gone: {first_lines(error)}") from error

    async def set_ranks(self, handles: Sequence[int], rules: StepRules | None) -> None:
        """The new order; sent at once, or with what comes next if the last one is still on its way."""
        self._running()
        order = list(handles)
        if self._order is not None:
            named = set(order)
            order += [handle for handle in self._order[0] if handle not in named]
            rules = rules or self._order[1]
        self._order = (order, rules)
        if self._order_sender is None or self._order_sender.done():
            self._order_sender = asyncio.create_task(self._send_order(), name="vllm-order")

    async def cancel(self, handles: Sequence[int]) -> None:
        """Ends these and frees their KV at once."""
        llm, streams = self._running()
        await llm.engine_core.abort_requests_async(streams.cancel(handles))

    async def batches(self) -> AsyncIterator[StepBatch]:
        """What happens, at most one batch a step. One reader. Raises EngineFailed if the engine dies."""
        _, streams = self._running()
        while (batch := await streams.next_batch()) is not None:
            yield batch

    def step_model(self) -> tuple[StepModel, float | None]:
        """The fitted step-time model and its mean relative error (None before the first fit)."""
        _, streams = self._running()
        return streams.model, streams.relative_error

    async def inspect(self) -> dict[str, float]:
        """State of the scheduler in EngineCore, for tests and debugging."""
        llm, _ = self._running()
        return await llm.engine_core.call_utility_async("fairlead_inspect")

    def _running(self) -> tuple[AsyncLLM, Streams]:
        if self._llm is None or self._streams is None:
            raise EngineFailed("the engine does not run; call start first")
        return self._llm, self._streams

    @property
    def _tokenizer(self) -> Any:
        llm, _ = self._running()
        return llm.get_tokenizer()

    def _create(self, setup: Setup) -> None:
        # vLLM and torch tell of what is missing on a CPU as if it mattered.
        warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
        logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
        import torch  # noqa: PLC0415 - after the environment is set
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        from worker_svc.engines.vllm_args import default_sampling, engine_config, first_lines  # noqa: PLC0415

        config = engine_config(self._config, setup)
        self._defaults = default_sampling(config)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = setup.start_method  # vLLM has just overwritten it on a CPU
        if setup.start_method == "fork":
            # torch may have been imported before the environment said so.
            torch.set_num_threads(1)
            keep_signals_apart()
        # In a forked child nothing of ours may be collected: a gRPC object's end would wait for threads left behind.
        gc.collect()
        gc.freeze()
        try:
            self._llm = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        except Exception as error:
            raise EngineFailed(
                f"vLLM's engine process did not start ({first_lines(error, 1)}); its own log above names the cause. "
                "Often it is memory: set VLLM_CPU_KVCACHE_SPACE (GiB, on a CPU) or worker.gpu_memory_utilization "
                "lower, worker.max_context_tokens shorter, or take a smaller model"
            ) from error
        finally:
            gc.unfreeze()
        if self._abandoned:
            llm, self._llm = self._llm, None
            llm.shutdown(timeout=0)

    def _info(self, setup: Setup) -> EngineInfo:
        llm, _ = self._running()
        config = llm.vllm_config
        scheduler = config.scheduler_config
        return EngineInfo(
            engine="vllm",
            engine_version=setup.vllm_version,
            device=str(config.device_config.device_type),
            model=setup.served_model,
            max_context_tokens=config.model_config.max_model_len,
            slots=scheduler.max_num_seqs,
            step_seats=self._config.step_seats,
            kv_blocks=(config.cache_config.num_gpu_blocks or 1) - 1,
            kv_block_tokens=config.cache_config.block_size,
            step_token_budget=scheduler.max_num_batched_tokens,
            vocabulary_tokens=config.model_config.get_vocab_size(),
        )

    async def _read(self) -> None:
        """One pass over each of EngineCore's messages, for as long as there are any."""
        llm, streams = self._running()
        core = llm.engine_core
        try:
            while True:
                to_abort = streams.take_message(await core.get_output_async())
                if to_abort:
                    await core.abort_requests_async(to_abort)
        except Exception as error:  # whatever it was, no token will come any more
            streams.fail(
                EngineFailed(f"vLLM's engine process has died ({error}); its log names the cause; restart the worker")
            )

    async def _send_order(self) -> None:
        llm, streams = self._running()
        while self._order is not None:
            (handles, rules), self._order = self._order, None
            try:
                await llm.engine_core.call_utility_async("fairlead_order", handles, pack_rules(rules))
            except Exception as error:  # told by `batches`, where the reader is
                streams.fail(EngineFailed(f"vLLM's engine process does not take the order: {error}"))
