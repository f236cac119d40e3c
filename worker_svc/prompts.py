"""Prompts to token ids, with the model's own tokenizer and chat template, beside the streams."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

import grpc

from fairlead.rpc import Refusal, invalid
from fairlead.v1 import worker_pb2
from worker_svc import convert
from worker_svc.engines.base import BadPrompt, Engine, EngineInfo

MAX_TOKENIZING = 256


class Prompts:
    """Tokenizes in one thread: a tokenizer is not made for several, and a long prompt must not hold up the streams."""

    def __init__(self, engine: Engine, info: EngineInfo) -> None:
        self._engine = engine
        self._info = info
        self._tokenizing = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    def close(self) -> None:
        """Takes no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def tokenize(self, request: worker_pb2.TokenizeRequest) -> worker_pb2.TokenizeResponse:
        """Token ids and, for anything but text, the prompt as the model sees it. Raises Refusal."""
        info, engine = self._info, self._engine
        if request.model != info.model:
            raise Refusal(
                grpc.StatusCode.NOT_FOUND,
                f"model: {request.model!r} is not served here; this worker serves {info.model!r}",
                fields=[("model", f"this worker serves {info.model!r}")],
                reason="UNKNOWN_MODEL",
            )
        if self._tokenizing >= MAX_TOKENIZING:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too many prompts are being tokenized",
                retry_after_ms=100,
                reason="TOKENIZER_BUSY",
            )
        self._tokenizing += 1
        try:
            work = functools.partial(_tokenize, engine, request, info.max_context_tokens)
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._tokenizing -= 1


def _tokenize(engine: Engine, request: worker_pb2.TokenizeRequest, context_tokens: int) -> worker_pb2.TokenizeResponse:
    """Runs in the tokenizer's thread. Raises Refusal."""
    kind = request.WhichOneof("input")
    field = kind or "input"
    rendered = ""
    try:
        match kind:
            case "text":
                token_ids = engine.tokenize(request.text)
            case "messages":
                rendered = engine.render(convert.roles(request.messages.messages))
                token_ids = engine.tokenize_rendered(rendered)
            case "token_ids":
                token_ids = list(request.token_ids.ids)
                if len(token_ids) < context_tokens:
                    rendered = engine.detokenize(token_ids)
            case _:
                raise invalid("input", "give text, messages or token_ids")
    except BadPrompt as error:
        raise invalid(field, str(error)) from None
    except (OverflowError, IndexError, KeyError):
        raise invalid(field, "holds a token id outside the model's vocabulary") from None
    if not token_ids:
        raise invalid(field, "the prompt is empty")
    if len(token_ids) >= context_tokens:
        raise invalid(field, convert.too_long(len(token_ids), context_tokens))
    return worker_pb2.TokenizeResponse(token_ids=token_ids, rendered_text=rendered)
