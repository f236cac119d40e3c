"""One streaming client for each way to the engine, all with the same shape: `stream(ask)` yields token counts."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, Protocol

from bench.overhead.plan import Ask

TIMEOUT_S = 120.0


class Unanswered(Exception):
    """A request that did not end with its whole answer."""


class StreamClient(Protocol):
    """A way to the engine."""

    def stream(self, ask: Ask) -> AsyncGenerator[int, None]:
        """Yields how many tokens each piece of the answer brought, as it comes. Raises Unanswered."""
        ...

    async def close(self) -> None:
        """Ends the connection."""
        ...


class DirectClient:
    """(a) vLLM's AsyncLLM in this very process."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - takes seconds
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        self._next = 0

    async def stream(self, ask: Ask) -> AsyncGenerator[int, None]:
        """As `StreamClient`."""
        from vllm import SamplingParams  # noqa: PLC0415
        from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

        params = SamplingParams(
            max_tokens=ask.answer_tokens, ignore_eos=True, temperature=0.8, output_kind=RequestOutputKind.DELTA
        )
        self._next += 1
        prompt: Any = {"prompt_token_ids": list(ask.token_ids)}
        async for output in self._llm.generate(prompt, params, str(self._next)):
            yield len(output.outputs[0].token_ids)

    async def close(self) -> None:
        """As `StreamClient`."""
        self._llm.shutdown()
        del self._llm
        gc.collect()  # now: its finaliser fails noisily where the interpreter is already going down


class HttpClient:
    """(b) vLLM's OpenAI server: completions, streamed as server-sent events."""

    def __init__(self, address: str, model: str) -> None:
        import aiohttp  # noqa: PLC0415 - a library of vLLM's, needed for this way alone

        self._url = f"http://{address}/v1/completions"
        self._model = model
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(TIMEOUT_S)
        )

    async def stream(self, ask: Ask) -> AsyncGenerator[int, None]:
        """As `StreamClient`; each event is parsed as a client must to have its text."""
        body = {
            "model": self._model, "prompt": ask.token_ids, "max_tokens": ask.answer_tokens, "ignore_eos": True,
            "temperature": 0.8, "stream": True, "return_token_ids": True,
        }  # fmt: skip
        async with self._session.post(self._url, json=body) as response:
            if response.status != 200:
                raise Unanswered(f"HTTP {response.status}: {(await response.text())[:300]}")
            async for line in response.content:
                if line.startswith(b"data: {"):
                    piece = json.loads(line[6:])
                    if "error" in piece:
                        raise Unanswered(str(piece["error"])[:300])
                    for choice in piece["choices"]:
                        yield len(choice["token_ids"])

    async def close(self) -> None:
        """As `StreamClient`."""
        await self._session.close()


class SuiteClient:
    """(c) fairlead's own asyncio client."""

    def __init__(self, address: str, key: str, service_class: str) -> None:
        from fairlead.client import AsyncClient, Retry  # noqa: PLC0415

        self._client = AsyncClient(address, key, retry=Retry(attempts=1))
        self._class: Any = service_class

    async def stream(self, ask: Ask) -> AsyncGenerator[int, None]:
        """As `StreamClient`."""
        from fairlead.client import Delta, FairleadError, Finished  # noqa: PLC0415

        try:
            async with AsyncExitStack() as stack:
                events = self._client.generate(
                    ask.token_ids, service_class=self._class, max_tokens=ask.answer_tokens, ignore_eos=True,
                    temperature=0.8, timeout_s=TIMEOUT_S,
                )  # fmt: skip
                stack.push_async_callback(events.aclose)
                async for event in events:
                    if isinstance(event, Delta):
                        yield event.token_count
                    elif isinstance(event, Finished) and not event.outcome.complete:
                        raise Unanswered(f"{event.outcome}: {event.detail}")
        except FairleadError as error:
            raise Unanswered(str(error)) from error

    async def close(self) -> None:
        """As `StreamClient`."""
        await self._client.close()
