"""A real vLLM engine with a reader that keeps all it says; shared by the tests of one module."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fairlead.config import WorkerConfig
from worker_svc.engines.base import ChangeKind, EngineEnd, EngineFailed, EngineInfo, EngineRequest, Sampling
from worker_svc.engines.vllm_engine import VllmEngine


@dataclass
class Seen:
    """What the engine has said of one sequence; `first_step` is the step that made its first token."""

    tokens: list[int] = field(default_factory=list[int])
    text: str = ""
    first_step: int | None = None
    first_ms: float | None = None
    end: EngineEnd | None = None


class Harness:
    """Admits, waits, and remembers; every handle is used once."""

    def __init__(self, engine: VllmEngine, info: EngineInfo) -> None:
        self.engine = engine
        self.info = info
        self.seen: dict[int, Seen] = {}
        self.changes: list[tuple[int, ChangeKind]] = []
        self.steps = 0
        self.batches = 0
        self.kv_blocks_used = 0
        self.failure: EngineFailed | None = None
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._handles = 0

    @classmethod
    async def start(cls, **config: Any) -> Harness:
        engine = VllmEngine(WorkerConfig(**config))
        return cls(engine, await engine.start())

    async def stop(self) -> None:
        await self.engine.stop()
        await self._reader

    async def admit(
        self,
        token_ids: list[int],
        sampling: Sampling | None = None,
        *,
        forced_tokens: int = 0,
        latency_sensitive: bool = False,
        ttft_ms: float = 1000.0,
        tpot_ms: float = 50.0,
        rank: int = 0,
        cache_salt: str = "",
    ) -> int:
        handle = self._handles = self._handles + 1
        self.seen[handle] = Seen()
        try:
            await self.engine.admit(
                EngineRequest(
                    handle=handle,
                    token_ids=token_ids,
                    forced_tokens=forced_tokens,
                    sampling=sampling or Sampling(max_tokens=16),
                    latency_sensitive=latency_sensitive,
                    arrival_ms=time.monotonic() * 1e3,
                    ttft_ms=ttft_ms,
                    tpot_ms=tpot_ms,
                    rank=rank,
                    cache_salt=cache_salt,
                )
            )
        except Exception:
            del self.seen[handle]
            raise
        return handle

    async def until(self, condition: Any, timeout_s: float = 180.0) -> None:
        """Waits for what a batch may bring."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                if self.failure is not None:
                    raise self.failure
                self._news.clear()
                await self._news.wait()

    async def ends(self, *handles: int) -> list[Seen]:
        await self.until(lambda: all(self.seen[handle].end is not None for handle in handles))
        return [self.seen[handle] for handle in handles]

    async def generate(self, token_ids: list[int], sampling: Sampling, **options: Any) -> Seen:
        return (await self.ends(await self.admit(token_ids, sampling, **options)))[0]

    async def idle(self) -> dict[str, float]:
        """The scheduler's own account once nothing is held."""
        async with asyncio.timeout(10):
            while True:
                state = await self.engine.inspect()
                if not state["held"]:
                    return state

    def counts(self) -> Counter[ChangeKind]:
        return Counter(kind for _, kind in self.changes)

    async def _read(self) -> None:
        try:
            async for batch in self.engine.batches():
                self.batches += 1
                self.steps = max(self.steps, batch.step_count)
                self.kv_blocks_used = batch.kv_blocks_used
                self.changes += batch.changes
                now_ms = time.monotonic() * 1e3
                for handle, tokens in batch.tokens.items():
                    seen = self.seen[handle]
                    assert seen.end is None, "tokens after the end"
                    if seen.first_step is None:
                        seen.first_step, seen.first_ms = batch.step_count, now_ms
                    seen.tokens += tokens
                for handle, text in batch.texts.items():
                    self.seen[handle].text += text
                for end in batch.ends:
                    assert self.seen[end.handle].end is None, "ended twice"
                    self.seen[end.handle].end = end
                self._news.set()
        except EngineFailed as failure:
            self.failure = failure
            self._news.set()
