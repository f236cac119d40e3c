"""What a line of a job may hold: our own short form, or the one of OpenAI's batch files.

{"custom_id": "a", "prompt": "Say hello.", "max_tokens": 20}
{"custom_id": "b", "messages": [{"role": "user", "content": "Say hello."}], "temperature": 0}
{"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [...]}}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from fairlead.v1 import inference_pb2, types_pb2

MAX_CUSTOM_ID_CHARS = 512
_SAMPLING = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "seed", "ignore_eos",
)  # fmt: skip

Uint32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
CustomId = Annotated[str, Field(max_length=MAX_CUSTOM_ID_CHARS, pattern=r"^[^\x00-\x1f\x7f]*$")]


class BadLine(ValueError):
    """A line that can't be used.

    Attributes:
        path: the field, with dots; "" where the whole line is at fault.
        what: what is wrong with it.
    """

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}" if path else what)
        self.path = path
        self.what = what


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _TextPart(_Strict):
    type: Literal["text"]
    text: str


class _Message(_Strict):
    role: str
    content: str | list[_TextPart]

    def plain(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _Asked(_Strict):
    """What both forms have: a prompt, a model, sampling."""

    model: Annotated[str, Field(min_length=1)] | None = None
    prompt: str | list[Uint32] | None = None
    messages: list[_Message] | None = None
    max_tokens: Uint32 | None = None
    min_tokens: Uint32 | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**32 - 1)] | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: Annotated[int, Field(ge=0, le=2**64 - 1)] | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[Uint32] | None = None

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt (text or token ids) or messages")
        return self

    def request(self) -> inference_pb2.GenerateRequest:
        """As the contract has it."""
        made = inference_pb2.GenerateRequest(service_class=types_pb2.SERVICE_CLASS_BEST_EFFORT)
        if self.model is not None:
            made.model = self.model
        if self.messages is not None:
            turns = (types_pb2.ChatMessage(role=one.role, content=one.plain()) for one in self.messages)
            made.messages.messages.extend(turns)
        elif isinstance(self.prompt, str):
            made.text = self.prompt
        else:
            made.token_ids.ids.extend(self.prompt or ())
        for name in _SAMPLING:
            value = getattr(self, name)
            if value is not None:
                setattr(made.sampling, name, value)
        if self.top_k == -1:  # vLLM's way to say: all
            made.sampling.top_k = 0
        made.sampling.stop.extend([self.stop] if isinstance(self.stop, str) else self.stop or ())
        made.sampling.stop_token_ids.extend(self.stop_token_ids or ())
        return made


class _Short(_Asked):
    custom_id: CustomId = ""


class _Body(_Asked):
    """Of an OpenAI batch line; what would change the answer and is not served is refused, not dropped."""

    n: Literal[1] | None = None
    stream: Literal[False] | None = None
    logprobs: Literal[False] | None = None
    max_completion_tokens: Uint32 | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_completion_tokens is not None:
            if self.max_tokens is not None:
                raise ValueError("give max_tokens or max_completion_tokens, not both")
            self.max_tokens = self.max_completion_tokens
        return self


class _Batch(_Strict):
    custom_id: CustomId
    method: Literal["POST"]
    url: Literal["/v1/chat/completions", "/v1/completions"]
    body: _Body

    @model_validator(mode="after")
    def _matches(self) -> Self:
        wanted = "messages" if self.url == "/v1/chat/completions" else "prompt"
        if getattr(self.body, wanted) is None:
            raise ValueError(f"{self.url} takes body.{wanted}")
        return self


def parse_line(line: bytes) -> tuple[str, inference_pb2.GenerateRequest]:
    """The custom_id ("" where there is none) and the request of one line.

    Raises:
        BadLine: it is not JSON, or a field does not fit.
    """
    try:
        told = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise BadLine("", f"is not JSON: {error}") from None
    if not isinstance(told, dict):
        raise BadLine("", 'must be a JSON object, such as {"prompt": "Say hello."}')
    try:
        if "body" in told:
            batch = _Batch.model_validate(told)
            return batch.custom_id, batch.body.request()
        short = _Short.model_validate(told)
        return short.custom_id, short.request()
    except ValidationError as error:
        raise next(_problems(error)) from None


def _problems(error: ValidationError) -> Iterator[BadLine]:
    for item in error.errors(include_url=False, include_input=False):
        steps: list[Any] = [step for step in item["loc"] if not _is_branch(step)]
        path = ".".join(map(str, steps))
        what = {
            "extra_forbidden": "is not supported; leave it out",
            "missing": "is missing",
        }.get(item["type"], item["msg"].removeprefix("Value error, "))
        yield BadLine(path, what)


def _is_branch(step: object) -> bool:
    """pydantic names the branch of a union that it tried, which says nothing to who wrote the line."""
    return isinstance(step, str) and ("[" in step or step in ("str", "constrained-str", "_TextPart"))
